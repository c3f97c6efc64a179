"""Anchors from the data: they fit, they are what the detector's generator makes of them, and always the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medtransfer.data.anchors import mean_best_iou, suggest_anchors
from medtransfer.errors import DatasetError, UsageError
from medtransfer.model_zoo.detection.anchors import AnchorGenerator

extents = st.floats(1, 60)
box_lists = st.lists(st.tuples(extents, extents, extents), min_size=1, max_size=12)


def made_by_the_generator(sizes: object, ratios: object, ndim: int = 3) -> np.ndarray:
    generator = AnchorGenerator(sizes, ratios, ndim=ndim, rounded=False)  # type: ignore[arg-type]
    maps = [torch.zeros(1, 1, *[1] * ndim) for _ in generator.sizes]
    boxes = generator(torch.zeros(1, 1, *[64] * ndim), maps)[0].numpy()
    return boxes[:, ndim:] - boxes[:, :ndim]


@settings(max_examples=40)
@given(box_lists, st.integers(1, 3), st.integers(1, 4))
def test_the_generator_makes_the_anchors_that_reach_the_overlap(
    boxes: list[tuple[float, float, float]], levels: int, per_level: int
) -> None:
    strides = [2**level for level in range(levels)]
    found = suggest_anchors(boxes, strides, per_level)
    assert [len(a) * len(b) for a, b in zip(found.sizes, found.aspect_ratios, strict=True)] == [per_level] * levels
    assert found == suggest_anchors(boxes, strides, per_level)
    anchors = made_by_the_generator(found.sizes, found.aspect_ratios)
    assert len(anchors) == levels * per_level
    assert mean_best_iou(boxes, anchors) == pytest.approx(found.mean_iou, abs=0.002)  # four digits
    if len(set(boxes)) == 1 and max(boxes[0]) / min(boxes[0]) < 10:
        assert found.mean_iou == pytest.approx(1)


def test_overlap_is_that_of_boxes_on_one_centre() -> None:
    box, anchor = np.array([4.0, 2.0, 6.0]), np.array([2.0, 4.0, 6.0])
    place = np.stack(np.meshgrid(*[np.linspace(-4, 4, 81)[:-1] + 0.05] * 3, indexing="ij"), axis=-1)
    inside = [(np.abs(place) < size / 2).all(axis=-1) for size in (box, anchor)]
    expected = (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum()
    assert mean_best_iou([box], np.array([anchor, [90.0, 90.0, 90.0]])) == pytest.approx(expected, abs=0.01)


def test_kinds_of_boxes_are_found() -> None:
    rng = np.random.default_rng(0)
    kinds = np.array([[4, 4, 2], [16, 16, 8], [48, 48, 24]])
    boxes = np.concatenate([kind * rng.uniform(0.95, 1.05, (20, 3)) for kind in kinds])
    found = suggest_anchors(boxes, strides=(4, 8, 16))
    assert np.allclose([size for (size,) in found.sizes], np.cbrt(kinds.prod(axis=1)), rtol=0.02)
    assert np.allclose(found.aspect_ratios[0], [[1, 0.5]], atol=0.02)
    assert found.mean_iou > 0.9


def test_larger_strides_have_larger_sizes_in_whatever_order() -> None:
    boxes = [[4, 4, 4], [8, 8, 8], [16, 16, 16]]
    assert suggest_anchors(boxes, (16, 4, 8)).sizes == ((16,), (4,), (8,))
    assert suggest_anchors(boxes, ((4, 4, 1), (16, 16, 4), (8, 8, 2))).sizes == ((4,), (16,), (8,))


def test_several_anchors_are_sizes_where_sizes_differ_and_shapes_where_shapes_do() -> None:
    sizes = suggest_anchors([[4, 4, 4], [8, 8, 8], [16, 16, 16]], (8,), 3)
    assert list(sizes.sizes) == [(4, 8, 16)]
    assert list(sizes.aspect_ratios) == [((1, 1),)]
    shapes = suggest_anchors(np.array([[8, 8, 8], [16, 8, 4], [4, 8, 16]]), (8,), 3)
    assert list(shapes.sizes) == [(8,)]
    assert sorted(shapes.aspect_ratios[0]) == [(0.5, 0.25), (1, 1), (2, 4)]


def test_in_2d_a_ratio_is_height_over_width() -> None:
    found = suggest_anchors([[12, 3], [12, 3]], (4,))
    assert (found.sizes, found.aspect_ratios) == (((6,),), ((4.0,),))
    assert np.allclose(made_by_the_generator(found.sizes, found.aspect_ratios, ndim=2), [[12, 3]], atol=0.01)


@pytest.mark.parametrize("sizes", [np.zeros((0, 3)), [], [[1, 2, 0]], [[1, 2, np.nan]]])
def test_anchors_need_boxes(sizes: object) -> None:
    with pytest.raises(DatasetError, match="anchors need boxes"):
        suggest_anchors(sizes, (4, 8))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "sizes, strides, per_level, error",
    [
        ([1, 2, 3], (4,), 1, DatasetError),
        ([["a", 2, 3]], (4,), 1, DatasetError),
        ([[1, 2, 3], [1, 2]], (4,), 1, DatasetError),
        ([[1]], (4,), 1, DatasetError),
        ([[1, 2, 3]], (), 1, UsageError),
        ([[1, 2, 3]], 4, 1, UsageError),
        ([[1, 2, 3]], ("a",), 1, UsageError),
        ([[1, 2, 3]], (4,), 0, UsageError),
        ([[1, 2, 3]], (4,), 1.5, UsageError),
    ],
)
def test_words_that_are_none_are_refused(sizes: object, strides: object, per_level: object, error: type) -> None:
    with pytest.raises(error):
        suggest_anchors(sizes, strides, per_level)  # type: ignore[arg-type]
