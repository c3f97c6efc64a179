"""How many labelled cases a score is worth: where the rising curve from scratch reaches it, over log(cases)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def rising(values: np.ndarray) -> np.ndarray:
    """The closest curve that never falls, by least squares (isotonic regression), along the last axis.

    More labelled cases do not make a model worse; where measured scores fall, it is by chance, and the neighbours are
    averaged.

    Source: the max-min formula of Robertson, Wright and Dykstra, Order Restricted Statistical Inference, 1988.

    >>> rising(np.array([0.5, 0.75, 0.25, 1.0])).tolist()
    [0.5, 0.5, 0.5, 1.0]
    """
    count = values.shape[-1]
    sums = np.concatenate([np.zeros_like(values[..., :1]), np.cumsum(values, axis=-1)], axis=-1)

    def lowest_mean(start: int, through: int) -> np.ndarray:
        ends = range(through + 1, count + 1)
        return np.min([(sums[..., end] - sums[..., start]) / (end - start) for end in ends], axis=0)

    fitted = [np.max([lowest_mean(start, i) for start in range(i + 1)], axis=0) for i in range(count)]
    return np.stack(fitted, axis=-1)


def cases_for(score: np.ndarray, sizes: Sequence[int], curve: np.ndarray) -> np.ndarray:
    """The smallest number of cases at which a curve reaches a score.

    Between the sizes the curve is straight over the logarithm of their number. Nothing is extrapolated.

    Args:
        score: (B,) scores.
        sizes: K rising numbers of cases.
        curve: (B, K) scores at the sizes; made to rise by :func:`rising`.

    Returns:
        (B,) numbers of cases; ``-inf`` for a score below the curve, ``inf`` above it, NaN if anything is NaN.

    >>> curve = np.array([[0.5, 0.75]] * 4)
    >>> cases_for(np.array([0.25, 0.5, 0.625, 0.9]), [4, 16], curve).round(6).tolist()
    [-inf, 4.0, 8.0, inf]
    """
    fitted, logs = rising(curve), np.log(np.asarray(sizes, dtype=float))
    reached = fitted >= score[:, None]
    after = np.clip(reached.argmax(axis=1), 1, None)
    row = np.arange(len(score))
    low, high = fitted[row, after - 1], fitted[row, after]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.clip((score - low) / (high - low), 0, 1)
    between = np.exp(logs[after - 1] + share * (logs[after] - logs[after - 1]))
    at_first = np.where(score < fitted[:, 0], -np.inf, float(sizes[0]))
    found = np.where(reached[:, 0], at_first, np.where(reached.any(axis=1), between, np.inf))
    return np.where(np.isnan(score) | np.isnan(curve).any(axis=1), np.nan, found)
