"""The pages of docs/ hold: Python blocks run in order in a fresh folder, configs build, commands parse."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from medtransfer.cli.main import COMMANDS
from medtransfer.cli.parser import Parser
from medtransfer.training.check import check_options
from medtransfer.training.config import find_config, parse_options
from medtransfer.training.preview import preview

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(page for page in (ROOT / "docs").glob("*.md") if page.name not in ("distributed.md", "robustness.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks; of a config the language is ``config``."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [("config" if text.startswith("_base_") else language, text) for language, text in found]


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def page(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    namespace: dict[str, Any] = {}
    code = [text for language, text in blocks(page) if language == "python"]
    with contextlib.redirect_stdout(io.StringIO()):
        for number, text in enumerate(code, 1):
            exec(compile(text, f"{page.name}, Python block {number}", "exec"), namespace)


def test_configs_are_right_and_build(page: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    for number, text in enumerate(text for language, text in blocks(page) if language == "config"):
        path = tmp_path / "configs" / f"mine_{number}.py"
        path.write_text(text)
        shown = preview(path, {"model.network.base_channels": 4, "model.network.stem_channels": 4})
        assert shown.finetune is not None or page.name != "fine_tuning.md"


def test_commands_have_these_options_and_configs(page: Path) -> None:
    commands = [line for language, text in blocks(page) if not language for line in text.splitlines()]
    for line in commands:
        program, name, *arguments = shlex.split(line)
        assert program == "medtransfer"
        assert name in COMMANDS
        module = import_module(f"medtransfer.cli.{name}")
        parser = Parser(name, name, name)
        module.add_arguments(parser)
        options = parser.parse(arguments)
        check_options(parse_options(getattr(options, "cfg_options", None)))
        if config := getattr(options, "config", None) or getattr(options, "trainable", None):
            find_config(config)


def test_pages_hold_something_to_run(page: Path) -> None:
    assert any(language in ("", "python", "config") for language, _ in blocks(page))


def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert all((page.parent / link).exists() for link in links)
