"""The Medical Segmentation Decathlon layout: ``dataset.json`` with ``imagesTr`` and ``labelsTr``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from ..errors import DatasetError
from .cases import Case, Found, Layout, is_junk, refuse, refused, strip_suffixes, unique_cases
from .fields import convert, inside, leads_out, listed_file_problems, read_document, take, take_names

WHAT = "a Decathlon dataset.json"
HINT = "Correct the file, or fetch the missing scans"


class Entry(msgspec.Struct):
    """One labelled case of ``dataset.json``."""

    image: str
    label: str


_NONE = Entry("", "")


class ScanEntry(msgspec.Struct):
    """One scan, whatever else is said about it."""

    image: str


def find_decathlon(root: str | Path) -> Found:
    """What is found of a Decathlon folder.

    macOS ``._*`` files are ignored; files that stand beside the listed ones without being listed are a warning. Where
    one file per channel stands in place of a listed image (``CASE_0000.nii.gz``, ``CASE_0001.nii.gz`` ..., as the first
    nnU-Net had it), these are taken.

    Args:
        root: The folder that holds ``dataset.json``, or the file itself.

    Returns:
        With a problem for a file that is missing, broken or contradicts itself, names paths outside its folder, or
        lists files that do not exist.
    """
    path = listing_of(root)
    try:
        document = read_document(path, WHAT)
    except DatasetError as error:
        return refused(error, path, "decathlon")
    problems: list[str] = []
    channels = take_names(document, "modality", problems)
    classes = take_names(document, "labels", problems)
    entries = _entries(document, problems)
    sound = [case for entry in entries if (case := _case(entry, path.parent, len(channels), problems))]
    cases = unique_cases(sound, problems)
    warnings = tuple(_unlisted(entries, cases))
    layout = Layout(path, "segmentation", cases, channels, classes, warnings) if cases else None
    return Found(path, "decathlon", layout, tuple(problems), warnings, HINT)


def read_decathlon_scans(root: str | Path) -> Layout:
    """The scans of a Decathlon folder, those of ``training`` and those of ``test``; labels are not looked at.

    Raises:
        DatasetError: there are problems as of :func:`find_decathlon`; labels may be missing.
    """
    path = listing_of(root)
    document = read_document(path, WHAT)
    problems: list[str] = []
    channels = take_names(document, "modality", problems)
    names = list(_scan_names(document, problems))
    problems += [problem for name in names for problem in listed_file_problems(name, path.parent)]
    listed = (Case(strip_suffixes(PurePosixPath(name).name), (inside(path.parent, name),)) for name in names)
    cases = unique_cases(listed, problems)
    refuse(problems or ([] if cases else ["lists no scan"]), path, hint=HINT)
    return Layout(path, "restoration", cases, channels, channels)


def listing_of(root: str | Path) -> Path:
    """The ``dataset.json`` that is meant by a folder, or by itself.

    >>> listing_of("data/liver").name
    'dataset.json'
    """
    path = Path(root)
    return path if path.suffix == ".json" else path / "dataset.json"


def count_problems(document: dict[str, Any], listed: int, where: str) -> list[str]:
    """Whether ``numTraining`` is the number of cases that there are."""
    stated = document.get("numTraining")
    return [] if stated in (None, listed) else [f"numTraining is {stated}, but {where} {listed} cases"]


def _unlisted(entries: Sequence[Entry], cases: Sequence[Case]) -> list[str]:
    """Volumes that stand beside listed ones, without being listed themselves."""
    files = {file for case in cases for file in (*case.images, case.label) if isinstance(file, Path)}
    listed = {PurePosixPath(name).name for entry in entries for name in (entry.image, entry.label)}
    beside = {file for folder in {file.parent for file in files} for file in folder.glob("*.nii*")} - files
    extra = sorted(file for file in beside if file.name not in listed and not is_junk(file.name))
    return [f"{file.parent.name}/{file.name} is not listed in dataset.json" for file in extra]


def _entries(document: dict[str, Any], problems: list[str]) -> list[Entry]:
    before = len(problems)
    listed = take(document, "training", list[Any], problems, [])
    if len(problems) == before:
        problems += count_problems(document, len(listed), "'training' lists")
        problems += [] if listed else ["lists no training case"]
    given = [convert(entry, Entry, f"$.training[{n}]", problems, _NONE) for n, entry in enumerate(listed)]
    return [entry for entry in given if entry is not _NONE and not is_junk(entry.image)]


def _case(entry: Entry, root: Path, channels: int, problems: list[str]) -> Case | None:
    """The case, if nothing is wrong with its files."""
    images = _images(entry.image, root, channels)
    found = [problem for name in (*images, entry.label) for problem in listed_file_problems(name, root)]
    if not found and entry.label in images:
        found = [f"{entry.label!r} is listed as an image and as its label"]
    problems += found
    name = strip_suffixes(PurePosixPath(entry.image).name)
    return None if found else Case(name, tuple(inside(root, image) for image in images), inside(root, entry.label))


def _images(name: str, root: Path, channels: int) -> list[str]:
    """The listed file, or those of its channels where it is not there and they are."""
    stem = strip_suffixes(name)
    parts = [f"{stem}_{channel:04d}{name[len(stem) :]}" for channel in range(channels)]
    if leads_out(name) or (root / name).is_file() or not parts or not (root / parts[0]).is_file():
        return [name]
    return parts


def _scan_names(document: dict[str, Any], problems: list[str]) -> Iterator[str]:
    for key in ("training", "test"):
        for number, entry in enumerate(convert(document.get(key, []), list[Any], f"$.{key}", problems, [])):
            scan = convert(entry, str | ScanEntry, f"$.{key}[{number}]", problems, "")  # type: ignore[arg-type]
            name = scan if isinstance(scan, str) else scan.image
            if name and not is_junk(name):
                yield name
