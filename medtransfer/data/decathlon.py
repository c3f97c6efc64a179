"""The Medical Segmentation Decathlon layout: ``dataset.json`` with ``imagesTr`` and ``labelsTr``."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TypeVar

import msgspec

from ..errors import DatasetError
from .cases import Case, Layout, duplicate_ids, refuse, strip_suffixes

_File = TypeVar("_File", bound=msgspec.Struct)


class Entry(msgspec.Struct):
    """One labelled case of ``dataset.json``."""

    image: str
    label: str


class ScanEntry(msgspec.Struct):
    """One scan, whatever else is said about it."""

    image: str


class DecathlonScans(msgspec.Struct):
    """The keys of ``dataset.json`` that list scans, with and without labels."""

    modality: dict[str, str]
    training: list[ScanEntry] = []
    test: list[str | ScanEntry] = []


class DecathlonFile(msgspec.Struct):
    """The keys of ``dataset.json`` that are used; the others are left alone."""

    modality: dict[str, str]
    labels: dict[str, str]
    training: list[Entry]
    num_training: int | None = msgspec.field(name="numTraining", default=None)


def read_decathlon(root: str | Path) -> Layout:
    """Read a Decathlon folder.

    macOS ``._*`` files are ignored; images that stand beside the listed ones without being listed are a warning.

    Args:
        root: The folder that holds ``dataset.json``, or the file itself.

    Raises:
        DatasetError: the file is missing, broken or contradicts itself, names paths outside its folder, or lists files
            that do not exist. All problems are named at once.
    """
    path = Path(root)
    path = path if path.suffix == ".json" else path / "dataset.json"
    listing = _decode(path, DecathlonFile)
    if not listing.training:
        raise DatasetError("lists no training case", path=path)
    entries = [entry for entry in listing.training if not _is_junk(entry.image)]
    problems = _count_problem(listing) + [problem for entry in entries for problem in _problems(entry, path.parent)]
    problems += [f"the case {name!r} is listed twice" for name in duplicate_ids(_id(entry) for entry in entries)]
    refuse(problems, path, hint="Correct the file, or fetch the missing scans")
    cases = tuple(
        Case(_id(entry), (_inside(path.parent, entry.image),), _inside(path.parent, entry.label)) for entry in entries
    )
    names = (_ordered(listing.modality, "modality", path), _ordered(listing.labels, "labels", path))
    return Layout(path, "segmentation", cases, *names, warnings=tuple(_unlisted(cases)))


def read_decathlon_scans(root: str | Path) -> Layout:
    """The scans of a Decathlon folder, those of ``training`` and those of ``test``; labels are not looked at.

    Raises:
        DatasetError: as :func:`read_decathlon`; labels may be missing.
    """
    path = Path(root)
    path = path if path.suffix == ".json" else path / "dataset.json"
    listing = _decode(path, DecathlonScans)
    listed = [entry if isinstance(entry, str) else entry.image for entry in (*listing.training, *listing.test)]
    names = [name for name in listed if not _is_junk(name)]
    problems = [problem for name in names for problem in _path_problems(name, path.parent)]
    ids = [strip_suffixes(PurePosixPath(name).name) for name in names]
    problems += [f"the case {name!r} is listed twice" for name in duplicate_ids(ids)]
    refuse(problems or ([] if names else ["lists no scan"]), path, hint="Correct the file, or fetch the missing scans")
    channels = _ordered(listing.modality, "modality", path)
    cases = tuple(Case(case, (_inside(path.parent, name),)) for case, name in zip(ids, names, strict=True))
    return Layout(path, "restoration", cases, channels, channels)


def _decode(path: Path, kind: type[_File]) -> _File:
    if not path.is_file():
        raise DatasetError("no such file", path=path, hint="Set data_root to the folder that holds dataset.json")
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"is not a Decathlon dataset.json: {error}", path=path) from error


def _count_problem(listing: DecathlonFile) -> list[str]:
    stated, listed = listing.num_training, len(listing.training)
    return [] if stated in (None, listed) else [f"numTraining is {stated}, but 'training' lists {listed} cases"]


def _problems(entry: Entry, root: Path) -> list[str]:
    return [problem for name in (entry.image, entry.label) for problem in _path_problems(name, root)]


def _path_problems(name: str, root: Path) -> list[str]:
    # dataset.json is data from somewhere else: it may not point out of its folder
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return [f"{name!r} leads out of the dataset's folder"]
    return [] if _inside(root, name).is_file() else [f"{name!r} is listed but missing"]


def _inside(root: Path, name: str) -> Path:
    return root / PurePosixPath(name)


def _id(entry: Entry) -> str:
    return strip_suffixes(PurePosixPath(entry.image).name)


def _is_junk(name: str) -> bool:
    return PurePosixPath(name).name.startswith("._")


def _ordered(names: dict[str, str], key: str, path: Path) -> tuple[str, ...]:
    """Names in the order of their numbers, which must be 0, 1, 2 ... since they are array indices."""
    if not names or sorted(names) != sorted(str(number) for number in range(len(names))):
        raise DatasetError(f"the numbers of {key!r} must be 0, 1, 2 ..., got {', '.join(names) or 'none'}", path=path)
    return tuple(names[str(number)] for number in range(len(names)))


def _unlisted(cases: tuple[Case, ...]) -> list[str]:
    listed = {file.resolve() for case in cases for file in case.images}
    folders = {file.parent for file in listed}
    found = {file for folder in folders for file in folder.glob("*.nii*") if not _is_junk(file.name)}
    return [f"{file} is not listed in dataset.json" for file in sorted(found - listed)]
