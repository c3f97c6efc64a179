"""What a check found: problems, the facts of every case, and notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..volumes.grid import Grid
from .measure import Intensities
from .rules import RULES
from .summary import summary_text

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a case, or with the dataset where ``case`` is empty.

    Attributes:
        severity: An ``error`` would stop a training or spoil it; a ``warning`` should be looked at.
        rule: A word of `medtransfer.checking.rules.RULES`.
        file: The file that is meant, if one is.
    """

    severity: Severity
    rule: str
    text: str
    case: str = ""
    file: Path | None = None


@dataclass(frozen=True)
class ClassSize:
    """How much of a case is of one class."""

    voxels: int
    ml: float


@dataclass(frozen=True)
class CaseFacts:
    """What was measured of one case; what could not be read stays empty.

    Attributes:
        target: The class of the whole scan, in a classification.
        grid: Of the first channel.
        intensities: By channel name.
        hashes: By channel name, of the voxels' values.
        labels: By class name, background aside; a class that does not occur has 0 voxels. None: no label was read.
        bytes: Of all files of the case together.
    """

    case: str
    images: tuple[Path, ...]
    label: Path | None = None
    target: str | None = None
    patient: str | None = None
    part: str | None = None
    grid: Grid | None = None
    intensities: Mapping[str, Intensities] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, ClassSize] | None = None
    label_hash: str | None = None
    bytes: int = 0

    @property
    def patient_or_case(self) -> str:
        """The patient, or the case itself where no patient is known."""
        return self.patient or self.case

    def to_dict(self) -> dict[str, Any]:
        """As plain data; files as they are named in the dataset."""
        grid = self.grid
        return {
            "case": self.case,
            "patient": self.patient,
            "part": self.part,
            "images": [str(file) for file in self.images],
            "label": None if self.label is None else str(self.label),
            "class": self.target,
            "bytes": self.bytes,
            "shape": grid and list(grid.shape),
            "spacing_mm": grid and [round(size, 6) for size in grid.spacing],
            "orientation": grid and grid.orientation,
            "affine_mm": grid and grid.affine.tolist(),
            "intensities": {name: asdict(measured) for name, measured in self.intensities.items()},
            "hashes": dict(self.hashes),
            "labels": None if self.labels is None else {name: asdict(size) for name, size in self.labels.items()},
            "label_hash": self.label_hash,
        }


@dataclass(frozen=True)
class Checkup:
    """All that a check found; ``str()`` of it is a summary for people.

    Attributes:
        data: What was checked.
        task: ``segmentation``, ``classification``, ``restoration``, or empty where no layout could be read.
        problems: All of them, errors first, in the order of `medtransfer.checking.rules.RULES`.
        notes: What is worth knowing and no problem.
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
        return summary_text(self)


def in_order(problems: list[Problem]) -> tuple[Problem, ...]:
    """Errors first, then by rule; within a rule in the order of the cases.

    >>> [problem.rule for problem in in_order([Problem("warning", "scan", ""), Problem("error", "leak", "")])]
    ['leak', 'scan']
    """
    places = {word: place for place, word in enumerate(RULES)}
    return tuple(sorted(problems, key=lambda problem: (problem.severity != "error", places[problem.rule])))
