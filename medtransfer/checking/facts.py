"""What is found of single cases: the facts that were measured, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..volumes.grid import Grid
from .measure import Intensities
from .rules import RULES

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
        boxes: By class name, background aside, the sizes in mm of the listed boxes. None: none are listed.
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
    boxes: Mapping[str, tuple[tuple[float, ...], ...]] | None = None
    label_hash: str | None = None
    bytes: int = 0

    @property
    def patient_or_case(self) -> str:
        """The patient, or the case itself where no patient is known."""
        return self.patient or self.case

    def to_dict(self) -> dict[str, Any]:
        """As plain data; files as they are named in the dataset."""
        grid = self.grid
        boxes = {} if self.boxes is None else {"boxes_mm": {name: list(each) for name, each in self.boxes.items()}}
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
            **boxes,
        }


def in_order(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """Errors first, then by rule; within a rule in the order of the cases.

    >>> [problem.rule for problem in in_order([Problem("warning", "scan", ""), Problem("error", "leak", "")])]
    ['leak', 'scan']
    """
    places = {word: place for place, word in enumerate(RULES)}
    return tuple(sorted(problems, key=lambda problem: (problem.severity != "error", places[problem.rule])))
