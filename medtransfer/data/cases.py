"""A case (one scan and what is known about it) and a layout (all cases of a dataset, its channels and classes)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import DatasetError

SHOWN = 8  # problems quoted in one error line; the rest is counted


@dataclass(frozen=True)
class Case:
    """One scan: a 4-D file or one file per channel, its label (a volume or a class number) and its patient.

    >>> Case("a", (Path("a.nii.gz"),), 1).patient_or_id
    'a'
    """

    id: str
    images: tuple[Path, ...]
    label: Path | int | None = None
    patient: str | None = None
    part: str | None = None

    @property
    def patient_or_id(self) -> str:
        """The patient, or the case itself where no patient is known."""
        return self.patient or self.id

    @property
    def source(self) -> Path | list[Path]:
        """What is read: the one file, or one per channel."""
        return self.images[0] if len(self.images) == 1 else list(self.images)


@dataclass(frozen=True)
class Layout:
    """All cases of a dataset, with the names of its channels and classes in order.

    Cases to restore have no labels; their classes are the channels that come out again.
    """

    path: Path
    task: Literal["segmentation", "classification", "restoration"]
    cases: tuple[Case, ...]
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    warnings: tuple[str, ...] = field(default=())


def refuse(problems: Sequence[str], path: Path, hint: str | None = None) -> None:
    """Raise one error that quotes the problems, if there are any.

    Raises:
        DatasetError: ``problems`` is not empty.
    """
    if problems:
        rest = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DatasetError("; ".join(problems[:SHOWN]) + rest, path=path, hint=hint)


def duplicate_ids(ids: Iterable[str]) -> list[str]:
    """Ids that occur twice, also when only their case differs (such files overwrite each other on some systems).

    >>> duplicate_ids(["a", "B", "b"])
    ['b']
    """
    return [name for name, count in Counter(name.lower() for name in ids).items() if count > 1]


def strip_suffixes(name: str) -> str:
    """File name without the suffixes of a volume.

    >>> strip_suffixes("scan.1.nii.gz")
    'scan.1'
    """
    for suffix in (".nii.gz", ".nii", ".hdr", ".img"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name
