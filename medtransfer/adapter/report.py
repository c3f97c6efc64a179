"""The receipt of a transfer: every tensor of both sides, once, with what happened to it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

#: rows a group shows in the table; ``to_dict`` holds all
SHOWN = 8


@dataclass(frozen=True)
class Entry:
    """One tensor.

    Attributes:
        key: The target's key; the source's where the target has no such tensor.
        how: What was done, or why not.
        source_key: The source's own key, prefixes included.
        source_shape, target_shape: Shapes; None where a side has no such tensor.
    """

    key: str
    how: str = ""
    source_key: str | None = None
    source_shape: tuple[int, ...] | None = None
    target_shape: tuple[int, ...] | None = None


@dataclass
class TransferReport:
    """What moved and what did not.

    Attributes:
        loaded: Copied as they are.
        adapted: Copied after a change that ``how`` names.
        dropped: Left out on request, such as the head.
        missing: In the target only: they keep their initial values.
        unexpected: In the source only.
        mismatched: On both sides, with shapes that do not fit.
        coverage: Share of the target encoder's parameters, by count, that came from the source: 0 to 1.
        source_format: Where the weights came from and how they are named.
        architecture: What the source's network looks like, such as ``resnet18``; None if that cannot be told.
        notes: Anything else worth saying.
    """

    source_format: str = ""
    architecture: str | None = None
    coverage: float = 0.0
    loaded: list[Entry] = field(default_factory=list)
    adapted: list[Entry] = field(default_factory=list)
    dropped: list[Entry] = field(default_factory=list)
    missing: list[Entry] = field(default_factory=list)
    unexpected: list[Entry] = field(default_factory=list)
    mismatched: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    GROUPS = ("loaded", "adapted", "dropped", "missing", "unexpected", "mismatched")

    def groups(self) -> Iterator[tuple[str, list[Entry]]]:
        """(name, entries) of each group, in the order of the report."""
        for name in self.GROUPS:
            yield name, getattr(self, name)

    def summary(self) -> str:
        """One line: counts of all groups and the coverage."""
        counts = ", ".join(f"{len(entries)} {name}" for name, entries in self.groups() if entries)
        looks = f" (looks like {self.architecture})" if self.architecture else ""
        return f"from {self.source_format}{looks}: {counts}; {self.coverage:.1%} of the encoder's parameters"

    def to_dict(self) -> dict[str, Any]:
        """All of the report as plain data, shapes as lists."""
        return asdict(self)

    def __str__(self) -> str:
        table = Table("group", "key", "source", "target", "what")
        for name, entries in self.groups():
            if name == "loaded":
                continue
            for entry in entries[:SHOWN]:
                table.add_row(
                    name, entry.key, shown_shape(entry.source_shape), shown_shape(entry.target_shape), entry.how
                )
            if len(entries) > SHOWN:
                table.add_row(name, f"... and {len(entries) - SHOWN} more", "", "", "")
        lines = [self.summary(), *self.notes]
        return "\n".join(lines + ([render_table(table)] if table.row_count else []))


def render_table(table: Table) -> str:
    """A table as plain text of at most 140 columns."""
    out = io.StringIO()
    # notebooks too get plain text: rich would print there at once
    Console(file=out, width=140, color_system=None, force_jupyter=False, force_terminal=False).print(table)
    return out.getvalue().rstrip()


def shown_shape(shape: tuple[int, ...] | None) -> str:
    """A shape as ``64x1x7x7x7``; empty for None."""
    return "" if shape is None else "x".join(map(str, shape)) or "scalar"
