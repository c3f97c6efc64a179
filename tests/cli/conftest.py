"""Fake commands, so that the frame is tested without the rooms behind it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from medtransfer.cli import main


@pytest.fixture
def command(monkeypatch) -> Callable:
    """Make ``medtransfer fake`` run a function of (options, results)."""

    def install(function: Callable) -> None:
        module = ModuleType("medtransfer.cli.fake")
        module.USAGE = "[FILE] [--json]"
        module.run = function
        module.add_arguments = _add_arguments
        monkeypatch.setitem(sys.modules, "medtransfer.cli.fake", module)
        monkeypatch.setitem(main.COMMANDS, "fake", "a fake")

    return install


def _add_arguments(parser) -> None:
    parser.add_argument("file", nargs="?")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--number", type=int)


@pytest.fixture
def python() -> Callable[..., subprocess.CompletedProcess]:
    """Run Python code or a module in a new process."""

    def start(*arguments: str, **options) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, **options)

    return start
