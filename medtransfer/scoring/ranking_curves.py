"""How well scores put one class before the rest: areas under the ROC and the precision-recall curve, and the curves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .ratios import ratio

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def auroc(scores: Floats, is_class: Bools) -> Floats:
    """Area under the ROC curve: the chance that a case of the class has the higher score; equal ones count half.

    By ranks (Mann and Whitney 1947), over the last axis, so that many draws of cases go at once.

    Args:
        scores: (..., N).
        is_class: (..., N) whether a case is of the class.

    Returns:
        (...): NaN where all cases are of the class, or none.

    >>> auroc(np.array([0.9, 0.4, 0.4, 0.1]), np.array([True, True, False, False])).item()
    0.875
    """
    wanted = is_class.sum(axis=-1)
    pairs = wanted * (is_class.shape[-1] - wanted)
    # read when it is needed: it takes longer than scoring a mask
    from scipy.stats import rankdata

    above = (rankdata(scores, axis=-1) * is_class).sum(axis=-1) - wanted * (wanted + 1) / 2
    return ratio(above, pairs)


def average_precision(scores: Floats, is_class: Bools) -> Floats:
    """Area under the precision-recall curve as steps: mean precision at the cases of the class.

    Equal scores are one step. Source: scikit-learn's and MONAI's average precision, with which it agrees.

    Args:
        scores: (..., N).
        is_class: (..., N).

    Returns:
        (...): NaN where no case is of the class.

    >>> average_precision(np.array([0.9, 0.4, 0.4, 0.1]), np.array([True, True, False, False])).item()
    0.8333333333333333
    """
    order = np.argsort(-scores, axis=-1, kind="stable")
    ordered, hits = np.take_along_axis(scores, order, axis=-1), np.take_along_axis(is_class, order, axis=-1)
    precision = np.cumsum(hits, axis=-1) / np.arange(1, scores.shape[-1] + 1)
    at_step = np.take_along_axis(precision, _step_ends(ordered), axis=-1)
    return ratio((at_step * hits).sum(axis=-1), hits.sum(axis=-1))


def roc_curve(scores: Floats, is_class: Bools) -> tuple[Floats, Floats]:
    """False and true positive rates (M,), from (0, 0) to (1, 1), one a distinct score.

    >>> [values.tolist() for values in roc_curve(np.array([0.9, 0.4]), np.array([True, False]))]
    [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
    """
    true, false = _counts(scores, is_class)
    return false / false[-1], true / true[-1]


def precision_recall_curve(scores: Floats, is_class: Bools) -> tuple[Floats, Floats]:
    """Recall and precision (M,) with rising recall, one a distinct score.

    >>> [values.tolist() for values in precision_recall_curve(np.array([0.9, 0.4]), np.array([True, False]))]
    [[1.0, 1.0], [1.0, 0.5]]
    """
    true, false = (counts[1:] for counts in _counts(scores, is_class))
    return true / true[-1], true / (true + false)


def _counts(scores: Floats, is_class: Bools) -> tuple[Floats, Floats]:
    """True and false positives from the strictest threshold to the loosest, with 0 before the first."""
    order = np.argsort(-scores, kind="stable")
    ends = np.unique(_step_ends(scores[order]))
    true = np.concatenate([[0.0], np.cumsum(is_class[order])[ends]])
    return true, np.concatenate([[0.0], ends + 1.0]) - true


def _step_ends(ordered: Floats) -> npt.NDArray[np.int64]:
    """For each of the sorted scores, the last place that has the same."""
    places = np.broadcast_to(np.arange(ordered.shape[-1]), ordered.shape)
    is_last = np.concatenate([ordered[..., 1:] != ordered[..., :-1], np.ones_like(ordered[..., :1], bool)], axis=-1)
    ends = np.where(is_last, places, ordered.shape[-1])
    return np.minimum.accumulate(ends[..., ::-1], axis=-1)[..., ::-1]
