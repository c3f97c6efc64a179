"""Means with their intervals, over the classes and of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .classified import Classified
from .detected import Detected
from .regressed import Regressed
from .resampling import DRAWS, Estimate, draw_weights, estimate
from .segmented import Segmented

Floats = npt.NDArray[np.float64]
Results: TypeAlias = "Segmented | Classified | Detected | Regressed"


@dataclass(frozen=True)
class Drawn:
    """Results under the draws of patients.

    Args:
        results: The results.
        number: How many draws.
        seed: Of the draws.
    """

    results: Results
    number: int = DRAWS
    seed: int = 0

    @property
    def num_patients(self) -> int:
        """How many patients the cases are of."""
        return len(set(self.results.patients))

    @cached_property
    def _draws(self) -> tuple[Floats, Floats]:
        return self.results.draws(draw_weights(self.results.patients, self.number, self.seed))

    @property
    def overall(self) -> Floats:
        """(1 + B, S)"""
        return self._draws[0]

    @property
    def by_class(self) -> Floats:
        """(1 + B, K, S')"""
        return self._draws[1]

    def mean(self, score: str) -> Estimate:
        """Of a score over the classes."""
        place = self.results.overall_scores.index(score)
        return self._estimate(self.overall[:, place], self.results.counted_overall(score))

    def of_class(self, name: str, score: str) -> Estimate:
        """Of a score of one class."""
        places = list(self.results.names.values()).index(name), self.results.class_scores.index(score)
        return self._estimate(self.by_class[:, places[0], places[1]], int(self.results.counted()[places]))

    def to_dict(self) -> dict[str, Any]:
        """All figures, plain."""
        facts = self.results.facts()
        return {
            "cases": len(self.results.cases),
            "patients": self.num_patients,
            "mean": {score: _plain(self.mean(score)) for score in self.results.overall_scores},
            "classes": {
                name: {
                    **facts[name],
                    "scores": {score: _plain(self.of_class(name, score)) for score in self.results.class_scores},
                }
                for name in self.results.names.values()
            },
        }

    def _estimate(self, values: Floats, n: int) -> Estimate:
        return estimate(values, n, min(n, self.num_patients))


def _plain(found: Estimate) -> dict[str, float | int]:
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}


def interval_text(found: Estimate) -> str:
    """``0.812 (0.790 to 0.834)``; without an interval where there is none; a dash where there is nothing.

    >>> interval_text(Estimate(0.8125, 0.79, 0.834, 5)), interval_text(Estimate(float("nan"), 0, 0, 0))
    ('0.812 (0.790 to 0.834)', '-')
    """
    if np.isnan(found.value):
        return "-"
    ends = "" if np.isnan(found.low) else f" ({found.low:.3f} to {found.high:.3f})"
    return f"{found.value:.3f}{ends}"


def defined_scores(drawn: Drawn, names: Sequence[str]) -> list[str]:
    """Those of the scores that are defined for a class at least."""
    places = [drawn.results.class_scores.index(name) for name in names]
    values = drawn.by_class[0]
    return [name for name, place in zip(names, places, strict=True) if not np.isnan(values[:, place]).all()]
