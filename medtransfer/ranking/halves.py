"""How sure a score is, from random halves of the cases.

A bootstrap draws some cases twice. Their features agree exactly, which an evidence takes for features that explain the
labels without noise, the more so the wider they are. Halves drawn without replacement have no such pairs, and about the
same spread as bootstrap samples of all cases.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from .spectrum import Floats, Indices

INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Halves:
    """Rows of random halves of the groups, and by how much a score's spread over them must be scaled.

    Source: the delete-d jackknife of Shao and Wu, Annals of Statistics 17, 1989: keeping m of n, deviations count by
    sqrt(m / (n - m)).
    """

    rows: tuple[Indices, ...]
    scale: float


def draw_halves(groups: Sequence[Hashable], strata: Sequence[Hashable], rng: np.random.Generator, count: int) -> Halves:
    """Draw halves of the groups, of each stratum apart.

    Args:
        groups: The group of each row, such as its patient; the rows of one go together.
        strata: The stratum of each row; a group is of that of its first row.
        rng: Where chance comes from.
        count: How many; there are none where every stratum is of one group.

    >>> halves = draw_halves("aabbccdd", "11111111", np.random.default_rng(0), count=2)
    >>> [len(rows) for rows in halves.rows], halves.scale
    ([4, 4], 1.0)
    """
    first = {group: row for row, group in reversed(list(enumerate(groups)))}
    members: dict[Hashable, list[Hashable]] = {}
    for group, row in sorted(first.items(), key=lambda item: item[1]):
        members.setdefault(strata[row], []).append(group)
    kept = {stratum: max(1, len(names) // 2) for stratum, names in members.items()}
    total, half = len(first), sum(kept.values())
    if half == total:
        return Halves((), 1.0)
    drawn = []
    for _ in range(count):
        chosen = {names[i] for stratum, names in members.items() for i in rng.permutation(len(names))[: kept[stratum]]}
        drawn.append(np.flatnonzero([group in chosen for group in groups]))
    return Halves(tuple(drawn), math.sqrt(half / (total - half)))


def about_score(score: float, of_halves: Floats, scale: float) -> Floats:
    """The scores of halves as those of samples of full size: about the whole's score, which is that of more cases.

    >>> about_score(1.0, np.array([0.4, 0.6]), 1.0)
    array([0.9, 1.1])
    """
    return score + scale * (of_halves - of_halves.mean()) if len(of_halves) else of_halves


def interval_of(replicates: Floats) -> tuple[float, float] | None:
    """The middle 95 %, None where there are no replicates."""
    if not len(replicates):
        return None
    low, high = np.percentile(replicates, INTERVAL)
    return float(low), float(high)


def probabilities_best(replicates: Floats) -> list[float | None]:
    """The share of replicates (k, R) in which each of k is the best; ties are shared.

    >>> probabilities_best(np.array([[1.0, 2.0], [0.0, 2.0]]))
    [0.75, 0.25]
    """
    if not replicates.size:
        return [None] * len(replicates)
    best = replicates == replicates.max(axis=0)
    shares: list[float | None] = (best / best.sum(axis=0)).mean(axis=1).tolist()
    return shares


def probability_better(replicates: Floats, others: Floats) -> float | None:
    """The share of replicates (R,) and others (k, R) in which the first is the better one; None without replicates."""
    return float((replicates > others).mean()) if others.size else None
