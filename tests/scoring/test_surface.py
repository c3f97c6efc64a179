"""Surface distances: equal to MONAI's where it defines them, to hand-computed values where it does not."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from monai.metrics import (
    HausdorffDistanceMetric,
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from monai.metrics.utils import get_edge_surface_distance

from medtransfer.scoring.surface import surface, surface_distances

SPACING = st.tuples(*[st.sampled_from([0.3, 0.7, 1.0, 1.3, 2.5, 5.0])] * 3)
MASKS = array_shapes(min_dims=3, max_dims=3, max_side=6).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)


def _one_hot(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(mask.astype(np.float32))[None, None]


def _of_monai(mask: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...], tolerance: float) -> list[float]:
    pair, options = (_one_hot(mask), _one_hot(reference)), {"include_background": True, "spacing": spacing}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [
            compute_surface_dice(*pair, [tolerance], **options),
            compute_hausdorff_distance(*pair, **options),
            compute_average_surface_distance(*pair, symmetric=True, **options),
            compute_hausdorff_distance(*pair, percentile=95, **options),
        ]
    return [float(one) for one in found]


@settings(max_examples=30, deadline=None)
@given(MASKS, SPACING, st.sampled_from([0.0, 0.3, 0.7, 1.0, 2.0, 2.1]))
def test_equal_to_monai_where_both_masks_hold_something(
    masks: tuple[np.ndarray, np.ndarray], spacing: tuple[float, ...], tolerance: float
) -> None:
    assume(masks[0].any() and masks[1].any())
    found = surface_distances(*masks, spacing)
    nsd, hd, assd, hd95 = _of_monai(*masks, spacing, tolerance)
    assert (found.nsd(tolerance), found.hd, found.assd) == pytest.approx((nsd, hd, assd), rel=1e-6, abs=1e-6)
    # MONAI interpolates percentiles in single precision: compared with its own distances in double precision instead
    _, parts, _ = get_edge_surface_distance(*map(torch.from_numpy, masks), spacing=spacing, symmetric=True)
    exact = max(np.percentile(part.double().numpy(), 95) for part in parts)
    assert found.hd95 == pytest.approx(exact, rel=1e-6, abs=1e-6)
    assert found.hd95 == pytest.approx(hd95, rel=1e-4, abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(MASKS, SPACING)
def test_by_brute_force(masks: tuple[np.ndarray, np.ndarray], spacing: tuple[float, ...]) -> None:
    assume(masks[0].any() and masks[1].any())
    places = [np.argwhere(_surface_by_hand(mask)) * spacing for mask in masks]
    table = np.linalg.norm(places[0][:, None] - places[1][None], axis=2)
    found = surface_distances(*masks, spacing)
    assert np.sort(found.to_reference) == pytest.approx(np.sort(table.min(axis=1)))
    assert np.sort(found.to_prediction) == pytest.approx(np.sort(table.min(axis=0)))


def _surface_by_hand(mask: np.ndarray) -> np.ndarray:
    padded, steps = (
        np.pad(mask, 1),
        [step for step in itertools.product((-1, 0, 1), repeat=3) if np.abs(step).sum() == 1],
    )
    inner = [np.roll(padded, step, (0, 1, 2))[1:-1, 1:-1, 1:-1] for step in steps]
    return mask & ~np.all(inner, axis=0)


def test_the_edge_of_the_image_is_surface() -> None:
    assert surface(np.ones((3, 4, 5), bool)).sum() == 60 - 1 * 2 * 3
    # a half that fills the image up to its edges: 3 planes of 4 voxels; the voxels at the edges agree
    half, more = np.zeros((6, 4, 1), bool), np.zeros((6, 4, 1), bool)
    half[:3], more[:4] = True, True
    found = surface_distances(half, more, (2.0, 1.0, 1.0))
    assert found.hd == 2.0
    assert found.assd == pytest.approx(4 * 2.0 / (12 + 16))


@pytest.mark.parametrize("missed", [True, False])
def test_one_empty_mask_is_infinitely_far_and_nsd_is_0(missed: bool) -> None:
    something, nothing = np.zeros((2, 4, 4, 4), bool)
    something[1:3, 1:3, 1:3] = True
    masks = (nothing, something) if missed else (something, nothing)
    found = surface_distances(*masks, (1.0, 1.0, 1.0))
    assert (found.nsd(2.0), found.hd, found.hd95, found.assd) == (0.0, math.inf, math.inf, math.inf)
    # MONAI: infinite, but NaN for the percentile, which its mean then turns into a perfect 0
    nsd, hd, assd, hd95 = _of_monai(*masks, (1.0, 1.0, 1.0), 2.0)
    assert (nsd, hd, assd) == (0.0, math.inf, math.inf)
    assert math.isnan(hd95)
    metric = HausdorffDistanceMetric(include_background=True, percentile=95, reduction="mean_batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric(*map(_one_hot, masks))
    assert float(metric.aggregate()) == 0.0


def test_two_empty_masks_define_nothing() -> None:
    nothing = np.zeros((3, 3, 3), bool)
    found = surface_distances(nothing, nothing, (1.0, 1.0, 1.0))
    values: Any = (found.nsd(2.0), found.hd, found.hd95, found.assd)
    assert all(math.isnan(value) for value in values)


def test_single_voxels_and_a_tolerance_of_just_the_distance() -> None:
    one, other = np.zeros((2, 9, 3, 3), bool)
    one[2, 1, 1], other[5, 1, 1] = True, True
    found = surface_distances(one, other, (0.7, 1.0, 1.0))  # 3 x 0.7 is 2.0999999999999996
    assert (found.hd, found.hd95, found.assd) == pytest.approx((2.1, 2.1, 2.1))
    assert (found.nsd(2.1), found.nsd(2.09)) == (1.0, 0.0)
