"""Classified cases: their probabilities from a prediction folder or a table, their true classes from a table."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.cases import strip_suffixes
from ..data.rows import Row, read_rows
from ..data.targets import is_unknown
from ..errors import DatasetError
from ..reporting.predictions import NAME as TABLE
from ..reporting.spreadsheet import unquoted
from .documents import LOOKED_AT, head_documents, read_documents

_CASE_COLUMNS = ("case", "id", "name")
_LABEL_COLUMNS = ("label", "class", "target", "diagnosis")
_NO_CLASS = {*_CASE_COLUMNS, "class", "label", "image", "patient", "warnings", "predicted", "confidence"}
_PREFIXES = ("probability_", "probability of ", "prob_", "p_")
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Predicted:
    """Probabilities by case, each a mapping of class name to share."""

    path: Path
    cases: dict[str, dict[str, float]]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in order."""
        return tuple(next(iter(self.cases.values())))


@dataclass(frozen=True)
class Truth:
    """The true class of every case as written, and its patient where known."""

    path: Path
    labels: dict[str, str]
    patients: dict[str, str]


def is_classification(place: str | os.PathLike[str]) -> bool:
    """Whether there are probabilities of classes rather than masks."""
    path = Path(place)
    if path.is_file():
        return path.suffix.lower() in (".csv", ".tsv") and bool(_class_columns(read_rows(path)[0]))
    return (path / TABLE).is_file() or any(map(_holds_case, read_documents(path, LOOKED_AT)))


def read_predicted(place: str | os.PathLike[str], head: str | None = None) -> Predicted:
    """Read ``predictions.csv`` (a column a class) or the ``CASE.json`` files of a prediction folder.

    Args:
        place: The table or folder.
        head: Of a network with several, whose files are then read.

    Raises:
        DatasetError: there are none, or they are no probabilities.
    """
    path = Path(place)
    table = path if path.is_file() else path / TABLE
    cases = _from_table(table) if table.is_file() and head is None else _from_documents(path, head)
    if not cases:
        raise DatasetError("holds no probabilities", path=path, hint=f"Give a prediction folder, or a {TABLE}")
    _check(cases, path)
    return Predicted(path, cases)


def read_truth(place: str | os.PathLike[str], head: str | None = None) -> Truth:
    """Read a table with the columns ``id`` (or ``case``, or ``image``), ``label`` and, if known, ``patient``.

    Args:
        place: The table.
        head: Of a network with several: the name of a column that stands for ``label``, if there is one, as in the
            tables that such networks are trained from; rows in which it is not known are left out.

    Raises:
        DatasetError: a column or a label is missing, or a case occurs twice.
    """
    path = Path(place)
    if path.is_dir():
        raise DatasetError("is a folder, but true classes stand in a table", path=path, hint="Name its CSV file")
    columns, rows, problems = read_rows(path)
    own = (head or "").lower()
    label = next((name for name in (own, *_LABEL_COLUMNS) if name and name in columns), None)
    if label is None:
        wanted = f"{own} or label" if own else "label"
        raise DatasetError(f"column {wanted} is missing, found {', '.join(columns)}", path=path)
    known = [row for row in rows if label != own or not is_unknown(row.get(label))]
    named = [(case_of(row, path), row) for row in known]
    problems += [f"line {row.line}: {label} is empty" for _, row in named if not row.get(label)]
    if problems:
        raise DatasetError("; ".join(problems[:8]), path=path)
    _refuse_twice([case for case, _ in named], path)
    patients = {case: row.get("patient") for case, row in named if row.get("patient")}
    return Truth(path, {case: row.get(label) for case, row in named}, patients)


def read_patients(place: str | os.PathLike[str]) -> dict[str, str]:
    """Patients by case, from a table with the columns ``id`` (or ``case``, or ``image``) and ``patient``.

    Raises:
        DatasetError: a column is missing.
    """
    path = Path(place)
    columns, rows, _ = read_rows(path)
    if "patient" not in columns:
        raise DatasetError(f"column patient is missing, found {', '.join(columns)}", path=path)
    return {case_of(row, path): row.get("patient") for row in rows if row.get("patient")}


