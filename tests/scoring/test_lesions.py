"""Lesions by hand: what touches, what is matched, what is empty."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medtransfer.scoring.lesions import Lesions, match_lesions


def _mask(*boxes: tuple[slice, ...]) -> np.ndarray:
    mask = np.zeros((12, 12, 12), bool)
    for box in boxes:
        mask[box] = True
    return mask


def _cube(first: int, size: int = 2) -> tuple[slice, ...]:
    return (slice(first, first + size),) * 3


def test_corners_connect() -> None:
    assert match_lesions(_mask(_cube(0), _cube(2)), _mask()).found == 1
    assert match_lesions(_mask(_cube(0), _cube(3)), _mask()).found == 2


def test_one_prediction_over_two_lesions_detects_both_but_pairs_with_one() -> None:
    mask, reference = _mask(_cube(0, 7)), _mask(_cube(0, 2), _cube(4, 3))
    assert match_lesions(mask, reference) == Lesions(wanted=2, detected=2, found=1, right=1)
    assert match_lesions(mask, reference, min_iou=0.01) == Lesions(wanted=2, detected=1, found=1, right=1)
    assert match_lesions(mask, reference, min_iou=0.5) == Lesions(wanted=2, detected=0, found=1, right=0)


def test_pairs_are_as_many_as_can_be() -> None:
    # the first component could take either lesion, the second only the first lesion
    reference = np.zeros((1, 1, 12), bool)
    reference[..., 0:4], reference[..., 5:9] = True, True
    mask = np.zeros_like(reference)
    mask[..., 3:6], mask[..., 0:2] = True, True
    assert match_lesions(mask, reference, min_iou=0.1).detected == 2


def test_iou_is_over_the_whole_components() -> None:
    mask, reference = _mask(_cube(0, 3)), _mask(_cube(0, 2))
    assert match_lesions(mask, reference, min_iou=8 / 27).detected == 1
    assert match_lesions(mask, reference, min_iou=8 / 27 + 0.01).detected == 0


@pytest.mark.parametrize(
    "mask, reference, scores",
    [
        (_mask(), _mask(), (math.nan, math.nan, math.nan)),
        (_mask(), _mask(_cube(0)), (0.0, math.nan, 0.0)),
        (_mask(_cube(0)), _mask(), (math.nan, 0.0, 0.0)),
        (_mask(_cube(0), _cube(6)), _mask(_cube(0)), (1.0, 0.5, 2 / 3)),
    ],
)
def test_empty_sides(mask: np.ndarray, reference: np.ndarray, scores: tuple[float, ...]) -> None:
    found = match_lesions(mask, reference)
    assert (found.sensitivity, found.precision, found.f1) == pytest.approx(scores, nan_ok=True)
