"""A list of scans and their boxes: the JSON files of MONAI's detection tutorial on LUNA16.

``{"training": [{"image": "a.nii.gz", "box": [[x, y, z, w, h, d]], "label": [0]}], "validation": [...]}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import msgspec
import numpy as np

from ..errors import DatasetError
from .cases import Case, Found, Layout, ListedBoxes, refused, strip_suffixes, unique_cases
from .fields import MOST_CLASSES, convert, inside, listed_file_problems, ordered_names, read_document

WHAT = "a list of scans with boxes"
HINT = "Correct the list, or fetch the missing scans; docs/datasets.md shows the format"
BACKGROUND = "background"
PARTS = {"training": "train", "validation": "val"}

BoxMode = Literal["cccwhd", "xyzxyz", "xyzwhd"]
BoxSpace = Literal["world-lps", "world-ras", "voxel"]
_FARTHEST = 1e9  # more are no millimetres


class BoxFormat(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the six numbers of a box mean; the list may say it by the same keys. LUNA16's by default.

    Attributes:
        box_mode: ``cccwhd``, centre and size; ``xyzxyz``, lower and upper corner; ``xyzwhd``, lower corner and size.
            ``x``, ``y`` and ``z`` are the axes of the world, or the axes of the scan as stored.
        box_space: ``world-lps`` (millimetres as DICOM, ITK and LUNA16 have them), ``world-ras`` (as NIfTI has them), or
            ``voxel``, counted from the outer corner of the first voxel: voxel i covers i to i + 1.
        first_label: The number of the first class that is not background: 0 as LUNA16 has it, or 1, also where the
            list's ``labels`` call 0 background.
        image_root: The folder that the scans' names start from; the list's own by default. A list cannot say it.
    """

    box_mode: BoxMode | None = None
    box_space: BoxSpace | None = None
    first_label: Literal[0, 1] | None = None
    image_root: str | None = None


LUNA_SPACE: BoxSpace = "world-lps"
_FORMAT_KEYS = ("box_mode", "box_space", "first_label")


class BoxEntry(msgspec.Struct):
    """One scan of the list: its file or those of its channels, its boxes and their labels."""

    image: str | list[str]
    box: list[Any]
    label: list[Any]
    patient: str | None = None

    @property
    def files(self) -> list[str]:
        """The names of the files."""
        return [self.image] if isinstance(self.image, str) else self.image


_NONE = BoxEntry("", [], [])


def is_box_list(document: dict[str, Any]) -> bool:
    """Whether a JSON document lists scans with boxes, as its keys or one of its cases say.

    >>> is_box_list({"training": [{"image": "a.nii", "box": []}]}), is_box_list({"training": []})
    (True, False)
    """
    listed = [entry for key in PARTS for entry in _entries(document, key)]
    said = any(key in document for key in _FORMAT_KEYS)
    return said or any(isinstance(entry, dict) and "box" in entry for entry in listed)


def find_boxes(
    path: Path,
    channels: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    form: BoxFormat | None = None,
) -> Found:
    """What is found of a list of scans with boxes.

    A case without any box is allowed. ``labels`` of the list may name the classes by their numbers and ``modality`` the
    channels, as in the Decathlon. All problems come in one pass.

    Args:
        path: The JSON file.
        channels: Names of the channels.
        classes: Names of the classes, background first.
        form: What the numbers mean; it goes before what the list says.
    """
    try:
        document = read_document(path, WHAT)
    except DatasetError as error:
        return refused(error, path, "boxes")
    problems: list[str] = []
    stated = _format(document, form or BoxFormat(), problems)
    if problems:  # boxes that are read in another way than they are written give errors that mislead
        return Found(path, "boxes", None, tuple(problems), (), HINT)
    entries = list(_read_entries(document, problems))
    problems += [] if entries or problems else ["lists no case"]
    names, counted = _classes(document, classes, entries, stated, problems)
    root = Path(stated.image_root or path.parent)
    cases = [_case(entry, part, root, stated, len(names), problems) for entry, part in entries]
    kept = unique_cases((case for case in cases if case is not None), problems)
    channel_names = _channels(document, channels, [entry for entry, _ in entries], problems)
    warnings = (*counted, *_unsaid(document, form))
    layout = Layout(path, "detection", kept, channel_names, names, warnings) if kept else None
    return Found(path, "boxes", layout, tuple(problems), warnings, HINT)


def _entries(document: dict[str, Any], key: str) -> list[Any]:
    listed = document.get(key, [])
    return listed if isinstance(listed, list) else []


def _format(document: dict[str, Any], given: BoxFormat, problems: list[str]) -> BoxFormat:
    """As given, else as the list says, else LUNA16's."""
    said = {key: document[key] for key in _FORMAT_KEYS if key in document}
    names = document.get("labels")
    counts_background = isinstance(names, dict) and str(names.get("0")).lower() == BACKGROUND
    guessed = BoxFormat("cccwhd", LUNA_SPACE, int(counts_background))  # type: ignore[arg-type]
    own = convert(said, BoxFormat, "$", problems, BoxFormat())
    parts = [msgspec.to_builtins(form) for form in (guessed, own, given)]
    return msgspec.convert(parts[0] | parts[1] | parts[2], BoxFormat)


