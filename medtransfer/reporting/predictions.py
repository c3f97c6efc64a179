"""What a classifier said of many scans, as one CSV table for spreadsheets and statistics."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import atomic_file
from .spreadsheet import quoted

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
        ResourceError: disk full or folder not writable.

    >>> import tempfile
    >>> case = {"case": "=1+1", "class": "ill", "probabilities": {"well": 0.25, "ill": 0.75}}
    >>> file = write_predictions_csv(Path(tempfile.mkdtemp()) / NAME, [case], ["well", "ill"])
    >>> print(file.read_text(), end="")
    case,class,probability_well,probability_ill
    '=1+1,ill,0.25,0.75
    """
    target = Path(path)
    # a file name may hold bytes that are no text
    kind: dict[str, Any] = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}
    with atomic_file(target, overwrite) as part, part.open("w", **kind) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["case", "class", *(f"probability_{name}" for name in classes)])
        for case in cases:
            if shares := case.get("probabilities"):
                writer.writerow([quoted(case["case"]), quoted(case["class"]), *(shares[name] for name in classes)])
    return target
