"""The scores of all cases of a segmentation, as arrays and as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..scoring.classification import mean_defined
from .names import Names
from .resampling import weighted_means
from .scores import ABSENT, BOTH, FACTS, INVENTED, MISSED, SCORE_NAMES
from .segmentation import CaseResult, ClassResult

Floats = npt.NDArray[np.float64]
_NOTHING = dict.fromkeys(SCORE_NAMES, float("nan")) | dict.fromkeys(FACTS, 0.0)


@dataclass(frozen=True)
class Segmented:
    """What came out of the cases that could be scored.

    Args:
        names: The classes.
        results: One a case.
        patients: The patient of each case.
    """

    names: Names
    results: tuple[CaseResult, ...]
    patients: tuple[str, ...]

    task = "segmentation"
    overall_scores = SCORE_NAMES
    class_scores = SCORE_NAMES

    @property
    def cases(self) -> tuple[str, ...]:
        """Names of the cases."""
        return tuple(result.case for result in self.results)

    @cached_property
    def values(self) -> Floats:
        """(N, K, S) scores of each case and class; NaN where not defined, infinite for distances to nothing."""
        return np.array([[[one.scores[name] for name in SCORE_NAMES] for one in case] for case in self._grid]).reshape(
            len(self.results), len(self.names), len(SCORE_NAMES)
        )

    @cached_property
    def outcomes(self) -> npt.NDArray[np.str_]:
        """(N, K): ``both``, ``missed``, ``invented`` or ``absent``."""
        shape = (len(self.results), len(self.names))
        return np.array([[one.outcome for one in case] for case in self._grid], dtype=str).reshape(shape)

    def column(self, name: str, label: int) -> Floats:
        """(N,) a score or fact of one class."""
        place = list(self.names).index(label)
        return np.array([case[place].scores[name] for case in self._grid], dtype=float)

    def draws(self, weights: Floats) -> tuple[Floats, Floats]:
        """Means under weights (B, N) of the cases.

        Returns:
            (B, S) means over the classes, and (B, K, S) of each class over the cases where the score is defined.
        """
        count, classes, scores = self.values.shape
        means = weighted_means(self.values.reshape(count, -1), weights).reshape(-1, classes, scores)
        return mean_defined(np.moveaxis(means, 1, 2)), means

    def counted(self) -> npt.NDArray[np.int64]:
        """(K, S): over how many cases each mean is."""
        return np.isfinite(self.values).sum(axis=0)

    def counted_overall(self, score: str) -> int:
        """Over how many cases a mean is: those where the score is defined for a class at least."""
        values = self.values[:, :, SCORE_NAMES.index(score)]
        return int(np.isfinite(values).any(axis=1).sum())

    def rows(self) -> list[dict[str, Any]]:
        """One a case and class, in this order."""
        return [
            {
                "case": result.case,
                "patient": patient,
                "label": one.label,
                "class": self.names[one.label],
                "outcome": one.outcome,
                **{name: _number(name, one.scores[name]) for name in (*SCORE_NAMES, *FACTS)},
            }
            for result, patient, classes in zip(self.results, self.patients, self._grid, strict=True)
            for one in classes
        ]

    def facts(self) -> dict[str, dict[str, Any]]:
        """By class: what was there, missed, invented; and its lesions over all cases together."""
        return {name: self._facts(place, label) for place, (label, name) in enumerate(self.names.items())}

    def _facts(self, place: int, label: int) -> dict[str, Any]:
        outcomes = self.outcomes[:, place]
        counts = {outcome: int((outcomes == outcome).sum()) for outcome in (BOTH, MISSED, INVENTED, ABSENT)}
        lesions = {name: int(self.column(name, label).sum()) for name in FACTS if name.startswith("lesions")}
        return {"label": label, "outcomes": counts, "lesions": lesions}

    @cached_property
    def _grid(self) -> list[list[ClassResult]]:
        """All classes of all cases; those in neither mask are absent."""
        found: list[Mapping[int, ClassResult]] = [{one.label: one for one in case.classes} for case in self.results]
        return [[case.get(label) or ClassResult(label, ABSENT, _NOTHING) for label in self.names] for case in found]


def found_names(results: Sequence[CaseResult]) -> Names:
    """The labels that any case has, called by their numbers."""
    return {label: str(label) for label in sorted({one.label for case in results for one in case.classes})}


def _number(name: str, value: float) -> float | int:
    return int(value) if name.startswith("lesions") else float(value)
