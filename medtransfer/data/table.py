"""A CSV or TSV table of cases, to classify or to segment: columns image, label, and if known patient and split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import DatasetError
from .cases import SUFFIXES, Case, Found, Layout, Task, refused, strip_suffixes, unique_cases
from .class_names import find_class_names
from .rows import Row, read_rows

PARTS = ("", "train", "val", "test")
_IMAGE = re.compile(r"image(\d*)|image[_-](.+)")


def find_table(path: str | Path, channels: Sequence[str] | None = None, classes: Sequence[str] | None = None) -> Found:
    """What is found of a table.

    Paths are relative to the table's folder. Columns ``image`` and ``label`` are needed; several files of one case
    stand in ``image``, ``image2``, ``image3`` ... or in columns that name their channels, as ``image_t1`` and
    ``image_flair``. ``id``, ``patient`` and ``split`` (``train``, ``val`` or ``test``) are used if there. Where labels
    are files the table is for a segmentation, otherwise for a classification. A byte-order mark, ``;`` or tabs between
    columns, CRLF and blank rows are understood.

    Args:
        path: The table.
        channels: Names of the channels, those of the columns by default. One column of 4-D files may have several.
        classes: Names of the classes in order. By default those of a classification are the distinct labels, sorted by
            number where all of them are numbers; those of a segmentation are in a ``labels.json`` beside the table.

    Returns:
        With a problem for a column, a label or a file that is missing, and an id that occurs twice.
    """
    path = Path(path)
    try:
        columns, rows, problems = read_rows(path)
        images = image_columns(columns, path, needed=("label",))
    except DatasetError as error:
        return refused(error, path, "table")
    names = channel_names(images, channels, problems)
    task: Task = "segmentation" if any(is_file(row.get("label"), path.parent) for row in rows) else "classification"
    known = _classes(rows, task, classes, path.parent, problems)
    sound = [case for row in rows if (case := _case(row, list(images), task, known, path.parent, problems))]
    before = len(problems)
    cases = unique_cases(sound, problems, "occurs")
    hint = "Add a column 'id' with unique names" if len(problems) > before else None
    warnings = tuple(_lonely(cases, known)) if task == "classification" else ()
    layout = Layout(path, task, cases, names, known, warnings) if cases else None
    return Found(path, "table", layout, tuple(problems), warnings, hint)


def is_image_column(name: str) -> bool:
    """Whether a column of this name holds scans.

    >>> [name for name in ("image", "image2", "image_t1", "images", "label") if is_image_column(name)]
    ['image', 'image2', 'image_t1']
    """
    return _IMAGE.fullmatch(name) is not None


def image_columns(columns: Sequence[str], path: Path, needed: Sequence[str] = ()) -> dict[str, str]:
    """Columns that hold scans, numbered ones first and in order, with the names of their channels.

    Raises:
        DatasetError: there is none, or another column that is needed is missing.
    """
    images = {name: found for name in columns if (found := _IMAGE.fullmatch(name))}
    missing = [*(() if images else ("image",)), *(name for name in needed if name not in columns)]
    if missing:
        raise DatasetError(f"column {', '.join(missing)} is missing, found {', '.join(columns)}", path=path)
    numbered = sorted((name for name in images if not images[name][2]), key=lambda name: int(name[5:] or 1))
    return {**dict(zip(numbered, numbered, strict=True)), **{name: m[2] for name, m in images.items() if m[2]}}


def channel_names(images: dict[str, str], given: Sequence[str] | None, problems: list[str]) -> tuple[str, ...]:
    """The names of the channels: those that are given, else those of the columns."""
    names = tuple(given or images.values())
    if len(images) not in (1, len(names)):
        problems.append(f"{len(names)} channels are named, but there are {len(images)} columns: {', '.join(images)}")
        return tuple(images.values())
    return names


def is_file(label: str, root: Path) -> bool:
    """Whether a cell names a file of labels, there or not."""
    return label.lower().endswith(SUFFIXES) or bool(label and (root / label).is_file())


def _classes(
    rows: Iterable[Row], task: Task, given: Sequence[str] | None, root: Path, problems: list[str]
) -> tuple[str, ...]:
    if given:
        return tuple(given)
    if task == "segmentation":
        return find_class_names(root, problems)
    labels = {row.get("label") for row in rows}
    return tuple(sorted_names({label for label in labels if label and not is_fraction(label)}))


def _case(
    row: Row, images: Sequence[str], task: Task, classes: Sequence[str], root: Path, problems: list[str]
) -> Case | None:
    """The case of a row, if nothing is wrong with it."""
    found, files = scan_problems(row, images, root, needed=("label",))
    check = label_file_problems if task == "segmentation" else class_problems
    found += check(row.get("label"), files, classes, root) if row.get("label") else []
    problems += [f"line {row.line}: {text}" for text in found]
    if found:
        return None
    label = root / row.get("label") if task == "segmentation" else list(classes).index(row.get("label"))
    return Case(label=label, **case_words(row, files, root))


def scan_problems(
    row: Row, images: Sequence[str], root: Path, needed: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """What is wrong with a row's scans, with its split, and with cells that are needed; and the scans' names."""
    found = [f"{name} is empty" for name in (*images, *needed) if not row.get(name)]
    files = [row.get(name) for name in images if row.get(name)]
    # an image may be a folder: a series of DICOM files
    found += [f"{name!r} does not exist" for name in files if not (root / name).exists()]
    part = row.get("split").lower()
    return found + ([] if part in PARTS else [f"split {part!r} is not train, val or test"]), files


def case_words(row: Row, files: Sequence[str], root: Path) -> dict[str, Any]:
    """What a row says of a case beside its label, as arguments of :class:`Case`."""
    paths = tuple(root / name for name in files)
    own = {"patient": row.get("patient") or None, "part": row.get("split").lower() or None}
    return {"id": row.get("id") or strip_suffixes(paths[0].name), "images": paths, **own}


def label_file_problems(label: str, files: Sequence[str], classes: Sequence[str], root: Path) -> list[str]:
    """What is wrong with the cell of a label file."""
    if not is_file(label, root):
        return [f"label {label!r} is no file, as labels of other rows are"]
    if label in files:
        return [f"{label!r} is the image and its label"]
    return [] if (root / label).is_file() else [f"{label!r} does not exist"]


def class_problems(label: str, files: Sequence[str], classes: Sequence[str], root: Path) -> list[str]:
    """What is wrong with the cell of a class."""
    if is_fraction(label):
        return [f"label {label} is a fraction, not a class"]
    return [] if label in classes else [f"label {label!r} is none of the classes {', '.join(classes)}"]


def is_fraction(label: str) -> bool:
    """Whether a cell holds a number that is not whole, which is no name of a class."""
    return bool(re.fullmatch(r"[-+]?\d*\.\d+", label) and float(label) % 1)


def sorted_names(names: set[str]) -> list[str]:
    """Sorted by number where all are numbers.

    >>> sorted_names({"10", "9"})
    ['9', '10']
    """
    numeric = all(re.fullmatch(r"-?\d+", name) for name in names)
    return sorted(names, key=int) if numeric else sorted(names)


def _lonely(cases: Sequence[Case], classes: Sequence[str]) -> list[str]:
    counts = Counter(case.label for case in cases)
    return [f"class {name!r} has one case only" for number, name in enumerate(classes) if counts[number] == 1]
