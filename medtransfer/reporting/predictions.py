"""What a classifier or a regression said of many scans, as one CSV table for spreadsheets and statistics."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .spreadsheet import quoted, write_table

NAME = "predictions.csv"


def write_predictions_csv(
    path: str | os.PathLike[str], cases: Iterable[Mapping[str, Any]], classes: Sequence[str], overwrite: bool = False
) -> Path:
    """Write one row a case: ``case``, ``class`` (the most probable one) and a column ``probability_NAME`` a class.

    Cases without probabilities, as those that failed, are left out: ``report.json`` names them. Names come from files
    and model folders of others: one that a spreadsheet would run as a formula (``=...``) is written with a quote in
    front (``'=...``), as is one that begins with a quote. ``report.json`` has the names as they are.

    Args:
        path: The table.
        cases: Those of ``report.json``: ``case``, ``class`` and ``probabilities`` by class name.
        classes: Names, in the model's order.
        overwrite: Replace a table that exists.

    Raises:
        OutputExistsError: the table exists and ``overwrite`` is false.
        ResourceError: the disk is full or the folder cannot be written.

    >>> import tempfile
    >>> case = {"case": "=1+1", "class": "ill", "probabilities": {"well": 0.25, "ill": 0.75}}
    >>> file = write_predictions_csv(Path(tempfile.mkdtemp()) / NAME, [case], ["well", "ill"])
    >>> print(file.read_text(), end="")
    case,class,probability_well,probability_ill
    '=1+1,ill,0.25,0.75
    """
    found = [(case, shares) for case in cases if (shares := case.get("probabilities"))]
    rows = [
        [quoted(case["case"]), quoted(case["class"]), *(shares[name] for name in classes)] for case, shares in found
    ]
    return write_table(path, ["case", "class", *(f"probability_{name}" for name in classes)], rows, overwrite)


def write_values_csv(
    path: str | os.PathLike[str], cases: Iterable[Mapping[str, Any]], quantities: Sequence[str], overwrite: bool = False
) -> Path:
    """Write one row a case: ``case`` and a column for each quantity; names, errors as :func:`write_predictions_csv`.

    Args:
        path: The table.
        cases: Those of ``report.json``: ``case`` and ``values`` by quantity.
        quantities: Names, in the model's order.
        overwrite: Replace a table that exists.

    >>> import tempfile
    >>> case = {"case": "a", "values": {"age": 54.5}}
    >>> print(write_values_csv(Path(tempfile.mkdtemp()) / NAME, [case], ["age"]).read_text(), end="")
    case,age
    a,54.5
    """
    found = [(case, values) for case in cases if (values := case.get("values"))]
    rows = [[quoted(case["case"]), *(values[name] for name in quantities)] for case, values in found]
    return write_table(path, ["case", *map(quoted, quantities)], rows, overwrite)
