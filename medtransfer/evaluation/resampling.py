"""Other draws of patients that the evaluation might as well have had: 95 % intervals by the bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..scoring.ratios import ratio

Floats = npt.NDArray[np.float64]
DRAWS = 2000
LEVEL = 0.95
#: with fewer patients, percentile intervals are somewhat too narrow
FEW = 20


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval.

    Args:
        value: The figure; NaN if it is not defined.
        low: Lower end; NaN with fewer than two patients.
        high: Upper end.
        n: How many cases it is over.
    """

    value: float
    low: float
    high: float
    n: int


def draw_weights(patients: Sequence[str], draws: int = DRAWS, seed: int = 0) -> Floats:
    """How often each case counts: once in the first row, then in ``draws`` redraws of the patients.

    Patients are drawn with replacement, each with all its cases, since cases of one patient are not independent.

    Args:
        patients: The patient of each of N cases.
        draws: How many.
        seed: The same always gives the same draws.

    Returns:
        (1 + draws, N)

    >>> draw_weights(["a", "a", "b"], draws=2).shape
    (3, 3)
    """
    names, number = np.unique(np.asarray(patients, dtype=object).astype(str), return_inverse=True)
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return np.concatenate([np.ones((1, len(patients))), counts[:, number].astype(float)])


def interval(values: Floats) -> tuple[float, float]:
    """The middle 95 % of the draws, NaN left out (percentile bootstrap, Efron 1979).

    >>> [round(end, 6) for end in interval(np.arange(1001.0))]
    [25.0, 975.0]
    """
    counted = values[~np.isnan(values)]
    if not len(counted):
        return float("nan"), float("nan")
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(counted, [tail, 1 - tail])
    return float(low), float(high)


def estimate(values: Floats, n: int, patients: int) -> Estimate:
    """From (1 + B,) values: the first is the figure, the others are those of the draws."""
    low, high = interval(values[1:]) if patients > 1 else (float("nan"), float("nan"))
    return Estimate(float(values[0]), low, high, n)


def weighted_means(values: Floats, weights: Floats) -> Floats:
    """Means over the cases of what is finite.

    Args:
        values: (N, M)
        weights: (B, N)

    Returns:
        (B, M): NaN where nothing is finite.

    >>> weighted_means(np.array([[1.0], [np.inf], [3.0]]), np.array([[1.0, 1.0, 1.0], [2.0, 0.0, 0.0]])).tolist()
    [[2.0], [1.0]]
    """
    finite = np.isfinite(values)
    counts = weights @ finite
    sums = weights @ np.where(finite, values, 0.0)
    return ratio(sums, counts)
