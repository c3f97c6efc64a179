"""What came out over all cases of a batch, class by class: volumes, boxes, probabilities, quantities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .outliers import LEAST_VALUES
from .page import Section, Table

Case = Mapping[str, Any]
#: figures of a case, by class or quantity, and what is written behind their names
UNITS = {"volumes_ml": " ml", "num_boxes": " boxes", "probabilities": "", "values": ""}


def figures(case: Case, what: str) -> dict[str, Any]:
    """One kind of figure of a case, by class; of several heads, with the head's name in front.

    >>> figures({"heads": {"organs": {"volumes_ml": {"liver": 1.5}}, "age": {}}}, "volumes_ml")
    {'organs: liver': 1.5}
    """
    heads = case.get("heads") or {}
    named = {f"{head}: {name}": value for head, one in heads.items() for name, value in (one.get(what) or {}).items()}
    return named or dict(case.get(what) or {})


def by_class(cases: Sequence[Case], what: str) -> dict[str, dict[str, float]]:
    """Class name -> case -> figure, of the cases that have one."""
    found: dict[str, dict[str, float]] = {}
    for case in cases:
        for name, value in figures(case, what).items():
            found.setdefault(name, {})[case["case"]] = value
    return found


def figure_sections(cases: Sequence[Case]) -> list[Section]:
    """A section for each kind of figure that there is."""
    found = {what: by_class(cases, what) for what in UNITS}
    return [_SECTIONS[what](each, cases) for what, each in found.items() if each]


def _volumes(volumes: Mapping[str, Mapping[str, float]], cases: Sequence[Case]) -> Section:
    if len(cases) == 1:
        rows = [[name, ml] for name, found in volumes.items() for ml in found.values()]
        return Section("Volumes", tables=[Table(["class", "ml"], rows, sortable=True)])
    header = ["class", "cases with it", "lowest ml", "25 %", "median ml", "75 %", "highest ml"]
    rows = [[name, sum(ml > 0 for ml in found.values()), *_quartiles(found)] for name, found in volumes.items()]
    few = f"Unusual volumes are looked for in batches of {LEAST_VALUES} cases or more."
    return Section("Volumes", tables=[Table(header, rows, "" if len(cases) >= LEAST_VALUES else few, sortable=True)])


def _boxes(boxes: Mapping[str, Mapping[str, float]], cases: Sequence[Case]) -> Section:
    best = by_class(cases, "best_scores")
    rows = [
        [name, sum(count > 0 for count in found.values()), sum(found.values()), _median(best.get(name, {}))]
        for name, found in boxes.items()
    ]
    header = ["class", "cases with it", "boxes", "median of the best scores"]
    return Section("Boxes", "boxes.csv has them all.", [Table(header, rows, sortable=True)])


def _shares(shares: Mapping[str, Mapping[str, float]], cases: Sequence[Case]) -> Section:
    chosen = [name for case in cases for name in _chosen(case)]
    rows = [[name, chosen.count(name), float(np.mean(list(found.values())))] for name, found in shares.items()]
    return Section("Classes", tables=[Table(["class", "cases", "mean probability"], rows, sortable=True)])


def _values(values: Mapping[str, Mapping[str, float]], cases: Sequence[Case]) -> Section:
    header = ["quantity", "cases", "lowest", "25 %", "median", "75 %", "highest"]
    rows = [[name, len(found), *_quartiles(found)] for name, found in values.items()]
    return Section("Quantities", tables=[Table(header, rows, sortable=True)])


def _chosen(case: Case) -> list[str]:
    """The most probable class, of every head that has classes."""
    heads = case.get("heads") or {}
    return [f"{head}: {one['class']}" for head, one in heads.items() if "class" in one] or [str(case.get("class"))]


def _quartiles(found: Mapping[str, float]) -> list[float]:
    return [float(value) for value in np.percentile(list(found.values()), (0, 25, 50, 75, 100))]


def _median(found: Mapping[str, float]) -> float | None:
    return float(np.median(list(found.values()))) if found else None


_SECTIONS = {"volumes_ml": _volumes, "num_boxes": _boxes, "probabilities": _shares, "values": _values}
