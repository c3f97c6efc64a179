"""Boxes are where their masks are: against brute force, through every change of grid, and to the world and back."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medtransfer.errors import UsageError
from medtransfer.volumes.boxes import (
    box_volumes,
    boxes_from_world,
    boxes_to_world,
    clip_boxes,
    draw_boxes,
    move_boxes,
)
from medtransfer.volumes.grid import Grid
from medtransfer.volumes.regrid import build_regrid
from medtransfer.volumes.structures import boxes_of_labels

from .test_regrid import ORIENTATIONS, build_affine, spacings

shapes = st.tuples(*[st.integers(1, 7)] * 3)
masks = arrays(np.int16, shapes, elements=st.integers(-1, 3))


@st.composite
def boxes_in(draw: st.DrawFn, shape: tuple[int, ...] = (9, 8, 7)) -> np.ndarray:
    """Up to four boxes of whole voxels inside of a volume."""
    one = st.tuples(*[st.tuples(st.integers(0, size - 1), st.integers(1, size)) for size in shape])
    ends = draw(st.lists(one, max_size=4))
    lists = [[*(min(a, b - 1) for a, b in box), *(max(a + 1, b) for a, b in box)] for box in ends]
    return np.array(lists, dtype=float).reshape(-1, 6)


def filled(shape: tuple[int, ...], box: np.ndarray) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(int(low), int(high)) for low, high in zip(box[:3], box[3:], strict=True))] = True
    return mask


def box_of(mask: np.ndarray) -> np.ndarray:
    index = np.argwhere(mask)
    return np.concatenate([index.min(axis=0), index.max(axis=0) + 1])


def components(mask: np.ndarray) -> list[set[tuple[int, ...]]]:
    """Voxels that touch at a face, an edge or a corner, found one by one."""
    left, found = set(map(tuple, np.argwhere(mask).tolist())), []
    while left:
        part, edge = set(), {left.pop()}
        while edge:
            part |= edge
            edge = {voxel for voxel in left if any(max(abs(np.subtract(voxel, other))) <= 1 for other in edge)}
            left -= edge
        found.append(part)
    return found


@given(masks)
def test_the_box_of_a_class_is_the_smallest_that_holds_it(labels: np.ndarray) -> None:
    boxes, numbers = boxes_of_labels(labels)
    assert numbers.tolist() == [number for number in range(1, 4) if (labels == number).any()]
    assert (boxes.shape, boxes.dtype, numbers.dtype) == ((len(numbers), 6), np.float64, np.int64)
    for box, number in zip(boxes, numbers, strict=True):
        assert box.tolist() == box_of(labels == number).tolist()


@settings(max_examples=40)
@given(masks)
def test_the_boxes_of_components_are_those_of_brute_force(labels: np.ndarray) -> None:
    boxes, numbers = boxes_of_labels(labels, "component")
    expected = [
        [number, *box_of_voxels]
        for number in range(1, 4)
        for part in components(labels == number)
        for box_of_voxels in [[*np.min(list(part), axis=0), *(np.max(list(part), axis=0) + 1)]]
    ]
    assert sorted([number, *box] for number, box in zip(numbers, boxes.tolist(), strict=True)) == sorted(expected)
    assert numbers.tolist() == sorted(numbers.tolist())


def test_class_numbers_far_apart_cost_no_table() -> None:
    labels = np.zeros((3, 3, 3), np.int32)
    labels[0], labels[2] = 2_000_000_000, 5
    boxes, numbers = boxes_of_labels(labels)
    assert numbers.tolist() == [5, 2_000_000_000]
    assert boxes.tolist() == [[2, 0, 0, 3, 3, 3], [0, 0, 0, 1, 3, 3]]
    assert boxes_of_labels(labels, "component")[1].tolist() == [5, 2_000_000_000]


def test_no_structure_has_no_box() -> None:
    boxes, numbers = boxes_of_labels(np.zeros((3, 3, 3), np.uint8), "component")
    assert (boxes.shape, numbers.shape) == ((0, 6), (0,))
    assert move_boxes([], Grid((3, 3, 3), np.eye(4)), Grid((3, 3, 3), np.eye(4))).shape == (0, 6)
    assert draw_boxes((2, 2, 2), [], []).max() == 0
    assert boxes_from_world([], [], Grid((3, 3, 3), np.eye(4))).shape == (0, 6)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@settings(max_examples=4)
@given(boxes=boxes_in(), spacing=spacings, degrees=st.sampled_from([0, 17]))
def test_a_moved_box_is_the_box_of_the_moved_mask(
    orientation: str, boxes: np.ndarray, spacing: tuple[float, ...], degrees: float
) -> None:
    scan = Grid((9, 8, 7), build_affine(orientation, spacing, degrees))
    regrid = build_regrid(scan, "RAS")
    moved = move_boxes(boxes, scan, regrid.target)
    assert np.allclose([box_of(regrid.forward_labels(filled(scan.shape, box))) for box in boxes] or moved, moved)
    assert np.allclose(move_boxes(moved, regrid.target, scan), boxes)


@settings(max_examples=30)
@given(
    boxes=boxes_in(),
    factor=st.sampled_from([(2, 1, 3), (1, 3, 1), (2, 2, 2)]),
    orientation=st.sampled_from(ORIENTATIONS),
)
def test_other_spacing_moves_boxes_as_it_moves_masks(
    boxes: np.ndarray, factor: tuple[int, ...], orientation: str
) -> None:
    scan = Grid((9, 8, 7), build_affine(orientation, (1.0, 2.0, 3.0), 20))
    finer = np.array(build_regrid(scan, "LPI").target.spacing) / factor
    regrid = build_regrid(scan, "LPI", finer.tolist())
    moved = move_boxes(boxes, scan, regrid.target)
    assert np.allclose([box_of(regrid.forward_labels(filled(scan.shape, box))) for box in boxes] or moved, moved)
    assert np.allclose(move_boxes(moved, regrid.target, scan), boxes)


@given(boxes=boxes_in(), degrees=st.floats(-80, 80), spacing=spacings)
def test_between_oblique_grids_a_box_holds_all_corners(
    boxes: np.ndarray, degrees: float, spacing: tuple[float, ...]
) -> None:
    source, target = Grid((9, 8, 7), build_affine("LPS", spacing, degrees)), Grid((9, 9, 9), np.eye(4))
    for box, moved in zip(boxes, move_boxes(boxes, source, target), strict=True):
        corners = np.array(list(itertools.product(*zip(box[:3], box[3:], strict=True)))) - 0.5
        voxels = nib.affines.apply_affine(np.linalg.inv(target.affine) @ source.affine, corners) + 0.5
        assert np.allclose(moved, [*voxels.min(axis=0), *voxels.max(axis=0)])


@settings(max_examples=40)
@given(boxes=boxes_in(), degrees=st.floats(0, 90), spacing=spacings, orientation=st.sampled_from(ORIENTATIONS))
def test_the_centre_in_the_world_is_that_of_the_voxels(
    boxes: np.ndarray, degrees: float, spacing: tuple[float, ...], orientation: str
) -> None:
    grid = Grid((9, 8, 7), build_affine(orientation, spacing, degrees))
    centres, sizes = boxes_to_world(boxes, grid)
    assert (centres.shape, sizes.shape) == ((len(boxes), 3), (len(boxes), 3))
    for box, centre, size in zip(boxes, centres, sizes, strict=True):
        voxels = np.argwhere(filled(grid.shape, box))
        assert np.allclose(nib.affines.apply_affine(grid.affine, voxels).mean(axis=0), centre)
        assert np.allclose(np.ptp(voxels, axis=0) + 1, size / grid.spacing)


@settings(max_examples=40)
@given(boxes=boxes_in(), spacing=spacings, orientation=st.sampled_from(ORIENTATIONS))
def test_to_the_world_and_back(boxes: np.ndarray, spacing: tuple[float, ...], orientation: str) -> None:
    scan = Grid((9, 8, 7), build_affine(orientation, spacing))
    # sizes of a grid in RAS order run along the world's axes
    ras = build_regrid(scan, "RAS").target
    centres, sizes = boxes_to_world(move_boxes(boxes, scan, ras), ras)
    assert np.allclose(boxes_from_world(centres, sizes, scan), boxes)


def test_the_outer_corner_of_the_first_voxel_is_zero() -> None:
    grid = Grid((4, 4, 4), build_affine("LPS", (1.0, 2.0, 3.0), 25))
    centres, sizes = boxes_to_world([[0, 0, 0, 4, 4, 4]], grid)
    assert np.allclose(centres[0], grid.corners().mean(axis=0))
    assert np.allclose(sizes, [[4, 8, 12]])
    assert np.allclose(boxes_to_world([[0, 0, 0, 0, 0, 0]], grid)[0][0], grid.corners()[0])


@given(boxes_in())
def test_drawn_boxes_are_found_again(boxes: np.ndarray) -> None:
    for box in boxes:
        for full in (True, False):
            found, numbers = boxes_of_labels(draw_boxes((9, 8, 7), box[None], [300], filled=full).astype(int))
            assert (found.tolist(), numbers.tolist()) == ([box.tolist()], [300])
        assert (draw_boxes((9, 8, 7), box[None], [1], filled=True) == filled((9, 8, 7), box)).all()
        hollow = draw_boxes((9, 8, 7), box[None], [1])
        inner = filled((9, 8, 7), np.add(box, [1, 1, 1, -1, -1, -1]))
        assert (hollow.astype(bool) == filled((9, 8, 7), box) & ~inner).all()


@pytest.mark.parametrize("full", [True, False])
def test_small_boxes_are_drawn_over_large_ones(full: bool) -> None:
    small, large = [1, 1, 1, 4, 4, 4], [0, 1, 1, 9, 8, 7]
    first, second = (
        draw_boxes((9, 8, 7), [small, large], [1, 2], full),
        draw_boxes((9, 8, 7), [large, small], [2, 1], full),
    )
    assert (first == second).all()
    assert first.dtype == np.uint8
    assert (first == 1).sum() == (27 if full else 26)


@pytest.mark.parametrize(
    "box, voxels",
    [
        ([1.6, 0, 0, 3.4, 4, 4], 16 * 1),
        ([1.4, 0, 0, 3.6, 4, 4], 16 * 3),
        ([1.1, 1.1, 1.1, 1.2, 1.2, 1.2], 1),
        ([-3, -3, -3, 1, 1, 1], 1),
        ([-3, 0, 0, -1, 4, 4], 0),
        ([9, 0, 0, 11, 4, 4], 0),
    ],
)
def test_parts_of_voxels_and_of_boxes_outside(box: list[float], voxels: int) -> None:
    assert draw_boxes((4, 4, 4), [box], [1], filled=True).sum() == voxels
    assert draw_boxes((4, 4, 4), [box], [1]).sum() <= voxels


@given(boxes_in((6, 6, 6)), st.tuples(*[st.integers(1, 6)] * 3))
def test_what_is_cut_off_is_what_the_volume_does_not_hold(boxes: np.ndarray, shape: tuple[int, ...]) -> None:
    held = [filled((6, 6, 6), box)[tuple(map(slice, shape))].sum() for box in boxes]
    assert box_volumes(clip_boxes(boxes, shape)).tolist() == held


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: boxes_of_labels(np.zeros((2, 2, 2), int), "voxel"), "'class' or each 'component', got 'voxel'"),  # type: ignore[arg-type]
        (lambda: boxes_of_labels(np.zeros((2, 2), int)), r"labels must be \(I, J, K\), got the shape \(2, 2\)"),
        (lambda: box_volumes([[1, 2, 3, 4]]), r"boxes must be \(N, 6\), got the shape \(1, 4\)"),
        (lambda: box_volumes([1, 2, 3, 4, 5, 6]), r"got the shape \(6,\)"),
    ],
)
def test_other_shapes_are_refused(call: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call()  # type: ignore[operator]