def _unsaid(document: dict[str, Any], given: BoxFormat | None) -> list[str]:
    if "box_space" in document or (given and given.box_space):
        return []
    return [f"nothing says the boxes' box_space: taken as {LUNA_SPACE!r}, as LUNA16 has it"]


def _read_entries(document: dict[str, Any], problems: list[str]) -> Iterator[tuple[BoxEntry, str]]:
    for key, part in PARTS.items():
        listed = convert(document.get(key, []), list[Any], f"$.{key}", problems, [])
        for number, given in enumerate(listed):
            entry = convert(given, BoxEntry, f"$.{key}[{number}]", problems, _NONE)
            if entry is not _NONE:
                yield entry, part


def _classes(
    document: dict[str, Any],
    given: Sequence[str] | None,
    entries: Sequence[tuple[BoxEntry, str]],
    form: BoxFormat,
    problems: list[str],
) -> tuple[tuple[str, ...], list[str]]:
    """Names, background first, and a warning where they are only counted."""
    if given:
        return tuple(given), []
    if "labels" in document:
        named = convert(document["labels"], dict[str, str], "$.labels", problems, {})
        if form.first_label:
            named = {"0": BACKGROUND, **named}
        names = ordered_names(named, "labels", problems)
        return (names if form.first_label else (BACKGROUND, *names)), []
    first = form.first_label or 0
    numbers = [label for entry, _ in entries for label in entry.label if _is_label(label, first, MOST_CLASSES)]
    names = tuple(str(number) for number in range(first, max(numbers, default=first) + 1))
    warning = f"no file names the classes: {len(names)} were counted; `labels` in the list would name them"
    return (BACKGROUND, *names), [warning]


def _channels(
    document: dict[str, Any], given: Sequence[str] | None, entries: Sequence[BoxEntry], problems: list[str]
) -> tuple[str, ...]:
    if given:
        return tuple(given)
    if "modality" in document:
        named = convert(document["modality"], dict[str, str], "$.modality", problems, {})
        return ordered_names(named, "modality", problems)
    most = max((len(entry.files) for entry in entries), default=1)
    return ("image",) if most == 1 else tuple(f"image {number}" for number in range(most))


def _case(
    entry: BoxEntry, part: str, root: Path, form: BoxFormat, num_classes: int, problems: list[str]
) -> Case | None:
    """The case, if nothing is wrong with it."""
    name = strip_suffixes(PurePosixPath(entry.files[0]).name) if entry.files else ""
    found = [problem for file in entry.files for problem in listed_file_problems(file, root)]
    found += [f"case {name!r}: {text}" for text in _box_problems(entry, form, num_classes)]
    problems += found or ([] if entry.files else ["a case has no image"])
    if found or not entry.files:
        return None
    images = tuple(inside(root, file) for file in entry.files)
    return Case(name, images, _listed(entry, form), entry.patient, part)


def _box_problems(entry: BoxEntry, form: BoxFormat, num_classes: int) -> Iterator[str]:
    if len(entry.box) != len(entry.label):
        yield f"{len(entry.box)} boxes, but {len(entry.label)} labels"
    for number, box in enumerate(entry.box):
        fault = _box_fault(box, form)
        if fault:
            yield f"box {number} {fault}"
    first = form.first_label or 0
    last = first + num_classes - 2
    for number, label in enumerate(entry.label):
        if not _is_label(label, first, last):
            yield f"the label of box {number} is {label!r}, not a number from {first} to {last}"


def _box_fault(box: Any, form: BoxFormat) -> str | None:
    if not isinstance(box, list) or not all(_is_number(value) for value in box):
        return f"is {str(box)[:60]}, not six numbers"
    if len(box) != 6:
        return f"has {len(box)} numbers, not six"
    lower, upper = np.split(_corners(box, form), 2)
    if (upper > lower).all():
        return None
    sizes = ", ".join(f"{size:.4g}" for size in upper - lower)
    return f"has the size {sizes}, which must be above 0 (box_mode is {form.box_mode!r})"


def _corners(box: Sequence[float], form: BoxFormat) -> np.ndarray:
    """Lower and upper corner, in the space of the list."""
    first, second = np.split(np.asarray(box, dtype=np.float64), 2)
    corners = {
        "cccwhd": (first - second / 2, first + second / 2),
        "xyzwhd": (first, first + second),
        "xyzxyz": (first, second),
    }
    return np.concatenate(corners[str(form.box_mode)])


def _listed(entry: BoxEntry, form: BoxFormat) -> ListedBoxes:
    corners = [_in_ras(_corners(box, form).tolist(), form) for box in entry.box]
    shift = 1 - (form.first_label or 0)
    labels = tuple(int(label) + shift for label in entry.label)
    return ListedBoxes(tuple(map(tuple, corners)), labels, "voxel" if form.box_space == "voxel" else "world")


def _in_ras(corners: Sequence[float], form: BoxFormat) -> list[float]:
    x0, y0, z0, x1, y1, z1 = map(float, corners)
    return [-x1, -y1, z0, -x0, -y0, z1] if form.box_space == "world-lps" else [x0, y0, z0, x1, y1, z1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _FARTHEST


def _is_label(value: Any, first: int, last: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and first <= value <= last
