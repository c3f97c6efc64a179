"""Names from files of others in tables that spreadsheets open: none of them may be run as a formula."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..files import atomic_file

# a spreadsheet runs a cell that begins with one of these; the quote itself is marked too, so that one can undo it
_RUNS = ("=", "+", "-", "@", "\t", "\r", "'")


def quoted(text: str) -> str:
    """Text that a spreadsheet takes for text: with a quote in front where it would run it.

    >>> quoted("=1+1"), quoted("liver")
    ("'=1+1", 'liver')
    """
    return f"'{text}" if text.startswith(_RUNS) else text


def unquoted(cell: str) -> str:
    """The text that :func:`quoted` was given.

    >>> unquoted("'=1+1"), unquoted("'s-Hertogenbosch")
    ('=1+1', "'s-Hertogenbosch")
    """
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_RUNS) else cell


def write_table(
    path: str | os.PathLike[str], header: Sequence[str], rows: Iterable[Sequence[object]], overwrite: bool = False
) -> Path:
    """Write a CSV table; its texts are :func:`quoted` by the caller.

    Raises:
        OutputExistsError: the table exists and ``overwrite`` is false.
        ResourceError: the disk is full or the folder cannot be written.
    """
    # a file name may hold bytes that are no text
    kind: dict[str, Any] = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}
    with atomic_file(Path(path), overwrite) as part, part.open("w", **kind) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return Path(path)
