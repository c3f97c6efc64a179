"""Average precision and FROC: by hand, by an oracle that counts one threshold after the other, and beside MONAI."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch
from monai.data.box_utils import box_iou as monai_iou
from monai.metrics.froc import compute_froc_curve_data, compute_froc_score

from medtransfer.scoring.detection import IOUS, RATES, Ranked, detection_scores
from medtransfer.scoring.matching import Boxes, Hit, box_iou, center_closeness, match_cases

CUBE = np.array([0.0, 0, 0, 4, 4, 4])


def _boxes(places: Sequence[float], scores: Sequence[float] | None = None, label: int = 1) -> Boxes:
    """Cubes with an edge of 4, each moved along the first axis."""
    moved = np.array([CUBE + np.array([place, 0, 0] * 2) for place in places]).reshape(-1, 6)
    return Boxes(moved, np.full(len(places), label), np.asarray([] if scores is None else scores, float))


def _random(seed: int, cases: int = 12, digits: int = 6) -> tuple[list[Boxes], list[Boxes]]:
    """Found and reference boxes of two classes that overlap more or less; some cases have none of either."""
    draw = np.random.default_rng(seed)
    found, wanted = [], []
    for _ in range(cases):
        low = draw.uniform(0, 20, (draw.integers(0, 6), 3))
        boxes = np.hstack([low, low + draw.uniform(3, 9, low.shape)])
        labels = draw.integers(1, 3, len(boxes))
        near = np.repeat(boxes, 2, axis=0) + draw.normal(0, 1.2, (2 * len(boxes), 6))
        far = np.hstack([corner := draw.uniform(0, 20, (draw.integers(0, 5), 3)), corner + 4])
        both = np.vstack([near, far])
        both[:, 3:] = np.maximum(both[:, 3:], both[:, :3] + 0.5)
        guess = np.concatenate([np.repeat(labels, 2), draw.integers(1, 3, len(far))])
        found.append(Boxes(both, guess, draw.uniform(0, 1, len(both)).round(digits)))
        wanted.append(Boxes(boxes, labels))
    return found, wanted


def test_overlap_is_monais_in_double_precision() -> None:
    found, wanted = (np.vstack([one.boxes for one in side]) for side in _random(0))
    assert box_iou(found, wanted) == pytest.approx(monai_iou(found, wanted), abs=1e-6)
    assert box_iou(CUBE[None], CUBE[None] * 0).tolist() == [[0.0]]
    assert box_iou(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 1, 3, 3]])).tolist() == [[1 / 7]]
    assert box_iou(np.zeros((0, 6)), wanted).shape == (0, len(wanted))


@pytest.mark.parametrize("seed", range(4))
def test_matches_are_monais(seed: int) -> None:
    found, wanted = _random(seed)
    sides = [[np.asarray(one[n]) for one in side] for side in (found, wanted) for n in range(3)]
    theirs = matching_batch(box_iou, IOUS, *sides[:3], *sides[3:5])
    for label in (1, 2):
        ours = match_cases(found, wanted, label, IOUS)
        of_class = [one[label] for one in theirs if label in one]
        assert ours.scores == pytest.approx(np.concatenate([one["dtScores"] for one in of_class]))
        assert np.array_equal(ours.hits, np.concatenate([one["dtMatches"] for one in of_class], axis=1) > 0)
        assert ours.wanted.sum() == sum(len(one["gtIgnore"]) for one in of_class)


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_cocometrics(seed: int) -> None:
    """But for recalls that are just reached, of which MONAI loses some by counting in single precision."""
    found, wanted = _random(seed)
    sides = [[np.asarray(one[n]) for one in side] for side in (found, wanted) for n in range(3)]
    metric = COCOMetric(["background", "a", "b"], iou_list=IOUS, iou_range=(0.1, 0.5, 0.4), verbose=False)
    theirs, _ = metric(matching_batch(box_iou, IOUS, *sides[:3], *sides[3:5]))
    ours = detection_scores(found, wanted, [1, 2], IOUS)
    for (row, name), (column, iou) in itertools.product(enumerate("ab"), enumerate(IOUS)):
        lost = ours.precisions[row, column] - theirs[f"{name}_AP_IoU_{iou:.2f}_MaxDet_100"]
        exact = sum(100 * n % int(ours.wanted[row]) == 0 for n in range(1, int(ours.wanted[row]) + 1))
        assert -1e-9 <= lost <= exact / 101
    assert theirs["background_AP_IoU_0.50_MaxDet_100"] == -1, "which MONAI's mean over the classes holds"


def test_seven_of_ten_reach_a_recall_of_seven_tenths() -> None:
    wanted = [_boxes(range(0, 100, 10))]
    ours = detection_scores([_boxes(range(0, 70, 10), [0.9] * 7)], wanted, [1])
    assert ours.precisions.item() == pytest.approx(71 / 101)


@pytest.mark.parametrize(
    "found, wanted, score",
    [
        (_boxes([0], [0.9]), _boxes([0]), 1.0),
        (_boxes([0, 50], [0.9, 0.8]), _boxes([0]), 1.0),  # a wrong box after all right ones costs nothing
        (_boxes([0, 50], [0.8, 0.9]), _boxes([0]), 0.5),
        (_boxes([0, 50], [0.9, 0.9]), _boxes([0]), 0.5),  # of equal scores, the order must not count
        (_boxes([50, 0], [0.9, 0.9]), _boxes([0]), 0.5),
        (_boxes([0, 0, 20], [0.9, 0.8, 0.7]), _boxes([0, 20]), (51 + 50 * 2 / 3) / 101),  # a second box is wrong
        (_boxes([0], [0.9]), _boxes([0, 20, 40, 60]), 26 / 101),
        (_boxes([]), _boxes([0]), 0.0),
        (_boxes([50], [0.9]), _boxes([0]), 0.0),
        (_boxes([0], [0.9], label=2), _boxes([0]), 0.0),
        (_boxes([0], [0.9]), _boxes([]), math.nan),
        (_boxes([]), _boxes([]), math.nan),
    ],
)
def test_average_precision_by_hand(found: Boxes, wanted: Boxes, score: float) -> None:
    assert detection_scores([found], [wanted], [1]).precisions.item() == pytest.approx(score, nan_ok=True)


def test_an_overlap_of_just_the_threshold_is_enough() -> None:
    found = Boxes(np.array([[0.0, 0, 0, 7, 1, 1]]), np.array([1]), np.array([0.9]))
    wanted = Boxes(np.array([[0.0, 0, 0, 10, 1, 1]]), np.array([1]))
    assert detection_scores([found], [wanted], [1], [0.7, 0.71]).precisions.tolist() == [[1.0, 0.0]]


def test_a_class_without_references_is_left_out_and_cases_without_any_count_for_false_positives() -> None:
    found = [_boxes([0, 9], [0.9, 0.2]), Boxes(np.array([CUBE, CUBE]), np.array([1, 2]), np.array([0.95, 0.9]))]
    scores = detection_scores(found, [_boxes([0]), _boxes([])], [1, 2])
    assert scores.left_out == (2,)
    assert scores.means.tolist() == [0.5]
    assert np.isnan(scores.precisions[1]).all()
    assert np.isnan(scores.froc[1])
    # the first right box stands behind one false positive in two scans: half a one a scan
    curve = Ranked(match_cases(found, [_boxes([0]), _boxes([])], 1, [0.5]))
    assert curve.sensitivities(np.ones((1, 2))).tolist() == [[0, 0, 1, 1, 1, 1, 1]]


def test_by_the_centre_as_luna16() -> None:
    nodule = Boxes(np.array([[0.0, 0, 0, 8, 8, 4]]), np.array([1]))  # 8 mm, in slices of 2 mm
    middle = np.array([[4.0, 4, 2], [4, 4, 4], [4, 4, 4.1], [8, 4, 2], [7, 7, 2]])
    boxes = np.hstack([middle - 0.5, middle + 0.5])
    assert (center_closeness(boxes, nodule.boxes)[:, 0] >= 0).tolist() == [True, True, False, True, False]
    found = Boxes(boxes[[0, 1, 4]], np.ones(3, int), np.array([0.8, 0.9, 0.7]))
    matched = match_cases([found], [nodule], 1, [0.5], "center")
    assert matched.hits.tolist() == [[True, False, False]]
    assert matched.ignored.tolist() == [[False, True, False]], "a second mark on a nodule is no false positive"
    scores = detection_scores([found], [nodule], [1], hit="center")
    assert (scores.precisions.item(), scores.froc.item()) == (1.0, 1.0)


def _oracle(
    found: Sequence[Boxes], wanted: Sequence[Boxes], iou: float, hit: Hit
) -> tuple[float, list[tuple[Fraction, Fraction]]]:
    """AP and FROC curve of class 1, from what is right and wrong among the boxes of at least each score."""
    total = sum(int((one.labels == 1).sum()) for one in wanted)
    marks = [mark for pair in zip(found, wanted, strict=True) for mark in _marks(*pair, iou, hit)]
    points = [(Fraction(0), Fraction(0))]
    for limit in sorted({score for score, _ in marks}, reverse=True):
        said = [right for score, right in marks if score >= limit]
        points.append((Fraction(said.count(False)), Fraction(said.count(True))))
    reached = [
        max((right / (wrong + right) for wrong, right in points[1:] if right * 100 >= step * total), default=0)
        for step in range(101)
    ]
    return float(sum(reached, Fraction(0)) / 101), [(wrong / len(found), right / total) for wrong, right in points]


def _marks(found: Boxes, wanted: Boxes, iou: float, hit: Hit) -> list[tuple[float, bool]]:
    free = [box for box, label in zip(wanted.boxes, wanted.labels, strict=True) if label == 1]
    taken, marks = [], []
    for score, box in sorted(
        ((s, b) for s, b, n in zip(found.scores, found.boxes, found.labels, strict=True) if n == 1),
        key=lambda pair: -pair[0],
    ):
        fitting = [one for one in free if _fit(box, one, hit) >= (iou if hit == "iou" else 0)]
        if fitting:
            best = max(fitting, key=lambda one: _fit(box, one, hit))
            free = [one for one in free if one is not best]
            taken.append(best)
            marks.append((float(score), True))
        elif hit == "iou" or all(_fit(box, one, hit) < 0 for one in taken):
            marks.append((float(score), False))
    return marks


def _fit(box: np.ndarray, other: np.ndarray, hit: Hit) -> float:
    if hit == "iou":
        edges = [max(0.0, min(box[n + 3], other[n + 3]) - max(box[n], other[n])) for n in range(3)]
        shared = math.prod(edges)
        volumes = [math.prod(one[n + 3] - one[n] for n in range(3)) for one in (box, other)]
        return shared / (sum(volumes) - shared)
    steps = [(box[n] + box[n + 3] - other[n] - other[n + 3]) / (other[n + 3] - other[n]) for n in range(3)]
    return 1 - math.hypot(*steps)


@pytest.mark.parametrize("hit", ["iou", "center"])
@pytest.mark.parametrize("digits", [1, 6])
@pytest.mark.parametrize("seed", range(3))
def test_the_oracle_says_the_same_of_all_cases_and_of_any_draw(seed: int, digits: int, hit: Hit) -> None:
    found, wanted = _random(seed, digits=digits)
    drawn = np.random.default_rng(seed).integers(0, len(found), len(found))
    weights = np.stack([np.ones(len(found)), np.bincount(drawn, minlength=len(found))])
    for rule, iou in enumerate((0.2, 0.5) if hit == "iou" else (0.5,)):
        curve = Ranked(match_cases(found, wanted, 1, [0.2, 0.5], hit), rule)
        precisions, sensitivities = curve.average_precision(weights), curve.sensitivities(weights)
        for row, chosen in enumerate((range(len(found)), drawn)):
            exact, points = _oracle([found[n] for n in chosen], [wanted[n] for n in chosen], iou, hit)
            assert precisions[row] == pytest.approx(exact, abs=1e-12)
            x, y = np.array([[float(value) for value in point] for point in points]).T
            assert sensitivities[row] == pytest.approx(np.interp(RATES, x, y), abs=1e-12)


def test_froc_is_monais_where_a_nodule_was_missed() -> None:
    found, wanted = _random(5, cases=30)
    matched = match_cases(found, wanted, 1, [0.3])
    right = matched.scores[matched.hits[0]]
    missed = int(matched.wanted.sum()) - len(right)
    assert missed > 0, "else MONAI drops the lowest score of all"
    points = compute_froc_curve_data(
        matched.scores[matched.wrong[0]], np.append(right, [0.0] * missed), int(matched.wanted.sum()), len(found)
    )
    theirs = compute_froc_score(*points, eval_thresholds=RATES)
    assert Ranked(matched).sensitivities(np.ones((1, 30))).mean() == pytest.approx(theirs, abs=1e-12)


def test_curves_begin_and_end_where_they_should() -> None:
    matched = match_cases([_boxes([0, 50, 90], [0.9, 0.8, 0.1])], [_boxes([0, 20])], 1, [0.5])
    x, y = Ranked(matched).froc_curve()
    assert (x.tolist(), y.tolist()) == ([0, 0, 0, 2], [0, 0, 0.5, 0.5])
    recall, precision = Ranked(matched).precision_recall_curve()
    assert (recall.tolist(), precision.tolist()) == ([0, 0.5], [1, 1])
    nothing = match_cases([_boxes([0], [0.9])], [_boxes([])], 1, [0.5])
    assert not any(len(side) for side in (*Ranked(nothing).froc_curve(), *Ranked(nothing).precision_recall_curve()))
