"""Quantities that were estimated, against true ones from a table: errors, explained variance, correlation."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.rows import read_rows
from ..data.targets import is_unknown
from ..errors import DatasetError
from ..scoring.classification import mean_defined
from ..scoring.ratios import ratio
from .documents import head_documents
from .names import Names
from .probabilities import case_of

Floats = npt.NDArray[np.float64]
REGRESSION_SCORES = ("mae", "rmse", "bias", "r2", "pearson")
ERRORS = ("mae", "rmse", "bias")
_ALONE = ("value", "label", "target")  # columns of a table that has a single quantity


@dataclass(frozen=True)
class Regressed:
    """Estimated and true values of Q quantities in N cases.

    Args:
        names: The quantities by number.
        cases: N names.
        patients: The patient of each case.
        found: (N, Q)
        wanted: (N, Q); NaN where the true value is not known, which counts nowhere.
    """

    names: Names
    cases: tuple[str, ...]
    patients: tuple[str, ...]
    found: Floats
    wanted: Floats

    task = "regression"
    overall_scores = REGRESSION_SCORES
    class_scores = REGRESSION_SCORES

    def draws(self, weights: Floats) -> tuple[Floats, Floats]:
        """Scores under weights (B, N) of the cases: (B, S) means over the quantities, (B, Q, S) of each.

        Errors of several quantities have no mean, which is NaN: each has its own unit.
        """
        places = range(len(self.names))
        by_name = np.stack([_scores(self.found[:, n], self.wanted[:, n], weights) for n in places], axis=1)
        means = mean_defined(np.moveaxis(by_name, 1, 2))
        if len(self.names) > 1:
            means[:, [REGRESSION_SCORES.index(name) for name in ERRORS]] = np.nan
        return means, by_name

    def counted(self) -> npt.NDArray[np.int64]:
        """(Q, S): over how many cases each score is."""
        known = np.isfinite(self.wanted).sum(axis=0)
        return np.repeat(known[:, None], len(REGRESSION_SCORES), axis=1)

    def counted_overall(self, score: str) -> int:
        """Over how many cases a score is."""
        return int(np.isfinite(self.wanted).any(axis=1).sum())

    def rows(self) -> list[dict[str, Any]]:
        """One a case and quantity whose true value is known."""
        return [
            {
                "case": case,
                "patient": patient,
                "quantity": name,
                "reference": float(self.wanted[row, place]),
                "predicted": float(self.found[row, place]),
                "error": float(self.found[row, place] - self.wanted[row, place]),
            }
            for row, (case, patient) in enumerate(zip(self.cases, self.patients, strict=True))
            for place, name in enumerate(self.names.values())
            if np.isfinite(self.wanted[row, place])
        ]

    def facts(self) -> dict[str, dict[str, Any]]:
        """By quantity: how many cases have a true value, its mean and its range."""
        return {name: _facts(self.wanted[:, place]) for place, name in enumerate(self.names.values())}


def read_values(place: str | os.PathLike[str], head: str | None) -> dict[str, dict[str, float]]:
    """Estimated values by case and quantity, of the ``CASE.json`` files of a prediction folder.

    Raises:
        DatasetError: there are none, or one is no finite number, or cases have different quantities.
    """
    path = Path(place)
    told = [one for one in head_documents(path, head) if isinstance(one.get("values"), Mapping)]
    found = {str(one["case"]): {str(name): value for name, value in one["values"].items()} for one in told}
    if not found:
        raise DatasetError("holds no values", path=path, hint="Give the prediction folder of a regression")
    names = list(next(iter(found.values())))
    for case, values in found.items():
        if list(values) != names:
            raise DatasetError(f"case {case} has other quantities: {', '.join(values)}", path=path)
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in values.values()):
            raise DatasetError(f"case {case}: a value is no finite number: {list(values.values())}", path=path)
    return found


def read_true_values(
    place: str | os.PathLike[str], names: Sequence[str], head: str | None = None
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """True values by case, in the order of the names, and patients; a value that is not known is NaN.

    Args:
        place: A table with a column for each quantity.
        names: The quantities; a single one may also stand in a column ``value``, ``label`` or ``target``.
        head: Of a network with several: the name of one more such column.

    Raises:
        DatasetError: a column is missing, a cell is no number, or a case occurs twice.
    """
    path = Path(place)
    if path.is_dir():
        raise DatasetError("is a folder, but true values stand in a table", path=path, hint="Name its CSV file")
    columns, rows, problems = read_rows(path)
    alone = ((head or "").lower(), *_ALONE) if len(names) == 1 else ()
    chosen = [_column((name, *alone), columns, path) for name in names]
    values: dict[str, list[float]] = {}
    patients: dict[str, str] = {}
    for row in rows:
        case = case_of(row, path)
        problems += [f"case {case} occurs twice"] if case in values else []
        values[case] = [_number(row.get(column), f"line {row.line}: {column}", problems) for column in chosen]
        patients |= {case: row.get("patient")} if row.get("patient") else {}
    if problems:
        raise DatasetError("; ".join(problems[:8]), path=path)
    return values, patients


def _column(names: Sequence[str], columns: Sequence[str], path: Path) -> str:
    """The first of the names that is a column."""
    column = next((name.lower() for name in names if name and name.lower() in columns), None)
    if column is None:
        raise DatasetError(f"column {names[0]} is missing, found {', '.join(columns)}", path=path)
    return column


def _number(cell: str, place: str, problems: list[str]) -> float:
    try:
        return math.nan if is_unknown(cell) else float(cell)
    except ValueError:
        problems.append(f"{place} is {cell!r}, not a number")
        return math.nan


def _scores(found: Floats, wanted: Floats, weights: Floats) -> Floats:
    """(B, S) of one quantity under weights (B, N), over the cases with a true value."""
    known = np.isfinite(wanted)
    x, y, shares = found[known], wanted[known], weights[:, known]
    count = shares.sum(axis=1)
    mean_x, mean_y = ratio(shares @ x, count), ratio(shares @ y, count)
    error, squares = x - y, ratio(shares @ (x - y) ** 2, count)
    # about each draw's own mean, so that nothing is lost of values far from zero
    off_x, off_y = x - mean_x[:, None], y - mean_y[:, None]
    spread_x, spread_y = (ratio((shares * off**2).sum(axis=1), count) for off in (off_x, off_y))
    common = ratio((shares * off_x * off_y).sum(axis=1), count)
    scores = {
        "mae": ratio(shares @ np.abs(error), count),
        "rmse": np.sqrt(squares),
        "bias": ratio(shares @ error, count),
        "r2": 1 - ratio(squares, spread_y),
        "pearson": ratio(common, np.sqrt(spread_x * spread_y)),
    }
    return np.stack([scores[name] for name in REGRESSION_SCORES], axis=-1)


def _facts(wanted: Floats) -> dict[str, Any]:
    known = wanted[np.isfinite(wanted)]
    figures = (known.mean(), known.min(), known.max()) if len(known) else (math.nan,) * 3
    return {"cases": len(known), **dict(zip(("mean", "lowest", "highest"), map(float, figures), strict=True))}
