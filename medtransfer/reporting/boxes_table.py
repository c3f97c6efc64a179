"""The boxes that a detector found in many scans, as one CSV table for spreadsheets and statistics."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .spreadsheet import quoted, write_table

NAME = "boxes.csv"
_AXES = {"box": ("i0", "j0", "k0", "i1", "j1", "k1"), "center_mm": "xyz", "size_mm": "ijk"}
#: the columns of the table
HEADER = ("case", "class", "score", *(f"{field}_{axis}" for field, axes in _AXES.items() for axis in axes))


def write_boxes_csv(
    path: str | os.PathLike[str], found: Iterable[tuple[str, Mapping[str, Any]]], overwrite: bool = False
) -> Path:
    """Write one row a box: case, class, score, its corners in voxels of the scan, its centre and its size in mm.

    Names that a spreadsheet would run as a formula are written with a quote in front, as in ``predictions.csv``.

    Args:
        path: The table.
        found: Case and box, a box as in ``CASE.json``: ``class``, ``score``, ``box``, ``center_mm``, ``size_mm``.
        overwrite: Replace a table that exists.

    Raises:
        OutputExistsError: the table exists and ``overwrite`` is false.
        ResourceError: the disk is full or the folder cannot be written.

    >>> import tempfile
    >>> box = {"class": "nodule", "score": 0.9, "box": [1, 2, 3, 4, 5, 6],
    ...        "center_mm": [2.0, 3.0, 4.0], "size_mm": [3.0, 3.0, 3.0]}
    >>> print(write_boxes_csv(Path(tempfile.mkdtemp()) / NAME, [("a", box)]).read_text().splitlines()[1])
    a,nodule,0.9,1,2,3,4,5,6,2.0,3.0,4.0,3.0,3.0,3.0
    """
    rows = (
        [quoted(case), quoted(box["class"]), box["score"], *(number for field in _AXES for number in box[field])]
        for case, box in found
    )
    return write_table(path, HEADER, rows, overwrite)
