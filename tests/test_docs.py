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
DOCS = ROOT / "docs"
WRITTEN = sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)
#: shells of other programs, and a page that is made; the how-tos have a runner of their own
NOT_RUN = {"distributed.md", "robustness.md"}
PAGES = [page for page in WRITTEN if page.name not in NOT_RUN and page.parent.name != "how_to"]
#: folders of pages that show how something is done
GUIDES = {"docs", "concepts", "migration"}
#: pages of words and links
NO_GUIDES = {"index.md", "readme.md", "examples.md", "changelog.md", "contributing.md"}
SHELLS = ("console", "bash", "sh")
BLOCK = re.compile(r"^```([\w{}-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks; of a config the language is ``config``."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [("config" if text.startswith("_base_") else language, text) for language, text in found]


def commands(page: Path) -> list[str]:
    """Blocks without a language hold commands of this program and nothing else; those of a shell may hold others."""
    lines = [line for language, text in blocks(page) if not language for line in text.splitlines()]
    shells = "\n".join(text for language, text in blocks(page) if language in SHELLS).replace("\\\n", " ")
    return lines + [line for line in shells.splitlines() if line.startswith("medtransfer ")]


@pytest.fixture(params=PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
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
        # nnU-Net's networks say their channels stage by stage
        widths = () if "plain_unet" in text else ("base_channels", "stem_channels")
        shown = preview(path, {f"model.network.{width}": 4 for width in widths})
        assert shown.finetune is not None or page.name != "fine_tuning.md"


def test_commands_have_these_options_and_configs(page: Path) -> None:
    for line in commands(page):
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


def test_guides_hold_something_to_run() -> None:
    guides = [page for page in PAGES if page.parent.name in GUIDES and page.name not in NO_GUIDES]
    empty = [page for page in guides if not {"", "python", "config"} & {language for language, _ in blocks(page)}]
    assert empty == []


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link.partition("#")[0]).exists()] == []


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_a_page_has_one_title(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    shown = re.fullmatch(r"<!-- file: (\S+) -->\n", text)
    titles = re.findall(r"^# ", (ROOT / shown[1]).read_text(encoding="utf-8") if shown else text, re.MULTILINE)
    assert len(titles) == 1
