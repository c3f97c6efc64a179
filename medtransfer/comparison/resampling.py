"""Other draws of seeds and test cases that the comparison might as well have had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Resampling:
    """Weights of seeds and test cases, drawn once and used for every arm and number of cases.

    Both are resampled, since a claim is about other patients and other runs. Every run answers the same test cases, so
    the two are crossed (seeds are not nested in cases), and each is drawn on its own (the pigeonhole bootstrap).

    Test cases are drawn with replacement: their weights are counts.

    Seeds are too few for that. Three drawn from three never leave the range of the three, and such an interval holds
    the truth in about three of four comparisons rather than in 95 of 100. So a draw weighs the seeds by random
    multipliers: 1/S plus centred normal deviates over the root of S times a chi-square value with S - 1 degrees of
    freedom. Where the test cases do not matter, the interval is then Student's over the seeds' means. It is wide for
    three seeds, as it must be; more seeds make it narrower at once. One seed has no spread: its intervals hold for
    other test cases, and say nothing about other seeds.

    Since all arms and sizes have the same weights in a draw, differences are paired in seeds and in cases. What belongs
    to one seed and one case together is drawn with either, so intervals are a little wide where that is the largest
    part (as Owen shows for crossed bootstraps): they err on the careful side.

    Source: Owen, The pigeonhole bootstrap, Annals of Applied Statistics 2007; multipliers as in the wild bootstrap
    (Wu, Annals of Statistics 1986); on narrow bootstrap intervals of few samples Hesterberg, American Statistician
    2015.

    Attributes:
        seeds: S seeds.
        case_weights: (B, T) counts of the test cases.
        normals: (B, S) normal deviates, one a seed.
        squares: (B, S) squares of normal deviates: the first S - 1 add up to the chi-square value.
    """

    seeds: tuple[int, ...]
    case_weights: np.ndarray
    normals: np.ndarray
    squares: np.ndarray

    def seed_weights(self, seeds: Sequence[int]) -> np.ndarray:
        """Weights of some of the seeds, in their order.

        Returns:
            (B, len(seeds)) weights that add up to 1; single ones may lie below 0 or above 1.

        >>> drawn = draw_resampling([0, 1, 2], num_cases=5, draws=4)
        >>> drawn.seed_weights([0, 2]).sum(axis=1).round(6).tolist()
        [1.0, 1.0, 1.0, 1.0]
        """
        count = len(seeds)
        if count == 1:
            return np.ones((len(self.normals), 1))
        chosen = self.normals[:, [self.seeds.index(seed) for seed in seeds]]
        chi_square = self.squares[:, : count - 1].sum(axis=1, keepdims=True)
        return 1 / count + (chosen - chosen.mean(axis=1, keepdims=True)) / np.sqrt(count * chi_square)


def draw_resampling(seeds: Sequence[int], num_cases: int, draws: int = DRAWS, generator_seed: int = 0) -> Resampling:
    """Draw the weights; the same arguments always give the same.

    Args:
        seeds: All seeds of the comparison.
        num_cases: T, the number of test cases.
        draws: B, how many.
        generator_seed: Of the random numbers.
    """
    generator = np.random.default_rng(generator_seed)
    counts = generator.multinomial(num_cases, np.full(num_cases, 1 / num_cases), size=draws).astype(float)
    normals, others = generator.standard_normal((2, draws, len(seeds)))
    return Resampling(tuple(seeds), counts, normals, others**2)


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The middle ``level`` of the values, NaN left out; ends are values themselves, so that infinite ones may be.

    >>> interval(np.arange(1001.0))
    (25.0, 975.0)
    """
    counted = values[~np.isnan(values)]
    if not len(counted):
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low = np.quantile(counted, tail, method="lower")
    return float(low), float(np.quantile(counted, 1 - tail, method="higher"))
