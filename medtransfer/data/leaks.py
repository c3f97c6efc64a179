"""The same file twice under different names: a scan that trains and validates, a label that is its own scan."""

from __future__ import annotations

import filecmp
import hashlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..checkpoint.source import file_sha256
from ..errors import DatasetError
from .cases import Case, Layout, refuse, strip_suffixes

PROBE = 1 << 16  # bytes from the middle of a file that tell most files apart
_HEADERS = (".hdr", ".mhd", ".nhdr")
_Named = tuple[str, Path]


def refuse_unfit(layout: Layout, train: Sequence[Case], val: Sequence[Case]) -> None:
    """Refuse what would make training senseless, or its scores too good.

    Raises:
        DatasetError: labels hold voxels to ignore, or a scan is on both sides.
    """
    if layout.ignore is not None:
        hint = "Give these voxels a class, or leave out the cases that have them"
        reason = f"has the label 'ignore' ({layout.ignore}), but losses count every voxel"
        raise DatasetError(reason, path=layout.path, hint=hint)
    refuse(find_leaks(train, val), layout.path, hint="Leave one of them out, or give both the same patient")


def shared_scans(cases: Iterable[Case]) -> list[tuple[str, ...]]:
    """Groups of cases that have a file of scans in common, or files with the same bytes.

    Files are compared by their size, then by a piece from their middle, and only then as a whole, so that little is
    read. Folders (series of DICOM files) are not compared.

    Returns:
        The cases' ids, sorted, of each group of two or more.
    """
    files = [(case.id, file) for case in cases for path in case.images if (file := _voxels(path))]
    groups = [files]
    for key in (_size, _probe, file_sha256):
        groups = [part for group in groups for part in _divided(group, key)]
    return sorted({tuple(sorted({name for name, _ in group})) for group in groups if len({n for n, _ in group}) > 1})


def find_leaks(train: Sequence[Case], val: Sequence[Case]) -> list[str]:
    """What stands on both sides of a split: patients, and scans with the same bytes. Each is one sentence."""
    patients = {case.patient_or_id for case in train} & {case.patient_or_id for case in val}
    sides = {case.id: "training" for case in train} | {case.id: "validation" for case in val}
    names = {case.id: case.patient_or_id for case in (*train, *val)}
    leaks = [f"patient {name!r} is in training and in validation" for name in sorted(patients)]
    for group in shared_scans([*train, *val]):
        if len({sides[name] for name in group}) > 1 and not {names[name] for name in group} <= patients:
            listed = ", ".join(f"{name!r} ({sides[name]})" for name in group)
            leaks.append(f"the same scan is in training and in validation: {listed}")
    return leaks


def copied_labels(cases: Iterable[Case]) -> list[str]:
    """Cases whose label file is one of their scans, or a copy of it. Each is one sentence."""
    return [
        f"case {case.id!r}: the label {mask.name} is a copy of the scan {image.name}"
        for case in cases
        for mask in case.masks
        if mask.is_file()
        for image in case.images
        if image.is_file() and image.stat().st_size and filecmp.cmp(image, mask, shallow=False)
    ]


def _voxels(path: Path) -> Path | None:
    """The file with a scan's voxels: of a header with a file beside it, that one; None where there is none."""
    if path.suffix.lower() not in _HEADERS:
        return path if path.is_file() and path.stat().st_size else None
    stem = strip_suffixes(path.name)
    beside = (file for file in path.parent.glob(f"{stem}.*") if file != path and file.is_file())
    return max(beside, key=lambda file: file.stat().st_size, default=None)


def _divided(files: Iterable[_Named], key: Callable[[Path], Hashable]) -> list[list[_Named]]:
    """Parts of two or more files of equal keys."""
    parts: dict[Any, list[_Named]] = {}
    for name, file in files:
        parts.setdefault(key(file), []).append((name, file))
    return [part for part in parts.values() if len(part) > 1]


def _size(path: Path) -> int:
    return path.stat().st_size


def _probe(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, (path.stat().st_size - PROBE) // 2))
        return hashlib.sha256(file.read(PROBE)).digest()
