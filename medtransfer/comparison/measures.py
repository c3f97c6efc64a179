"""What a run scored on its test cases, under any weights of the cases: Dice, AUROC, accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..scoring.classification import mean_defined
from ..scoring.ratios import ratio
from .results import RunResult


@dataclass(frozen=True)
class Measure:
    """A score between 0 and 1.

    Attributes:
        name: As it stands in tables.
        scores: A run, T case ids and weights (B, T) -> (B,) scores, NaN where nothing can be scored.
    """

    name: str
    scores: Callable[[RunResult, Sequence[str], np.ndarray], np.ndarray]


def mean_dice(run: RunResult, ids: Sequence[str], weights: np.ndarray) -> np.ndarray:
    """Mean Dice over the cases; a case's is the mean over its classes, without those that are not there to be scored.

    Args:
        run: Of a segmentation task.
        ids: T case ids.
        weights: (B, T) of the cases.

    Returns:
        (B,) scores.
    """
    dice = run.dice
    scores = np.array([case_dice(dice[name]) for name in ids])
    return _weighted(scores, weights)


def case_dice(dice: Mapping[str, float]) -> float:
    """A case's score: the mean over the classes whose Dice is not NaN; NaN if none is.

    >>> case_dice({"anterior": 0.5, "posterior": 0.75, "tumour": float("nan")})
    0.625
    """
    return float(mean_defined(np.array(list(dice.values()))))


def class_dice(run: RunResult) -> dict[str, float]:
    """Mean Dice of each class over the cases that have it; NaN if none has.

    A class counts where it is in the reference or predicted, as in ``training.metrics.MeanDice``.
    """
    found: dict[str, list[float]] = {}
    for case in run.dice.values():
        for name, value in case.items():
            found.setdefault(name, []).append(value)
    return {name: float(mean_defined(np.array(values))) for name, values in found.items()}


def mean_auroc(run: RunResult, ids: Sequence[str], weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class against the rest, averaged; a class without both sides is left out.

    The area is the share of pairs (a case of the class, one of the rest) in the right order, ties counting half; each
    pair weighs the product of its cases' weights.

    Args:
        run: Of a classification task.
        ids: T case ids.
        weights: (B, T) of the cases.

    Returns:
        (B,) scores.
    """
    probabilities, labels = _answers(run, ids)
    areas = [_auroc(probabilities[:, k], labels == k, weights) for k in range(probabilities.shape[1])]
    return mean_defined(np.stack(areas, axis=-1))


def accuracy(run: RunResult, ids: Sequence[str], weights: np.ndarray) -> np.ndarray:
    """Share of the cases whose most probable class is theirs; arguments as in :func:`mean_auroc`."""
    probabilities, labels = _answers(run, ids)
    return _weighted((probabilities.argmax(axis=1) == labels).astype(float), weights)


#: By task; the first is the one that the verdict is about.
MEASURES: dict[str, tuple[Measure, ...]] = {
    "segmentation": (Measure("Dice", mean_dice),),
    "classification": (Measure("AUROC", mean_auroc), Measure("accuracy", accuracy)),
}


def _answers(run: RunResult, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (T, K) and classes (T,)."""
    answers = run.answers
    probabilities = np.array([answers[name].probabilities for name in ids])
    return probabilities, np.array([answers[name].label for name in ids])


def _auroc(score: np.ndarray, is_class: np.ndarray, weights: np.ndarray) -> np.ndarray:
    inside, outside = weights[:, is_class], weights[:, ~is_class]
    above = score[is_class][:, None] - score[~is_class][None]
    right = (above > 0) + 0.5 * (above == 0)
    pairs = inside.sum(axis=1) * outside.sum(axis=1)
    return ratio(((inside @ right) * outside).sum(axis=1), pairs)


def _weighted(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    counted = ~np.isnan(scores)
    return ratio(weights[:, counted] @ scores[counted], weights[:, counted].sum(axis=1))
