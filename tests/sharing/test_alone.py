"""Only this room reaches a network, and nothing imports it but its own commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "medtransfer"


def test_the_library_is_named_in_one_file() -> None:
    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")
             if "huggingface_hub" in path.read_text(encoding="utf-8")}  # fmt: skip
    assert found == {"sharing/hub.py"}


def test_the_room_is_entered_by_two_commands() -> None:
    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")
             if "sharing." in path.read_text(encoding="utf-8") and "sharing" not in path.parts}  # fmt: skip
    assert found == {"cli/push.py", "cli/pull.py", "__init__.py"}


def test_its_commands_start_without_what_they_may_need() -> None:
    code = "import sys\n"
    code += "from medtransfer.cli import push, pull\n"
    code += "sys.exit(bool({'torch', 'huggingface_hub'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
