"""All that a check found, as data and as a summary for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..reporting.words import counted, listed
from .facts import CaseFacts, Problem
from .summary import paragraphs, ranges, verdict


@dataclass(frozen=True)
class Checkup:
    """All that a check found; ``str()`` of it is a summary for people.

    >>> problems = tuple(Problem("warning", "label-empty", "the label is empty", name) for name in "ab")
    >>> print(Checkup(Path("liver"), "segmentation", ("CT",), ("background", "liver"), (), problems))
    liver: segmentation, 0 cases, channel CT, classes background, liver
    <BLANKLINE>
    warning: Labels without any class (label-empty)
      a, b: the label is empty
      -> Fine where nothing is to be found; else the label is missing.
    <BLANKLINE>
    0 errors, 2 warnings

    Attributes:
        data: What was checked.
        task: ``segmentation``, ``classification``, ``restoration``, ``detection``, ``multitask``; empty where no
            layout could be read.
        channels: Their names, in order.
        classes: Names of the classes, background first where there is one; of several targets their names.
        cases: What was measured of each case.
        problems: All of them, errors first, in the order of `medtransfer.checking.rules.RULES`.
        notes: What is worth knowing and no problem.
        seconds: How long it took.
        report: The page that was written, if one was.
    """

    data: Path
    task: str = ""
    channels: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    cases: tuple[CaseFacts, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    report: Path | None = None

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Problems that would stop a training or spoil it."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Problems that should be looked at."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {
            "data": str(self.data),
            "ok": self.ok,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "task": self.task,
            "channels": list(self.channels),
            "classes": list(self.classes),
            "problems": [{**asdict(one), "file": one.file and str(one.file)} for one in self.problems],
            "notes": list(self.notes),
            "cases": [facts.to_dict() for facts in self.cases],
            "seconds": round(self.seconds, 3),
            "report": self.report and str(self.report),
        }

    def __str__(self) -> str:
        notes = "\n".join(f"note: {note}" for note in self.notes)
        parts = [self._head(), *paragraphs(self.problems), notes, verdict(self.problems)]
        return "\n\n".join(part for part in parts if part)

    def _head(self) -> str:
        if not self.task:
            return f"{self.data}: no dataset could be read"
        channels = f"channel{'s' * (len(self.channels) > 1)} {', '.join(self.channels)}"
        head = f"{self.data}: {self.task}, {counted(len(self.cases), 'case')}, {channels}"
        if self.task != "restoration":
            head += f", {'targets' if self.task == 'multitask' else 'classes'} {listed(self.classes, 12)}"
        return "\n".join([head, *ranges(self.cases)])
