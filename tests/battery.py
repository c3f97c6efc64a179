"""The battery of bad inputs and faults as a table: which rows have tests, which pass, and what each test shows.

``python -m tests.battery`` runs every test that is named by a row (``test_i05_...``), slow ones too, and writes
``docs/robustness.md``. A row is a kind of bad input: C checkpoint and model files, G configs, I images, L labels,
D datasets, A the command line, E faults of the machine.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from medtransfer.files import atomic_file

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "robustness.md"
GROUPS = {
    "C": (46, "Checkpoint and model files"),
    "G": (20, "Configs"),
    "I": (36, "Images"),
    "L": (13, "Labels"),
    "D": (15, "Datasets"),
    "A": (14, "The command line"),
    "E": (22, "Faults of the machine"),
}
_NAME = re.compile(r"test_(?P<rows>(?:[a-z]\d\d_)+)(?P<words>\w+)")


def rows_of(name: str) -> tuple[list[str], str]:
    """The rows that a test's name holds, and the rest of it in words.

    >>> rows_of("test_a03_a05_outputs_are_checked[x]")
    (['A03', 'A05'], 'outputs are checked')
    """
    found = _NAME.match(name)
    if not found:
        return [], ""
    rows = found["rows"].upper().rstrip("_").split("_")
    words = re.sub(r"^to_[a-z]\d\d_", "", found["words"])
    return [row for row in rows if row in all_rows()], words.replace("_", " ").strip()


def all_rows() -> list[str]:
    """Every row of the battery, in order."""
    return [f"{group}{number:02d}" for group, (count, _) in GROUPS.items() for number in range(1, count + 1)]


def rows_with_tests() -> set[str]:
    """The rows that the names of the tests hold, without running them."""
    return {row for name in _test_names() for row in rows_of(name)[0]}


def _test_names() -> Iterator[str]:
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield node.name


class Recorder:
    """A pytest plugin that keeps how each test ended."""

    def __init__(self) -> None:
        self.outcomes: dict[str, set[str]] = defaultdict(set)
        self.reasons: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the outcome of a test; of its set-up and tear-down only what is not a pass."""
        if report.when != "call" and report.passed:
            return
        name = report.nodeid.partition("[")[0]
        self.outcomes[name].add(report.outcome)
        if report.skipped and isinstance(report.longrepr, tuple):
            self.reasons[name] = report.longrepr[2].removeprefix("Skipped: ")


def table(recorder: Recorder) -> str:
    """The page: a section a group, a line a row."""
    by_row: dict[str, list[str]] = defaultdict(list)
    for name in recorder.outcomes:
        for row in rows_of(name.rpartition("::")[2])[0]:
            by_row[row].append(name)
    verdicts = {row: _verdict(by_row[row], recorder) for row in all_rows()}
    passed = sum(verdict == "passes" for verdict in verdicts.values())
    lines = [
        "# Bad input and faults",
        "",
        "What is done about bad files, wrong options and failing machines. Each row is a kind of them, and each has",
        "tests that carry its name (`test_i05_...`). Made by `python -m tests.battery`, which runs them all.",
        "",
        f"{passed} of {len(verdicts)} rows pass.",
    ]
    for group, (_, title) in GROUPS.items():
        lines += ["", f"## {title}", "", "| row | | what the tests show |", "| --- | --- | --- |"]
        lines += [f"| {row} | {verdicts[row]} | {_words(by_row[row])} |" for row in all_rows() if row.startswith(group)]
    return "\n".join(lines) + "\n"


def _verdict(names: Sequence[str], recorder: Recorder) -> str:
    outcomes = set().union(*(recorder.outcomes[name] for name in names)) if names else set()
    if not outcomes:
        return "**no test**"
    if "failed" in outcomes:
        return "**fails**"
    reasons = {recorder.reasons[name] for name in names if name in recorder.reasons}
    return "passes" if "passed" in outcomes else f"not run: {', '.join(sorted(reasons))}"


def _words(names: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(rows_of(name.rpartition("::")[2])[1] for name in names))


def main(arguments: Sequence[str]) -> int:
    """Run the tests of the battery and write the page; further arguments are pytest's."""
    recorder = Recorder()
    chosen = " or ".join(f"_{row.lower()}_" for row in all_rows())
    code = pytest.main(["-q", "--no-header", "-m", "slow or not slow", "-k", chosen, *arguments], plugins=[recorder])
    with atomic_file(PAGE, overwrite=True) as part:
        part.write_text(table(recorder), encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
