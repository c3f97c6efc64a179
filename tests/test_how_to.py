"""The how-tos work as written: each page is run from top to bottom, in a fresh folder beside configs/ and examples/.

How a page says what to run, and what comes of it:

- a ``bash`` block runs with ``bash -e``; folder and variables stay for the blocks after it. Commands of one line stand
  in ``console`` blocks behind ``$``; these may fail, which shows what an error looks like;
- a ``text`` block right behind a ``bash`` or ``python`` block is what that prints, and what stands in a ``console``
  block without ``$`` is what the command above prints, standard error included: by doctest's rules, ``...`` stands for
  anything and blanks are blanks;
- a ``python`` block runs in the page's one interpreter;
- a ``python`` block that begins with ``_base_``, and a ``bash`` block that begins with ``#!``, is a file: the last name
  `` `NAME`: `` before it is its name;
- any other block is for reading.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.warm_commands import ROOT, warm_commands

PAGES = sorted((ROOT / "docs" / "how_to").glob("*.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`([\w.-]+)`[^`\n]*:\s*\Z")
RULES = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
TIMEOUT = 180


@dataclass(frozen=True)
class Step:
    """One thing that a reader does: a block, or a command with its output.

    Attributes:
        kind: ``bash``, ``console``, ``python`` or ``file``.
        text: What is run or written.
        shown: What the page says that it prints; None: nothing is said.
        name: Of a file.
        line: Where it stands in the page, from 1.
    """

    kind: str
    text: str
    line: int
    shown: str | None = None
    name: str = ""


def steps_of(page: str) -> list[Step]:
    """What a page lets its reader do, in order."""
    steps: list[Step] = []
    last_end = -1
    for fence in FENCE.finditer(page):
        language, text, line = fence[1], fence[2], page.count("\n", 0, fence.start()) + 1
        if language == "text" and steps and not page[last_end : fence.start()].strip():
            steps[-1] = Step(**{**vars(steps[-1]), "shown": text})
        elif language == "console":
            steps += _commands(text, line)
        elif language in ("bash", "python"):
            steps.append(_block(language, text, line, page[: fence.start()]))
        last_end = fence.end() if language in ("bash", "python") else -1
    return steps


def _commands(text: str, line: int) -> Iterator[Step]:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield Step("console", command, line, shown)


def _block(language: str, text: str, line: int, before: str) -> Step:
    if not text.startswith(("_base_", "#!")):
        return Step(language, text, line)
    name = FILE.search(before)
    assert name is not None, f"line {line}: the text before a file must end with its name and a colon"
    return Step("file", text, line, name=name[1])


@dataclass
class Reader:
    """Somebody who does what a page says.

    Attributes:
        folder: Where the reader is; ``cd`` changes it.
        variables: The shell's.
        names: The interpreter's.
    """

    folder: Path
    variables: dict[str, str]
    names: dict[str, Any] = field(default_factory=dict)

    def follow(self, page: str) -> None:
        """Do all steps.

        Raises:
            AssertionError, Failed: a command failed; something else was printed than the page shows.
        """
        for step in steps_of(page):
            printed = getattr(self, step.kind)(step)
            told = step.shown is None or doctest.OutputChecker().check_output(step.shown, printed, RULES)
            if not told:
                pytest.fail(f"line {step.line}: {step.text}\nshown:\n{step.shown}\nprinted:\n{printed}", pytrace=False)

    def file(self, step: Step) -> str:
        (self.folder / step.name).write_text(step.text)
        return ""

    def python(self, step: Step) -> str:
        printed = io.StringIO()
        with _inside(self.folder), contextlib.redirect_stdout(printed):
            exec(compile(step.text, f"line {step.line}", "exec"), self.names)
        return printed.getvalue()

    def bash(self, step: Step) -> str:
        code, printed = self._shell("set -ea", step.text)
        assert code == 0, f"line {step.line}: exit code {code}: {step.text}\n{printed}"
        return printed

    def console(self, step: Step) -> str:
        return self._shell("set -a", step.text)[1]

    def _shell(self, options: str, text: str) -> tuple[int, str]:
        state = self.folder.parent / "state"
        script = f"{options}\ntrap 'code=$?; set +e; {{ pwd; env -0; }} > {state}; exit $code' EXIT\n{text}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=self.variables, text=True, timeout=TIMEOUT, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        folder, _, variables = state.read_text().partition("\n")
        self.folder = Path(folder)
        self.variables = dict(pair.split("=", 1) for pair in variables.split("\0") if "=" in pair)
        return done.returncode, done.stdout


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with warm_commands(tmp_path_factory.mktemp("bin")) as folder:
        yield folder


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What of a clone the pages use."""
    (tmp_path / "clone").mkdir()
    for name in ("configs", "examples"):
        (tmp_path / "clone" / name).symlink_to(ROOT / name)
    return tmp_path / "clone"


def reader(clone: Path, front_of_path: Path) -> Reader:
    torch.manual_seed(0)
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    path = f"{front_of_path}:{os.environ['PATH']}"
    return Reader(clone, {**kept, "PATH": path, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_works_as_written(page: Path, clone: Path, commands: Path) -> None:
    reader(clone, commands).follow(page.read_text(encoding="utf-8"))


#: what a page could have wrong -> what the test says of it
WRONG = {
    "```bash\ntrue\nfalse\ntrue\n```\n": "exit code 1",
    "```bash\necho one\n```\n\n```text\ntwo\n```\n": "printed:\none",
    "```console\n$ ls nothing\nsomething\n```\n": "No such file",
    "```bash\na=1\nmkdir b\ncd b\n```\n```python\nfrom pathlib import Path\nprint(Path.cwd().name)\n```\n"
    "```text\nb\n```\n```console\n$ echo $a\n2\n```\n": "printed:\n1",
    "```python\nassert False, 'no'\n```\n": "no",
    "A file without a name:\n\n```python\n_base_ = 'x'\n```\n": "must end with its name",
    "Save `a.sh`:\n\n```bash\n#!/bin/bash\nexit 7\n```\n```bash\nbash a.sh\n```\n": "exit code 7",
}


@pytest.mark.parametrize("page", WRONG, ids=range(len(WRONG)))
def test_wrong_pages_are_seen(page: str, clone: Path) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception), match=re.escape(WRONG[page])):
        reader(clone, Path(sys.executable).parent).follow(page)


def test_pages_show_what_can_go_wrong() -> None:
    assert len(PAGES) == 5
    for page in PAGES:
        steps = steps_of(page.read_text(encoding="utf-8"))
        assert any(step.kind == "console" and "medtransfer: error:" in (step.shown or "") for step in steps), page
        assert sum(step.shown is not None for step in steps) > len(steps) / 3, page


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
        assert all((page.parent / link).exists() for link in links), page


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_works_with_the_installed_commands(page: Path, clone: Path) -> None:
    reader(clone, Path(sys.executable).parent).follow(page.read_text(encoding="utf-8"))
