"""The rows of a CSV or TSV file, as spreadsheets write them: byte-order marks, ``;``, tabs, CRLF, blank rows."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from ..errors import DatasetError

DELIMITERS = ",;\t"
ENOUGH = 1 << 16  # bytes that hold the header of any table


@dataclass(frozen=True)
class Row:
    """One row that is not blank: the line where it ends, and its cells by the names of their columns."""

    line: int
    cells: dict[str, str]

    def get(self, column: str) -> str:
        """A cell, empty where the row ends before it."""
        return self.cells.get(column, "")


def read_rows(path: Path) -> tuple[list[str], list[Row], list[str]]:
    """Read a table.

    Returns:
        The columns in lower case, the rows, and what is wrong with some of them.

    Raises:
        DatasetError: it cannot be read, or holds no row beside its header.
    """
    lines = _text(path).splitlines()
    reader = csv.reader(lines, delimiter=_delimiter(lines))
    try:
        numbered = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(c.strip() for c in row)]
    except csv.Error as error:
        raise DatasetError(f"line {reader.line_num}: {error}", path=path) from error
    if len(numbered) < 2:
        raise DatasetError("holds no case", path=path, hint="The first row names the columns, e.g. image,label,patient")
    columns = [name.lower() for name in numbered[0][1]]
    problems = [f"column {name} is there twice" for name in dict.fromkeys(columns) if name and columns.count(name) > 1]
    problems += [
        f"line {line} has {len(row)} cells, the header {len(columns)}"
        for line, row in numbered[1:]
        if any(row[len(columns) :])
    ]
    return columns, [Row(line, dict(zip(columns, row, strict=False))) for line, row in numbered[1:]], problems


def read_columns(path: Path) -> list[str]:
    """The columns of a table in lower case; none if the file does not begin as text does."""
    with path.open("rb") as file:
        beginning = file.read(ENOUGH)
    try:
        lines = beginning.decode("utf-8-sig", errors="strict" if len(beginning) < ENOUGH else "ignore").splitlines()
    except UnicodeDecodeError:
        return []
    header = next((line for line in lines if line.strip()), "")
    return [cell.strip().strip('"').lower() for cell in header.split(_delimiter(lines))] if "\0" not in header else []


def _text(path: Path) -> str:
    if not path.is_file():
        raise DatasetError("no such file", path=path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"is not UTF-8 at byte {error.start}", path=path, hint="Save the table as UTF-8") from error


def _delimiter(lines: list[str]) -> str:
    header = next((line for line in lines if line.strip()), "")
    return max(DELIMITERS, key=header.count)
