"""A case (one scan and what is known about it) and a layout (all cases of a dataset, its channels and classes)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ..errors import DatasetError

SHOWN = 8  # problems quoted in one error line; the rest is counted
Task = Literal["segmentation", "classification", "restoration", "detection", "multitask"]
#: how the names of volumes end, the longer ones first
SUFFIXES = (".nii.gz", ".hdr.gz", ".img.gz", ".nii", ".hdr", ".img", ".nrrd", ".nhdr", ".mha", ".mhd")


@dataclass(frozen=True)
class ListedBoxes:
    """The boxes of one case, as a listing has them.

    Attributes:
        corners: Lower corner, then upper corner of each box.
        labels: Their class numbers, 1 or more.
        space: ``world``: millimetres RAS+, sides along the axes of the world; ``voxel``: see `medtransfer.volumes`.
    """

    corners: tuple[tuple[float, ...], ...] = ()
    labels: tuple[int, ...] = ()
    space: Literal["world", "voxel"] = "world"


Label: TypeAlias = "Path | int | ListedBoxes | None"


@dataclass(frozen=True)
class Case:
    """One scan: a 4-D file or one file per channel, its label (a volume, a class number, boxes) and its patient.

    >>> Case("a", (Path("a.nii.gz"),), 1).patient_or_id
    'a'
    """

    id: str
    images: tuple[Path, ...]
    label: Label = None
    patient: str | None = None
    part: str | None = None

    @property
    def patient_or_id(self) -> str:
        """The patient, or the case itself where no patient is known."""
        return self.patient or self.id

    @property
    def masks(self) -> tuple[Path, ...]:
        """The label files."""
        return (self.label,) if isinstance(self.label, Path) else ()

    @property
    def source(self) -> Path | list[Path]:
        """What is read: the one file, or one per channel."""
        return self.images[0] if len(self.images) == 1 else list(self.images)


@dataclass(frozen=True)
class Fold:
    """One division that a dataset states itself: the ids of the cases that train, and of those that validate."""

    train: tuple[str, ...]
    val: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """All cases of a dataset, with the names of its channels and classes in order.

    Cases to restore have no labels; their classes are the channels that come out again.

    Attributes:
        path: The file or folder that says what the dataset is.
        task: What can be learnt from it.
        cases: All cases that can be used.
        channels: Names of a scan's channels.
        classes: Names of the classes; none where only the label files know how many there are.
        warnings: What should be known, but hinders nobody.
        ignore: The number of voxels in label files that belong to no class, if there is one.
        folds: Divisions into training and validation that the dataset states itself.
    """

    path: Path
    task: Task
    cases: tuple[Case, ...]
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    ignore: int | None = None
    folds: tuple[Fold, ...] = ()


@dataclass(frozen=True)
class Found:
    """What was found of a dataset in one pass.

    Attributes:
        path: The file or folder that was looked at.
        kind: The layout: ``decathlon``, ``nnunet``, ``boxes``, ``table``, ``bids``, ``scans``; empty if it is none.
        layout: The cases that can be used; None if there are none.
        problems: Everything that is wrong, each in a sentence without its file.
        warnings: What should be known.
        hint: What to do about the problems.
    """

    path: Path
    kind: str = ""
    layout: Layout | None = None
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    hint: str | None = None

    def checked(self) -> Layout:
        """The layout, if nothing at all is wrong with it.

        Raises:
            DatasetError: there are problems; ``problems`` of the error holds all of them.
        """
        refuse(self.problems, self.path, self.hint)
        if self.layout is None:
            raise DatasetError("holds no case", path=self.path)
        return self.layout


def refuse(problems: Sequence[str], path: Path, hint: str | None = None) -> None:
    """Raise one error that quotes the problems, if there are any.

    Raises:
        DatasetError: ``problems`` is not empty; the error's own ``problems`` holds them singly.
    """
    if not problems:
        return
    rest = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    error = DatasetError("; ".join(problems[:SHOWN]) + rest, path=path, hint=hint)
    error.problems = tuple(problems)
    raise error


def refused(error: DatasetError, path: Path, kind: str = "") -> Found:
    """What was found where nothing can be read at all."""
    return Found(path, kind, None, error.problems or (error.reason,), hint=error.hint)


def unique_cases(cases: Iterable[Case], problems: list[str], verb: str = "is listed") -> tuple[Case, ...]:
    """The first case of each name; the others are added to the problems.

    Names that only differ in upper and lower case count as one: such files overwrite each other on some systems.

    >>> problems = []
    >>> [case.id for case in unique_cases([Case("A", ()), Case("b", ()), Case("a", ())], problems)], problems
    (['A', 'b'], ["the cases 'A' and 'a' differ in upper and lower case only"])
    """
    first: dict[str, Case] = {}
    for case in cases:
        other = first.setdefault(case.id.lower(), case)
        if other is not case:
            twice = f"the case {case.id!r} {verb} twice"
            near = f"the cases {other.id!r} and {case.id!r} differ in upper and lower case only"
            problems.append(twice if other.id == case.id else near)
    return tuple(first.values())


def strip_suffixes(name: str) -> str:
    """File name without the suffixes of a volume.

    >>> strip_suffixes("scan.1.nii.gz")
    'scan.1'
    """
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def is_junk(name: str) -> bool:
    """Whether it is one of the ``._*`` files that macOS leaves beside others."""
    return name.rpartition("/")[2].startswith("._")
