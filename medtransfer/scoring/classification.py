"""Scores of classified cases from their probabilities: right or wrong, in the right order, and well calibrated."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .ranking_curves import auroc, average_precision
from .ratios import ratio

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
AnyInts = npt.NDArray[np.integer[Any]]

#: scores of all cases together; the mean over the classes where a class has one of its own
CASE_SCORES = ("accuracy", "balanced_accuracy", "f1", "auroc", "auprc", "brier", "ece")
#: scores of one class against the rest
CLASS_SCORES = ("sensitivity", "specificity", "precision", "f1", "auroc", "auprc")
BINS = 10


class Scores(NamedTuple):
    """``overall`` by name (...), ``by_class`` by name (..., K)."""

    overall: dict[str, Floats]
    by_class: dict[str, Floats]


def classification_scores(probabilities: Floats, labels: Ints, bins: int = BINS) -> Scores:
    """All scores, of one set of cases or of many draws of it at once.

    A score that is not defined is NaN, and left out of means over classes: AUROC of a class that no case has, or all;
    AUPRC and sensitivity of one that no case has; precision of one that is never predicted; F1 of one that is neither.

    Args:
        probabilities: (..., N, K).
        labels: (..., N) the true classes, 0 to K - 1.
        bins: For the calibration error.

    Returns:
        Accuracy, balanced accuracy (mean sensitivity), Brier (1950: sum over the classes, 0 to 2), ECE, and the means
        of F1, AUROC and AUPRC over the classes; and the scores of each class against the rest.

    >>> scores = classification_scores(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, 1]))
    >>> [round(scores.overall[name].item(), 3) for name in ("accuracy", "balanced_accuracy", "auroc", "brier")]
    [0.667, 0.75, 1.0, 0.273]
    """
    classes = np.arange(probabilities.shape[-1])
    is_class = labels[..., None] == classes
    by_class = _threshold_scores(confusion(probabilities.argmax(axis=-1), labels, len(classes)))
    for name, area in (("auroc", auroc), ("auprc", average_precision)):
        by_class[name] = area(np.moveaxis(probabilities, -1, -2), np.moveaxis(is_class, -1, -2))
    overall = {
        "accuracy": (probabilities.argmax(axis=-1) == labels).mean(axis=-1),
        "balanced_accuracy": mean_defined(by_class["sensitivity"]),
        **{name: mean_defined(by_class[name]) for name in ("f1", "auroc", "auprc")},
        "brier": ((probabilities - is_class) ** 2).sum(axis=-1).mean(axis=-1),
        "ece": calibration_error(probabilities, labels, bins),
    }
    return Scores(overall, by_class)


def confusion(predicted: AnyInts, labels: AnyInts, num_classes: int) -> Ints:
    """(..., K, K) counts: rows are the true classes, columns the predicted ones.

    >>> confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    leading = labels.shape[:-1]
    draw = np.arange(int(np.prod(leading))).reshape(*leading, 1)
    numbers = (draw * num_classes + labels) * num_classes + predicted
    counts = np.bincount(numbers.ravel(), minlength=int(np.prod(leading)) * num_classes**2)
    return counts.reshape(*leading, num_classes, num_classes)


def calibration_bins(probabilities: Floats, labels: Ints, bins: int = BINS) -> tuple[Floats, Floats, Floats]:
    """Share of the cases, mean confidence and accuracy, each (..., bins), of equally wide bins of the confidence.

    The confidence is the highest probability of a case. Empty bins have share 0 and NaN.

    Source: Guo et al. 2017, On calibration of modern neural networks.
    """
    confidence = probabilities.max(axis=-1)
    right = probabilities.argmax(axis=-1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    in_bin = place[..., None] == np.arange(bins)
    cases = in_bin.sum(axis=-2)
    sums = [(values[..., None] * in_bin).sum(axis=-2) for values in (confidence, right)]
    mean, accuracy = (ratio(total, cases) for total in sums)
    return cases / labels.shape[-1], mean, accuracy


def calibration_error(probabilities: Floats, labels: Ints, bins: int = BINS) -> Floats:
    """Expected calibration error: mean distance of confidence and accuracy over the bins, weighed by their cases.

    >>> calibration_error(np.array([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1])).round(6).item()
    0.3
    """
    share, mean, accuracy = calibration_bins(probabilities, labels, bins)
    return np.asarray(np.nansum(share * np.abs(mean - accuracy), axis=-1))


def mean_defined(values: Floats) -> Floats:
    """Mean over the last axis, NaN left out; NaN if there is nothing else.

    >>> mean_defined(np.array([[1.0, np.nan], [np.nan, np.nan]])).tolist()
    [1.0, nan]
    """
    return ratio(np.nansum(values, axis=-1), (~np.isnan(values)).sum(axis=-1))


def _threshold_scores(table: Ints) -> dict[str, Floats]:
    right = np.diagonal(table, axis1=-2, axis2=-1)
    wanted, found = table.sum(axis=-1), table.sum(axis=-2)
    others = table.sum(axis=(-2, -1))[..., None] - wanted
    parts = {
        "sensitivity": (right, wanted),
        "specificity": (others - (found - right), others),
        "precision": (right, found),
        "f1": (2 * right, wanted + found),
    }
    return {name: ratio(part, whole) for name, (part, whole) in parts.items()}
