"""Scores of found boxes: average precision as COCO's, and FROC as LUNA16's, of all cases or of many draws of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .classification import mean_defined
from .matching import Boxes, Hit, Matched, match_cases

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
#: least overlaps of the table of average precisions
IOUS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
#: those whose mean is the mAP of nnDetection and of MONAI's COCOMetric: boxes in 3-D overlap less than in 2-D
RANGE = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
#: false positives a scan at which LUNA16 reads the sensitivity
RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
STEPS = 100  # COCO reads the precision at 101 recalls


@dataclass(frozen=True)
class DetectionScores:
    """Scores of K classes over all cases; a class without a reference box has NaN, and is left out of means.

    Attributes:
        labels: The classes.
        thresholds: T least overlaps.
        precisions: (K, T) average precision.
        froc: (K,) mean sensitivity at the rates of false positives, with the rule of the first threshold.
        wanted: (K,) reference boxes.
    """

    labels: tuple[int, ...]
    thresholds: tuple[float, ...]
    precisions: Floats
    froc: Floats
    wanted: npt.NDArray[np.int64]

    @property
    def means(self) -> Floats:
        """(T,) mAP at each threshold: the mean over the classes that have reference boxes; NaN if none has."""
        return mean_defined(self.precisions.T)

    @property
    def left_out(self) -> tuple[int, ...]:
        """Classes without a reference box, which are in no mean."""
        return tuple(label for label, count in zip(self.labels, self.wanted, strict=True) if not count)


def detection_scores(
    found: Sequence[Boxes],
    wanted: Sequence[Boxes],
    labels: Sequence[int],
    thresholds: Sequence[float] = (0.5,),
    hit: Hit = "iou",
    rates: Sequence[float] = RATES,
) -> DetectionScores:
    """Average precisions and FROC scores of all classes.

    Args:
        found: Of N cases.
        wanted: The reference boxes of the same cases; cases without any count for the false positives.
        labels: K classes.
        thresholds: T least overlaps of a hit, the first one also that of FROC; with ``"center"`` T is 1.
        hit: By overlap, or by the centre: see :func:`~medtransfer.scoring.matching.match_cases`.
        rates: False positives a case, at which FROC reads the sensitivity.

    >>> boxes = np.array([[0, 0, 0, 4, 4, 4], [5, 5, 5, 9, 9, 9]])
    >>> found = Boxes(boxes + [0, 0, 0, 0, 0, 2], np.array([1, 1]), np.array([0.9, 0.8]))
    >>> scores = detection_scores([found], [Boxes(boxes, np.array([1, 1]))], [1, 2], [0.5, 0.75])
    >>> scores.means.tolist(), scores.left_out
    ([1.0, 0.0], (2,))
    """
    matched = [match_cases(found, wanted, label, thresholds, hit) for label in labels]
    once = np.ones((1, len(found)))
    count = len(thresholds) if hit == "iou" else 1
    curves = [[Ranked(one, rule) for rule in range(count)] for one in matched]
    precisions = [[curve.average_precision(once)[0] for curve in of_class] for of_class in curves]
    froc = [of_class[0].sensitivities(once, rates).mean() for of_class in curves]
    shape = (len(labels), count)
    return DetectionScores(
        tuple(labels),
        tuple(thresholds[:count]),
        np.array(precisions, float).reshape(shape),
        np.array(froc, float),
        np.array([one.wanted.sum() for one in matched], np.int64),
    )


class Curve(NamedTuple):
    """A line from left to right: ``x`` and ``y`` are (P,)."""

    x: Floats
    y: Floats


@dataclass(frozen=True)
class Ranked:
    """Found boxes of one class under one rule, by descending score; all figures follow from it for any draw of cases.

    Boxes of equal score are one step, so that the order of the cases changes nothing. Only the P scores of right boxes
    are steps of a curve, since between two of them nothing but precision is lost.

    Attributes:
        matched: The boxes.
        rule: Which of its rules.
    """

    matched: Matched
    rule: int = 0

    @cached_property
    def steps(self) -> Floats:
        """(P,) the scores of right boxes, each once, descending."""
        return np.unique(self.matched.scores[self.matched.hits[self.rule]])[::-1]

    @cached_property
    def right(self) -> Floats:
        """(N, P) right boxes of each case down to each step."""
        return self._counts(self.matched.hits[self.rule], "left")

    @cached_property
    def wrong(self) -> Floats:
        """(N, P) false positives of each case down to each step."""
        return self._counts(self.matched.wrong[self.rule], "left")

    @cached_property
    def wrong_before(self) -> Floats:
        """(N, P) false positives of each case with a higher score than the step's."""
        return self._counts(self.matched.wrong[self.rule], "right")

    def average_precision(self, weights: Floats) -> Floats:
        """Mean over 101 recalls of the highest precision that is reached at the recall or a higher one.

        Counted in whole numbers: 7 of 10 reach the recall 0.7, which pycocotools and MONAI lose to rounding.

        Args:
            weights: (B, N) how often each case counts, whole numbers.

        Returns:
            (B,): NaN where there is no reference box.

        Source: pycocotools' ``accumulate`` (COCO 2014).
        """
        right, wrong, wanted = weights @ self.right, weights @ self.wrong, weights @ self.matched.wanted
        precision = np.maximum.accumulate(_share(right, right + wrong)[:, ::-1], axis=1)[:, ::-1]
        reached = np.floor(_share(STEPS * right, np.broadcast_to(wanted[:, None], right.shape))) + 1
        total = (np.diff(reached, axis=1, prepend=0) * precision).sum(axis=1)
        return np.where(wanted > 0, total / (STEPS + 1), np.nan)

    def sensitivities(self, weights: Floats, rates: Sequence[float] = RATES) -> Floats:
        """Sensitivity at rates of false positives a case, on straight lines between the steps of the FROC curve.

        Args:
            weights: (B, N) how often each case counts.
            rates: R of them.

        Returns:
            (B, R): NaN where there is no reference box.

        Source: LUNA16's and CAMELYON16's evaluation; MONAI's ``compute_froc_score``.
        """
        x, y = self._froc(weights)
        return np.stack([np.interp(rates, *line) for line in zip(x, y, strict=True)]).reshape(len(weights), len(rates))

    def precision_recall_curve(self) -> Curve:
        """Precision over recall at each step, from recall 0 on; empty without reference boxes."""
        right, wrong, wanted = self.right.sum(axis=0), self.wrong.sum(axis=0), self.matched.wanted.sum()
        if not wanted:
            return Curve(np.zeros(0), np.zeros(0))
        precision = _share(right, right + wrong)
        return Curve(np.append(0.0, right / wanted), np.append(precision[:1] if len(precision) else 0.0, precision))

    def froc_curve(self) -> Curve:
        """Sensitivity over false positives a case; empty without reference boxes."""
        if not self.matched.wanted.sum():
            return Curve(np.zeros(0), np.zeros(0))
        x, y = self._froc(np.ones((1, len(self.matched.wanted))))
        end = self.matched.wrong[self.rule].sum() / len(self.matched.wanted)
        return Curve(np.append(x[0], end), np.append(y[0], y[0, -1]))

    def _froc(self, weights: Floats) -> tuple[Floats, Floats]:
        """(B, 1 + 2 P) false positives a case, and sensitivity: flat up to the start of each step."""
        cases, wanted = weights.sum(axis=1, keepdims=True), (weights @ self.matched.wanted)[:, None]
        found = weights @ self.right
        reached = np.divide(found, wanted, out=np.full(found.shape, np.nan), where=wanted > 0)
        before = np.diff(reached, axis=1, prepend=0)
        x = np.stack([weights @ self.wrong_before, weights @ self.wrong], axis=-1) / cases[..., None]
        y = np.stack([reached - before, reached], axis=-1)
        start = np.where(wanted > 0, 0.0, np.nan)
        flat = (len(weights), -1)
        return np.hstack([np.zeros_like(cases), x.reshape(flat)]), np.hstack([start, y.reshape(flat)])

    def _counts(self, chosen: Bools, side: str) -> Floats:
        """(N, P) the chosen boxes of each case from each step's score on; ``right``: above it."""
        cases, steps = len(self.matched.wanted), len(self.steps)
        scores = self.matched.scores[chosen]
        place = np.searchsorted(-self.steps, -scores, side=side)  # type: ignore[call-overload]
        kept = place < steps
        flat = self.matched.cases[chosen][kept] * steps + place[kept]
        counts = np.bincount(flat, minlength=cases * steps).reshape(cases, steps)
        return np.cumsum(counts, axis=1).astype(float)


def _share(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
