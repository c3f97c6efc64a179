"""What the runs of a comparison show: scores, differences to scratch and their worth in cases, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np

from .gathered import SCRATCH, Gathered
from .measures import Measure
from .resampling import DRAWS, Resampling, draw_resampling, interval
from .worth import cases_for

HELPS, HURTS, NO_DIFFERENCE = "helps", "hurts", "no difference shown"
TOO_FEW_SEEDS = "too few seeds to say"
LEAST_SEEDS = 3


@dataclass(frozen=True)
class Estimate:
    """A figure of an arm at a number of labelled cases, over its seeds and the test cases.

    Attributes:
        arm, training_cases, seeds: Which runs.
        value, low, high: The figure and its 95 % interval.
    """

    arm: str
    training_cases: int
    seeds: tuple[int, ...]
    value: float
    low: float
    high: float


_Kind = TypeVar("_Kind", bound=Estimate)


@dataclass(frozen=True)
class Score(Estimate):
    """Mean score.

    Attributes:
        spread: Standard deviation of the seeds' means; None for one seed, or where nothing can be scored.
    """

    spread: float | None


@dataclass(frozen=True)
class Difference(Estimate):
    """The score less that of scratch with as many labelled cases, over the seeds that both have.

    Attributes:
        verdict: ``helps`` or ``hurts`` if the interval leaves out 0, else ``no difference shown``; below three seeds
            ``too few seeds to say``.
    """

    verdict: str


@dataclass(frozen=True)
class Worth(Estimate):
    """The number of labelled cases with which scratch reaches the arm's score: ``-inf`` below ``sizes``, ``inf`` above.

    Attributes:
        sizes: Fewest and most cases that scratch was measured with.
    """

    sizes: tuple[int, int]


@dataclass(frozen=True)
class Analysis:
    """All figures of one measure."""

    measure: str
    scores: tuple[Score, ...]
    differences: tuple[Difference, ...]
    worths: tuple[Worth, ...]

    def score(self, arm: str, size: int) -> Score | None:
        """The arm's score at a size, if it was run."""
        return _find(self.scores, arm, size)

    def difference(self, arm: str, size: int) -> Difference | None:
        """The arm's difference to scratch at a size, if both were run with a common seed and scored."""
        return _find(self.differences, arm, size)

    def worth(self, arm: str, size: int) -> Worth | None:
        """The worth of the arm's score at a size, if scratch was scored with two sizes or more."""
        return _find(self.worths, arm, size)


def _find(estimates: Sequence[_Kind], arm: str, size: int) -> _Kind | None:
    return next((found for found in estimates if (found.arm, found.training_cases) == (arm, size)), None)


def analyse(gathered: Gathered, measure: Measure, draws: int = DRAWS) -> Analysis:
    """All scores, differences and worths of a comparison, with 95 % percentile intervals.

    Seeds and test cases are resampled, the same for all arms and sizes (see :class:`~.resampling.Resampling`), so that
    an interval is about other patients of the same kind and other seeds: other training cases of the same number,
    other random starts. It is not about other hospitals, other test sets or other settings. Seeds that one side of a
    difference lacks are left out on both.

    Args:
        gathered: The runs.
        measure: What is compared.
        draws: How often seeds and cases are drawn.
    """
    statistics = _Statistics(gathered, measure, draw_resampling(gathered.seeds, len(gathered.test_cases), draws))
    against = [cell for cell in gathered.cells if cell[0] != SCRATCH]
    differences = [statistics.difference(*cell) for cell in against]
    worths = [statistics.worth(*cell) for cell in against]
    return Analysis(
        measure.name,
        tuple(statistics.score(*cell) for cell in gathered.cells),
        tuple(found for found in differences if found),
        tuple(found for found in worths if found),
    )


def verdict(low: float, high: float, num_seeds: int) -> str:
    """What an interval of a difference to scratch says.

    >>> verdict(0.01, 0.05, 3), verdict(-0.05, -0.01, 3), verdict(-0.01, 0.05, 3), verdict(0.01, 0.05, 2)
    ('helps', 'hurts', 'no difference shown', 'too few seeds to say')
    """
    if num_seeds < LEAST_SEEDS:
        return TOO_FEW_SEEDS
    if low > 0:
        return HELPS
    return HURTS if high < 0 else NO_DIFFERENCE


class _Statistics:
    """The runs' scores as measured (row 0) and under each draw of weights (the rows after it)."""

    def __init__(self, gathered: Gathered, measure: Measure, resampling: Resampling) -> None:
        self.gathered, self.resampling = gathered, resampling
        measured = np.ones((1, len(gathered.test_cases)))
        weights = np.concatenate([measured, resampling.case_weights])
        self.by_run = {
            cell: {seed: measure.scores(run, gathered.test_cases, weights) for seed, run in runs.items()}
            for cell, runs in gathered.runs.items()
        }
        # the curve from scratch is the same for most arms
        self.scratch_curve = lru_cache(maxsize=None)(self._scratch_curve)

    def score(self, arm: str, size: int) -> Score:
        seeds = self.seeds_of((arm, size))
        means = self.means((arm, size), seeds)
        by_seed = [self.by_run[arm, size][seed][0] for seed in seeds]
        spread = float(np.std(by_seed, ddof=1)) if len(seeds) > 1 and np.isfinite(by_seed).all() else None
        low, high = np.clip(interval(means[1:]), 0, 1)
        return Score(arm, size, seeds, float(means[0]), float(low), float(high), spread)

    def difference(self, arm: str, size: int) -> Difference | None:
        seeds = self.seeds_of((arm, size), (SCRATCH, size))
        if not seeds:
            return None
        means = self.means((arm, size), seeds) - self.means((SCRATCH, size), seeds)
        if np.isnan(means[0]):
            return None
        low, high = (float(end) for end in np.clip(interval(means[1:]), -1, 1))
        return Difference(arm, size, seeds, float(means[0]), low, high, verdict(low, high, len(seeds)))

    def worth(self, arm: str, size: int) -> Worth | None:
        sizes = tuple(s for s in self.gathered.sizes if (SCRATCH, s) in self.by_run)
        seeds = self.seeds_of((arm, size), *((SCRATCH, s) for s in sizes))
        if len(sizes) < 2 or not seeds:
            return None
        found = cases_for(self.means((arm, size), seeds), sizes, self.scratch_curve(sizes, seeds))
        if np.isnan(found[0]):
            return None
        return Worth(arm, size, seeds, float(found[0]), *interval(found[1:]), (sizes[0], sizes[-1]))

    def seeds_of(self, *cells: tuple[str, int]) -> tuple[int, ...]:
        """Seeds that all these (arm, size) have."""
        return tuple(seed for seed in self.gathered.seeds if all(seed in self.by_run.get(cell, {}) for cell in cells))

    def means(self, cell: tuple[str, int], seeds: Sequence[int]) -> np.ndarray:
        """(1 + B,) means over the seeds."""
        scores = np.stack([self.by_run[cell][seed] for seed in seeds], axis=1)
        equal = np.full((1, len(seeds)), 1 / len(seeds))
        return np.asarray((scores * np.concatenate([equal, self.resampling.seed_weights(seeds)])).sum(axis=1))

    def _scratch_curve(self, sizes: tuple[int, ...], seeds: tuple[int, ...]) -> np.ndarray:
        return np.stack([self.means((SCRATCH, size), seeds) for size in sizes], axis=1)
