"""Rows of plain values as a text table (rich), without colours or terminal width, for logs and pipes."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text


def text_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in plain ASCII; columns of numbers are aligned to the right.

    Raises:
        ValueError: a row has more or fewer cells than the header.

    >>> print(text_table(["class", "Dice"], [["CSF", 0.5], ["grey matter", None]]))
    class       |  Dice
    ------------+------
    CSF         | 0.500
    grey matter |     -
    """
    table = RichTable(box=box.ASCII2, show_edge=False, pad_edge=False, padding=(0, 1))
    for index, name in enumerate(header):
        table.add_column(Text(name), justify="right" if is_numeric(rows, index) else "left", no_wrap=True)
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row of {len(row)} cells under a header of {len(header)}: {list(row)}")
        table.add_row(*(Text(cell_text(cell)) for cell in row))
    buffer = io.StringIO()
    Console(file=buffer, width=10_000, color_system=None, force_jupyter=False, legacy_windows=False).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().rstrip().splitlines())


def is_numeric(rows: Sequence[Sequence[object]], column: int) -> bool:
    """Whether a column holds numbers (or gaps) only.

    >>> is_numeric([[1, "a"], [None, "b"]], 0), is_numeric([[1, "a"]], 1)
    (True, False)
    """
    cells = [row[column] for row in rows if column < len(row) and row[column] is not None]
    return bool(cells) and all(isinstance(cell, (int, float)) for cell in cells)


def cell_text(cell: object) -> str:
    """A cell as text: floats with three digits after the point, a dash for None.

    >>> cell_text(0.12345), cell_text(7), cell_text(None), cell_text("T1")
    ('0.123', '7', '-', 'T1')
    """
    if cell is None:
        return "-"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def volume_text(ml: float) -> str:
    """A volume with three figures that matter.

    >>> volume_text(1090.5), volume_text(3.14159), volume_text(0.0)
    ('1090 ml', '3.14 ml', '0 ml')
    """
    digits = 0 if ml == 0 or ml >= 100 else 2 if ml < 10 else 1
    return f"{ml:.{digits}f} ml"
