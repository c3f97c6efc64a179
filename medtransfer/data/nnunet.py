"""nnU-Net's raw layout: ``dataset.json``, ``imagesTr/CASE_0000.nii.gz`` for each channel, ``labelsTr/CASE.nii.gz``.

Read from nnU-Net's own documentation of the format (``dataset_format.md``, version 2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ..checkpoint.strict_json import parse_json
from ..errors import DatasetError
from .cases import SUFFIXES, Case, Fold, Found, Layout, is_junk, refuse, refused, unique_cases
from .decathlon import count_problems, listing_of
from .fields import MOST_CLASSES, convert, inside, listed_file_problems, ordered_names, read_document, take, take_names

WHAT = "an nnU-Net dataset.json"
#: words that a Decathlon dataset.json does not have
OWN_KEYS = frozenset({"channel_names", "file_ending"})
SPLITS = "splits_final.json"
IGNORE = "ignore"
HINT = "Correct dataset.json, or fetch or rename the files"
REGIONS = "is a region of several labels, which overlap: medtransfer gives each voxel one class; name the labels singly"


class Listed(msgspec.Struct):
    """One case under the key ``dataset``: its files, one per channel, and its label."""

    images: list[str]
    label: str


class StatedFold(msgspec.Struct):
    """One element of ``splits_final.json``."""

    train: list[str]
    val: list[str]


@dataclass
class _Files:
    """Names of files, relative to the dataset's folder: those of each case by their channels, and its label."""

    images: dict[str, dict[int, str]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def find_nnunet(root: str | Path) -> Found:
    """What is found of a raw dataset of nnU-Net.

    Labels may be in any order; they must be 0, 1, 2 ..., and ``ignore``, if it is there, the highest. Cases may be
    listed under the key ``dataset``, as nnU-Net allows. A ``splits_final.json`` beside ``dataset.json`` gives folds.

    Args:
        root: The folder that holds ``dataset.json``, or the file itself.

    Returns:
        With a problem for a file that is missing or broken, a label that is a region of several, a case without a
        channel or its label, and numbers that contradict.
    """
    path = listing_of(root)
    try:
        document = read_document(path, WHAT)
    except DatasetError as error:
        return refused(error, path, "nnunet")
    problems: list[str] = []
    channels = take_names(document, "channel_names", problems)
    classes, ignore = _labels(take(document, "labels", dict[str, Any], problems, {}), problems)
    files = _files(document, path.parent, ("imagesTr",), problems)
    problems += count_problems(document, len(files.images), "there are") if files.images else ["holds no training case"]
    sound = [case for name in files.images if (case := _case(name, files, channels, path.parent, problems))]
    problems += [f"{file} has no image" for name, file in files.labels.items() if name not in files.images]
    cases, folds = unique_cases(sound, problems, "is there"), _folds(path.parent / SPLITS, files.images, problems)
    warnings = tuple(files.warnings)
    layout = Layout(path, "segmentation", cases, channels, classes, warnings, ignore, folds) if cases else None
    return Found(path, "nnunet", layout, tuple(problems), warnings, HINT)


def read_nnunet_scans(root: str | Path) -> Layout:
    """The scans of a raw dataset, those of ``imagesTr`` and of ``imagesTs``; labels are not looked at.

    Raises:
        DatasetError: there are problems as of :func:`find_nnunet`; labels may be missing.
    """
    path = listing_of(root)
    document = read_document(path, WHAT)
    problems: list[str] = []
    channels = take_names(document, "channel_names", problems)
    files = _files(document, path.parent, ("imagesTr", "imagesTs"), problems)
    unlabelled = _Files(files.images)
    found = [_case(name, unlabelled, channels, path.parent, problems, labelled=False) for name in files.images]
    cases = unique_cases([case for case in found if case], problems, "is there")
    refuse(problems or ([] if cases else ["holds no scan"]), path, hint=HINT)
    return Layout(path, "restoration", cases, channels, channels)


def _labels(named: Mapping[str, Any], problems: list[str]) -> tuple[tuple[str, ...], int | None]:
    """Classes in the order of their numbers, and the number to ignore."""
    numbers: dict[str, str] = {}
    for name, number in named.items():
        if isinstance(number, list):
            problems.append(f"label {name!r} {REGIONS}")
        elif not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < MOST_CLASSES:
            problems.append(f"the number of label {name!r} must be 0, 1, 2 ..., got {number!r}")
        elif str(number) in numbers:
            problems.append(f"labels {numbers[str(number)]!r} and {name!r} have the same number {number}")
        else:
            numbers[str(number)] = name
    ignore = next((int(number) for number, name in numbers.items() if name == IGNORE), None)
    if ignore is not None and ignore != max(map(int, numbers)):
        problems.append(f"the label 'ignore' must have the highest number, got {ignore}")
    numbers.pop(str(ignore), None)
    overlapping = any(isinstance(number, list) for number in named.values())
    # with regions the single labels have no names: the gaps are no fault of their own
    return ordered_names(numbers, "labels", [] if overlapping else problems), ignore


def _files(document: dict[str, Any], root: Path, folders: tuple[str, ...], problems: list[str]) -> _Files:
    if "dataset" in document:
        listed = take(document, "dataset", dict[str, Any], problems, {})
        cases = {
            name: convert(entry, Listed, f"$.dataset[{name!r}]", problems, Listed([], ""))
            for name, entry in listed.items()
        }
        images = {name: dict(enumerate(case.images)) for name, case in cases.items()}
        return _Files(images, {name: case.label for name, case in cases.items()})
    ending = take(document, "file_ending", str, problems, ".nii.gz")
    if ending.lower() not in SUFFIXES:
        problems.append(f"file_ending {ending!r} is none of volumes: {', '.join(SUFFIXES)}")
    files = _Files()
    for folder in folders:
        _add_images(root, folder, ending, files, problems)
    for file in _volumes(root, "labelsTr", ending, files):
        files.labels[file.removesuffix(ending)] = f"labelsTr/{file}"
    return files


def _add_images(root: Path, folder: str, ending: str, files: _Files, problems: list[str]) -> None:
    """The files of a folder, sorted into cases and channels by their names."""
    for file in _volumes(root, folder, ending, files):
        parts = re.fullmatch(r"(.+)_(\d{4})", file.removesuffix(ending))
        if parts is None:
            problems.append(f"{folder}/{file} has no channel number at its end, as in CASE_0000{ending}")
        else:
            files.images.setdefault(parts[1], {})[int(parts[2])] = f"{folder}/{file}"


def _volumes(root: Path, folder: str, ending: str, files: _Files) -> Iterator[str]:
    present = sorted((root / folder).iterdir()) if (root / folder).is_dir() else []
    for file in present:
        if is_junk(file.name) or not file.is_file():
            continue
        if file.name.endswith(ending):
            yield file.name
        elif file.name.lower().endswith(SUFFIXES):
            files.warnings.append(f"{folder}/{file.name} does not end in {ending}: it is left out")


def _case(
    name: str, files: _Files, channels: tuple[str, ...], root: Path, problems: list[str], labelled: bool = True
) -> Case | None:
    """The case, if nothing is wrong with its files."""
    images, label = files.images[name], files.labels.get(name)
    found = _channel_problems(name, images, channels)
    listed = [*images.values(), *([label] if label else [])]
    found += [problem for file in listed for problem in listed_file_problems(file, root)]
    if labelled and label is None:
        found.append(f"case {name!r} has no label in labelsTr")
    if label in images.values():
        found.append(f"{label!r} is listed as an image and as its label")
    problems += found
    paths = tuple(inside(root, images[number]) for number in sorted(images))
    return None if found else Case(name, paths, inside(root, label) if label else None)


def _channel_problems(name: str, images: Mapping[int, str], channels: tuple[str, ...]) -> list[str]:
    """Channels that a case lacks, and those that nobody named."""
    # where channel_names itself is at fault, gaps are all that can be seen
    expected = set(range(len(channels) or max(images, default=0) + 1))
    missing = [f"_{number:04d}" for number in sorted(expected - set(images))]
    extra = [f"_{number:04d}" for number in sorted(set(images) - expected)]
    there = ", ".join(f"_{number:04d}" for number in sorted(images)) or "none"
    return [
        f"case {name!r} has the channels {there}: {', '.join(numbers)} {what}"
        for numbers, what in ((missing, "is missing"), (extra, "is not in channel_names"))
        if numbers
    ]


def _folds(path: Path, cases: Mapping[str, Any], problems: list[str]) -> tuple[Fold, ...]:
    """The folds of ``splits_final.json``, if it is there."""
    if not path.is_file():
        return ()
    try:
        stated = msgspec.convert(parse_json(path.read_bytes()), list[StatedFold])
    except (ValueError, msgspec.ValidationError) as error:
        problems.append(f"{SPLITS}: {error}")
        return ()
    for number, fold in enumerate(stated):
        unknown = sorted({*fold.train, *fold.val} - set(cases))
        both = sorted({*fold.train} & {*fold.val})
        problems += [f"{SPLITS}: fold {number} names {', '.join(unknown[:8])}, no such case"] if unknown else []
        problems += [f"{SPLITS}: fold {number} trains on and validates with {', '.join(both[:8])}"] if both else []
    return tuple(Fold(tuple(fold.train), tuple(fold.val)) for fold in stated)
