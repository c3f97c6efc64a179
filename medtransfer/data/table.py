"""A CSV table for classification: columns image[, image2 ...], label, and if known patient and split."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..errors import DatasetError
from .cases import Case, Layout, duplicate_ids, refuse, strip_suffixes

DELIMITERS = ",;\t"


def read_table(path: str | Path) -> Layout:
    """Read a classification table.

    Paths are relative to the table's folder. Columns ``image`` (or ``image``, ``image2``, ``image3`` ... for one file
    per channel) and ``label`` are needed; ``id``, ``patient`` and ``split`` (``train`` or ``val``) are used if there.
    A byte-order mark, ``;`` or tabs between columns, CRLF and blank rows are understood. Classes are the distinct
    labels, sorted by number where all of them are numbers.

    Raises:
        DatasetError: a column, a label or a file is missing, or an id occurs twice. All problems are named at once.
    """
    path = Path(path)
    rows = _rows(path)
    images = _image_columns(rows[0][1], path)
    refuse(_row_problems(rows, images, path.parent), path)
    classes = _sorted_names({row["label"] for _, row in rows})
    cases = tuple(_case(row, images, classes, path.parent) for _, row in rows)
    twice = duplicate_ids(case.id for case in cases)
    refuse([f"the case {name!r} occurs twice" for name in twice], path, hint="Add a column 'id' with unique names")
    counts = Counter(case.label for case in cases)
    lonely = [f"class {name!r} has one case only" for number, name in enumerate(classes) if counts[number] == 1]
    return Layout(path, "classification", cases, tuple(images), tuple(classes), warnings=tuple(lonely))


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows that are not blank, each with its line number, with columns in lower case."""
    if not path.is_file():
        raise DatasetError("no such file", path=path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(f"is not UTF-8 at byte {error.start}", path=path, hint="Save the table as UTF-8") from error
    header = next((line for line in lines if line.strip()), "")
    delimiter = max(DELIMITERS, key=header.count)
    reader = csv.reader(lines, delimiter=delimiter)
    numbered = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(c.strip() for c in row)]
    if len(numbered) < 2:
        raise DatasetError("holds no case", path=path, hint="The first row names the columns, e.g. image,label,patient")
    columns = [name.lower() for name in numbered[0][1]]
    return [(number, dict(zip(columns, row, strict=False))) for number, row in numbered[1:]]


def _image_columns(row: dict[str, str], path: Path) -> list[str]:
    if not {"image", "label"} <= set(row):
        missing = ", ".join(sorted({"image", "label"} - set(row)))
        raise DatasetError(f"column {missing} is missing, found {', '.join(row)}", path=path)
    numbered = [name for name in row if re.fullmatch(r"image\d*", name)]
    return sorted(numbered, key=lambda name: int(name[5:] or 1))


def _row_problems(rows: Sequence[tuple[int, dict[str, str]]], images: list[str], root: Path) -> list[str]:
    problems = []
    for line, row in rows:
        empty = [name for name in [*images, "label"] if not row.get(name)]
        files = [row[name] for name in images if row.get(name)]
        problems += [f"line {line}: {name} is empty" for name in empty]
        problems += [f"line {line}: {name!r} does not exist" for name in files if not (root / name).is_file()]
        problems += _label_problems(line, row.get("label") or "")
    return problems


def _label_problems(line: int, label: str) -> list[str]:
    is_fraction = re.fullmatch(r"[-+]?\d*\.\d+", label) and float(label) % 1
    return [f"line {line}: label {label} is a fraction, not a class"] if is_fraction else []


def _sorted_names(names: set[str]) -> list[str]:
    """Sorted by number where all are numbers.

    >>> _sorted_names({"10", "9"})
    ['9', '10']
    """
    numeric = all(re.fullmatch(r"-?\d+", name) for name in names)
    return sorted(names, key=int) if numeric else sorted(names)


def _case(row: dict[str, str], images: list[str], classes: list[str], root: Path) -> Case:
    files = tuple(root / row[name] for name in images)
    name = row.get("id") or strip_suffixes(files[0].name)
    part = (row.get("split") or "").lower() or None
    return Case(name, files, classes.index(row["label"]), row.get("patient") or None, part)