def spelled(classes: Sequence[str], truth: Truth) -> tuple[str, ...]:
    """Names of classes as the references write them; those of a table's columns have lost their capitals.

    >>> spelled(["ggo", "other"], Truth(Path(), {"a": "GGO"}, {}))
    ('GGO', 'other')
    """
    written = {label.lower(): label for label in truth.labels.values()}
    return tuple(written.get(name, name) for name in classes)


def class_numbers(truth: Truth, classes: Sequence[str]) -> dict[str, int]:
    """The number of every case's true class: by its name, in any case of letters, or as a number.

    Raises:
        DatasetError: a label is no class of the predictions.
    """
    by_name = {name.lower(): number for number, name in enumerate(classes)}
    by_number = {str(number): number for number in range(len(classes))}
    known = {**by_number, **by_name}
    wrong = {label: case for case, label in truth.labels.items() if label.lower() not in known}
    if wrong:
        listed = ", ".join(f"{label!r} (case {case})" for label, case in list(wrong.items())[:8])
        reason = f"labels that are no class of the predictions: {listed}"
        raise DatasetError(reason, path=truth.path, hint=f"The classes are {', '.join(classes)}")
    return {case: known[label.lower()] for case, label in truth.labels.items()}


def _from_table(path: Path) -> dict[str, dict[str, float]]:
    columns, rows, _ = read_rows(path)
    classes = _class_columns(columns)
    if not classes:
        raise DatasetError(f"has no column of probabilities, found {', '.join(columns)}", path=path)
    named = [(case_of(row, path), row) for row in rows]
    _refuse_twice([case for case, _ in named], path)
    return {case: {name: _share(row, column, path) for column, name in classes.items()} for case, row in named}


def _class_columns(columns: Sequence[str]) -> dict[str, str]:
    """Columns of probabilities with the class that each is of: those with a prefix, or else all that remain."""
    prefixed = {c: c.removeprefix(prefix) for c in columns for prefix in _PREFIXES if c.startswith(prefix)}
    return prefixed or {column: column for column in columns if column and column not in _NO_CLASS}


def _share(row: Row, column: str, path: Path) -> float:
    try:
        return float(row.get(column))
    except ValueError:
        reason = f"line {row.line}: {column} is {row.get(column)!r}, not a probability"
        raise DatasetError(reason, path=path) from None


def case_of(row: Row, path: Path) -> str:
    """The case that a row is of.

    Raises:
        DatasetError: it names none.
    """
    name = next((row.get(column) for column in _CASE_COLUMNS if row.get(column)), "")
    image = next((cell for column, cell in row.cells.items() if column.startswith("image") and cell), "")
    if not name and not image:
        raise DatasetError(f"line {row.line}: names no case", path=path, hint="Add a column id, or image")
    return unquoted(name) or strip_suffixes(Path(image).name)


def _refuse_twice(cases: Sequence[str], path: Path) -> None:
    twice = sorted({case for case in cases if cases.count(case) > 1}) if len(set(cases)) < len(cases) else []
    if twice:
        raise DatasetError(f"cases occur twice: {', '.join(twice[:8])}", path=path, hint="Add a column id")


def _from_documents(folder: Path, head: str | None) -> dict[str, dict[str, float]]:
    documents = head_documents(folder, head)
    return {str(one["case"]): dict(one["probabilities"]) for one in documents if _holds_case(one)}


def _holds_case(document: Mapping[str, Any]) -> bool:
    return isinstance(document.get("probabilities"), Mapping)


def _check(cases: Mapping[str, Mapping[str, float]], path: Path) -> None:
    classes = list(next(iter(cases.values())))
    for case, shares in cases.items():
        values = list(shares.values())
        if list(shares) != classes:
            raise DatasetError(f"case {case} has other classes: {', '.join(shares)}", path=path)
        if not all(isinstance(value, int | float) and 0 <= value <= 1 for value in values):
            raise DatasetError(f"case {case}: a probability is not from 0 to 1: {values}", path=path)
        if not math.isclose(sum(values), 1, abs_tol=SUM_TOLERANCE):
            raise DatasetError(f"case {case}: the probabilities add up to {sum(values):.4g}, not 1", path=path)
