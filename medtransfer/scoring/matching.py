"""Which found box finds which reference box: overlap, or the centre that lies in it; the highest score goes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Hit = Literal["iou", "center"]
#: an overlap of all but a rounding error is one of all
_ALL = 1 - 1e-10


class Boxes(NamedTuple):
    """Boxes of one case.

    Attributes:
        boxes: (N, 2 ndim) lower corner, then upper corner.
        labels: (N,) class numbers.
        scores: (N,) of found boxes; not read of reference boxes.
    """

    boxes: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    scores: npt.NDArray[Any] = np.zeros(0)


@dataclass(frozen=True)
class Matched:
    """The boxes of one class over N cases: M were found, and T rules say which of them are right.

    Attributes:
        label: The class.
        wanted: (N,) reference boxes of each case.
        cases: (M,) number of the case of each found box, 0 to N - 1.
        numbers: (M,) place of each found box among those of its case.
        scores: (M,) descending within a case.
        partners: (T, M) place of the reference box that it finds among those of its case; -1: none.
        ignored: (T, M) neither right nor wrong.
        overlaps: (T, M) intersection over union with the partner; 0 without one.
    """

    label: int
    wanted: Ints
    cases: Ints
    numbers: Ints
    scores: Floats
    partners: Ints
    ignored: Bools
    overlaps: Floats

    @property
    def hits(self) -> Bools:
        """(T, M) whether a box finds a reference box."""
        return self.partners >= 0

    @property
    def wrong(self) -> Bools:
        """(T, M) whether a box is a false positive."""
        return ~self.hits & ~self.ignored


class _Case(NamedTuple):
    """The found boxes of one case: fields as those of :class:`Matched`."""

    numbers: Ints
    scores: Floats
    partners: Ints
    ignored: Bools
    overlaps: Floats


def box_iou(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Floats:
    """Intersection over union of boxes in any number of dimensions, in double precision; 0 for boxes without volume.

    MONAI's ``box_iou`` counts in single precision, which an overlap of just the threshold may not reach.

    Args:
        a: (N, 2 ndim) lower corner, then upper corner.
        b: (M, 2 ndim)

    Returns:
        (N, M)

    >>> box_iou(np.array([[0, 0, 0, 10, 1, 1]]), np.array([[0, 0, 0, 7, 1, 1], [10, 0, 0, 11, 1, 1]])).tolist()
    [[0.7, 0.0]]
    """
    (low_a, high_a), (low_b, high_b) = _corners(a), _corners(b)
    common = np.minimum(high_a[:, None], high_b) - np.maximum(low_a[:, None], low_b)
    shared = np.clip(common, 0, None).prod(axis=-1)
    either = (high_a - low_a).prod(axis=-1)[:, None] + (high_b - low_b).prod(axis=-1) - shared
    return np.divide(shared, either, out=np.zeros(shared.shape), where=either > 0)


def center_closeness(found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> Floats:
    """How near the centre of a box lies to that of a reference box: 1 at it, 0 on the ellipsoid that fills the box.

    Of a box with edges of equal length in mm the ellipsoid is the ball with the nodule's radius of LUNA16; it is the
    same whether it is counted in voxels or in mm.

    Returns:
        (N, M), negative outside.

    >>> nodule = np.array([[0.0, 0, 0, 8, 8, 4]])
    >>> center_closeness(np.array([[4.0, 4, 2, 6, 6, 4]]), nodule).round(3).tolist()
    [[0.388]]
    """
    (low_a, high_a), (low_b, high_b) = _corners(found), _corners(wanted)
    apart = np.abs((low_a + high_a)[:, None] - (low_b + high_b)) / 2
    radius = np.broadcast_to((high_b - low_b) / 2, apart.shape)
    steps = np.divide(apart, radius, out=np.where(apart > 0, np.inf, 0.0), where=radius > 0)
    return np.asarray(1 - np.sqrt((steps**2).sum(axis=-1)))


def match_cases(
    found: Sequence[Boxes], wanted: Sequence[Boxes], label: int, thresholds: Sequence[float], hit: Hit = "iou"
) -> Matched:
    """Match the boxes of one class in all cases.

    In the order of their scores, each box takes the reference box that it fits best of those that are still free.
    With ``"iou"`` a second box on a reference box that is taken is wrong, as COCO counts; with ``"center"`` it is
    neither right nor wrong, as LUNA16 counts.

    Args:
        found: Of N cases.
        wanted: The reference boxes of the same cases.
        label: The class.
        thresholds: T least overlaps; with ``"center"`` not read, and T is 1.
        hit: Whether a box is right by its overlap, or by its centre.

    Source: pycocotools' ``evaluateImg`` (COCO 2014), of which MONAI's ``matching_batch`` is the 3-D form: a test holds
    that the matches are the same. Setio et al. 2017 (LUNA16).

    >>> two = Boxes(np.array([[0, 0, 0, 2, 2, 2], [0, 0, 0, 2, 2, 1]]), np.array([1, 1]), np.array([0.5, 0.9]))
    >>> one = Boxes(two.boxes[:1], two.labels[:1])
    >>> matched = match_cases([two], [one], 1, [0.5, 0.75])
    >>> matched.scores.tolist(), matched.hits.tolist()
    ([0.9, 0.5], [[True, False], [False, True]])
    """
    cases = [_match(a, b, label, np.asarray(thresholds, float), hit) for a, b in zip(found, wanted, strict=True)]
    joined = {name: np.concatenate([getattr(case, name) for case in cases], axis=-1) for name in _Case._fields}
    numbers = np.repeat(np.arange(len(cases)), [len(case.scores) for case in cases])
    counts = np.array([np.count_nonzero(np.asarray(one.labels) == label) for one in wanted])
    return Matched(label=label, wanted=counts, cases=numbers, **joined)


def _match(found: Boxes, wanted: Boxes, label: int, thresholds: Floats, hit: Hit) -> _Case:
    chosen = np.flatnonzero(np.asarray(found.labels) == label)
    scores = np.asarray(found.scores, float)[chosen]
    order = np.argsort(-scores, kind="stable")
    boxes, references = found.boxes[chosen[order]], wanted.boxes[np.asarray(wanted.labels) == label]
    overlaps = box_iou(boxes, references)
    fits = overlaps if hit == "iou" else center_closeness(boxes, references)
    least = np.minimum(thresholds, _ALL) if hit == "iou" else np.zeros(1)
    partners = _greedy(fits, least)
    near = (fits >= 0).any(axis=1) if hit == "center" else np.zeros(len(boxes), bool)
    shared = np.where(partners >= 0, _of_partners(overlaps, partners), 0.0)
    return _Case(chosen[order], scores[order], partners, near & (partners < 0), shared)


def _greedy(fits: Floats, least: Floats) -> Ints:
    """(T, D) the free reference box that each of D boxes fits best, by at least one of T limits; of equal ones the
    last."""
    partners = np.full((len(least), len(fits)), -1)
    if not fits.size:
        return partners
    free = np.ones((len(least), fits.shape[1]), bool)
    for box in np.flatnonzero(fits.max(axis=1) >= least.min()):
        possible = np.where(free & (fits[box] >= least[:, None]), fits[box], -np.inf)
        best = possible.shape[1] - 1 - possible[:, ::-1].argmax(axis=1)
        rules = np.flatnonzero(np.isfinite(possible[np.arange(len(least)), best]))
        partners[rules, box] = best[rules]
        free[rules, best[rules]] = False
    return partners


def _of_partners(overlaps: Floats, partners: Ints) -> Floats:
    return overlaps[np.arange(len(overlaps)), np.maximum(partners, 0)] if overlaps.size else np.zeros(partners.shape)


def _corners(boxes: npt.NDArray[Any]) -> tuple[Floats, Floats]:
    values = np.asarray(boxes, float)
    return values[:, : values.shape[1] // 2], values[:, values.shape[1] // 2 :]
