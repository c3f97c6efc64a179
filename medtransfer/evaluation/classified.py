"""The scores of all cases of a classification, as arrays and as rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..scoring.classification import BINS, CASE_SCORES, CLASS_SCORES, classification_scores, confusion
from .names import Names

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Classified:
    """Probabilities and true classes of N cases.

    Args:
        names: The classes by number.
        cases: N names.
        patients: The patient of each case.
        probabilities: (N, K)
        labels: (N,) the true classes.
        bins: Of the calibration error.
    """

    names: Names
    cases: tuple[str, ...]
    patients: tuple[str, ...]
    probabilities: Floats
    labels: npt.NDArray[np.int64]
    bins: int = BINS

    task = "classification"
    overall_scores = CASE_SCORES
    class_scores = CLASS_SCORES

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """(N,) the classes of the highest probability."""
        return self.probabilities.argmax(axis=1)

    def draws(self, weights: Floats) -> tuple[Floats, Floats]:
        """Scores under whole-numbered weights (B, N) of the cases: (B, S) of all, (B, K, S') of each class."""
        scores = [self._scores(np.repeat(np.arange(len(self.labels)), row.astype(int))) for row in weights]
        return np.stack([overall for overall, _ in scores]), np.stack([by_class for _, by_class in scores])

    def _scores(self, chosen: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        found = classification_scores(self.probabilities[chosen], self.labels[chosen], self.bins)
        overall = np.array([found.overall[name] for name in CASE_SCORES])
        return overall, np.stack([found.by_class[name] for name in CLASS_SCORES], axis=-1)

    def counted(self) -> npt.NDArray[np.int64]:
        """(K, S'): over how many cases each score is."""
        return np.full((len(self.names), len(CLASS_SCORES)), len(self.cases))

    def counted_overall(self, score: str) -> int:
        """Over how many cases a score is."""
        return len(self.cases)

    def rows(self) -> list[dict[str, Any]]:
        """One a case: its true and its predicted class, and the probabilities."""
        names = list(self.names.values())
        return [
            {
                "case": case,
                "patient": patient,
                "class": names[label],
                "predicted": names[guess],
                "right": bool(label == guess),
                **{f"probability_{name}": float(share) for name, share in zip(names, shares, strict=True)},
            }
            for case, patient, label, guess, shares in zip(
                self.cases, self.patients, self.labels, self.predicted, self.probabilities, strict=True
            )
        ]

    def facts(self) -> dict[str, dict[str, Any]]:
        """By class: how many cases have it, how many were taken for it, and what its cases were taken for."""
        table = confusion(self.predicted, self.labels, len(self.names))
        names = list(self.names.values())
        return {
            name: {
                "cases": int(table[number].sum()),
                "predicted": int(table[:, number].sum()),
                "predicted_as": dict(zip(names, table[number].tolist(), strict=True)),
            }
            for number, name in enumerate(names)
        }
