"""The tables of a whole batch: names by label, and what was found without a map, one row a case or a box."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..files import write_json
from ..reporting.boxes_table import write_boxes_csv
from ..reporting.label_tables import write_label_tables
from ..reporting.predictions import write_predictions_csv, write_values_csv
from .kinds import Head
from .order import Order
from .parts import Document, read_json


def write_tables(head: Head, order: Order, cases: Sequence[Document]) -> None:
    """Write the tables of one head, those that :attr:`Head.tables` names.

    Raises:
        ResourceError: the disk is full or the folder cannot be written.
    """
    _WRITERS[head.task](head, order, cases)


def _maps(head: Head, order: Order, cases: Sequence[Document]) -> None:
    write_label_tables(order.folder, head.classes, overwrite=True, names=head.tables[:3])


def _boxes(head: Head, order: Order, cases: Sequence[Document]) -> None:
    """The boxes are read from the records of the cases: the report has only their number."""
    _maps(head, order, cases)
    write_boxes_csv(order.folder / head.tables[3], _all_boxes(order.folder, cases), overwrite=True)


def _all_boxes(folder: Path, cases: Sequence[Document]) -> Iterator[tuple[str, Document]]:
    for case in cases:
        record = read_json(folder / case["outputs"][-1]) if case["outputs"] else None
        yield from ((case["case"], box) for box in (record or {}).get("boxes", ()))


def _classes(head: Head, order: Order, cases: Sequence[Document]) -> None:
    labels, table = (order.folder / name for name in head.tables)
    write_json(labels, dict(enumerate(head.classes)))
    write_predictions_csv(table, _of_head(head, cases), head.classes, overwrite=True)


def _values(head: Head, order: Order, cases: Sequence[Document]) -> None:
    (table,) = head.tables
    write_values_csv(order.folder / table, _of_head(head, cases), head.classes, overwrite=True)


def _of_head(head: Head, cases: Sequence[Document]) -> Sequence[Document]:
    """The cases as if this head were the only one."""
    if not head.name:
        return cases
    return [{"case": case["case"], **case.get("heads", {}).get(head.name, {})} for case in cases]


_WRITERS: dict[str, Any] = {
    "segmentation": _maps,
    "detection": _boxes,
    "classification": _classes,
    "regression": _values,
}
