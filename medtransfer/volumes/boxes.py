"""Boxes around structures: between grids, to world millimetres and back, and drawn into a volume.

A box is ``[i0, j0, k0, i1, j1, k1]``, lower corner then upper corner, in voxels counted from the outer corner of the
volume: voxel ``i`` covers ``i`` to ``i + 1``, so that a structure in the voxels 3 to 5 has the ends 3 and 6.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from .grid import Grid

Boxes: TypeAlias = npt.NDArray[np.float64]


def move_boxes(boxes: npt.ArrayLike, source: Grid, target: Grid) -> Boxes:
    """Boxes on one grid as boxes on another that lies elsewhere in the same world.

    Exact, up to rounding, between grids whose axes are parallel; else the smallest box around the eight moved corners.

    >>> flipped = Grid((10, 4, 4), np.array([[-1.0, 0, 0, 9], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    >>> move_boxes([[0, 1, 2, 3, 4, 4]], Grid((10, 4, 4), np.eye(4)), flipped).tolist()
    [[7.0, 1.0, 2.0, 10.0, 4.0, 4.0]]
    """
    return _moved(checked_boxes(boxes), _from_corner(source), _from_corner(target))


def boxes_to_world(boxes: npt.ArrayLike, grid: Grid) -> tuple[Boxes, Boxes]:
    """Where boxes lie in the patient.

    Returns:
        Centres (N, 3) in millimetres of the world, RAS+; sizes (N, 3) in millimetres along the grid's own axes.

    >>> centres, sizes = boxes_to_world([[0, 0, 0, 2, 2, 2]], Grid((4, 4, 4), np.diag([1.0, 1, 3, 1])))
    >>> centres.tolist(), sizes.tolist()
    ([[0.5, 0.5, 1.5]], [[2.0, 2.0, 6.0]])
    """
    lower, upper = np.hsplit(checked_boxes(boxes), 2)
    affine = _from_corner(grid)
    return (lower + upper) / 2 @ affine[:3, :3].T + affine[:3, 3], (upper - lower) * grid.spacing


def boxes_from_world(centers_mm: npt.ArrayLike, sizes_mm: npt.ArrayLike, grid: Grid) -> Boxes:
    """Boxes whose sides run along the axes of the world, as boxes on a grid.

    Exact, up to rounding, where the grid's axes are parallel to the world's; else the smallest box around the eight
    corners. `boxes_to_world` gives sizes along the grid's axes: the inverse of this only where these are the world's.

    Args:
        centers_mm: (N, 3), RAS+.
        sizes_mm: (N, 3) along right-left, anterior-posterior, superior-inferior.
        grid: Where the boxes are wanted.

    >>> boxes_from_world([[0.5, 0.5, 1.5]], [[2, 2, 6]], Grid((4, 4, 4), np.diag([1.0, 1, 3, 1]))).tolist()
    [[0.0, 0.0, 0.0, 2.0, 2.0, 2.0]]
    """
    centres = np.asarray(centers_mm, dtype=np.float64).reshape(-1, 3)
    half = np.asarray(sizes_mm, dtype=np.float64).reshape(-1, 3) / 2
    return _moved(np.hstack([centres - half, centres + half]), np.eye(4), _from_corner(grid))


def draw_boxes(
    shape: tuple[int, int, int], boxes: npt.ArrayLike, numbers: npt.ArrayLike, filled: bool = False
) -> npt.NDArray[np.unsignedinteger]:
    """Boxes as a mask: their hulls, one voxel thick, so that every plane through a box shows its outline.

    Small boxes are drawn over large ones. A box is drawn in the voxels whose centres it holds, but in one at least;
    what lies outside of the volume is cut off.

    Args:
        shape: Of the volume.
        boxes: (N, 6).
        numbers: (N,), what to draw them with; 1 or more.
        filled: Draw all voxels of a box.

    Returns:
        (I, J, K), uint8, or uint16 where numbers are above 255.

    >>> draw_boxes((5, 4, 3), [[0, 0, 0, 5, 4, 3]], [7])[:, :, 1].tolist()
    [[7, 7, 7, 7], [7, 0, 0, 7], [7, 0, 0, 7], [7, 0, 0, 7], [7, 7, 7, 7]]
    """
    checked, marks = checked_boxes(boxes), np.asarray(numbers, dtype=np.int64).reshape(-1)
    dtype = np.uint8 if marks.max(initial=0) <= np.iinfo(np.uint8).max else np.uint16
    volume = np.zeros(shape, dtype=dtype)
    for index in np.argsort(-box_volumes(checked), kind="stable"):
        lower, upper = _voxels(checked[index], shape)
        # a view, empty where the box lies outside of the volume
        part = volume[tuple(map(slice, lower, upper))]
        part[_hull(part.shape, filled)] = marks[index]
    return volume


def clip_boxes(boxes: npt.ArrayLike, shape: tuple[int, ...]) -> Boxes:
    """Boxes cut off at the ends of a volume; those outside of it keep no size.

    >>> clip_boxes([[-1, 0, 2, 3, 9, 4]], (4, 4, 4)).tolist()
    [[0.0, 0.0, 2.0, 3.0, 4.0, 4.0]]
    """
    return np.clip(checked_boxes(boxes), 0, [*shape, *shape])


def box_volumes(boxes: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Voxels (N,) in boxes; those turned inside out have none.

    >>> box_volumes([[0, 0, 0, 2, 3, 4], [1, 1, 1, 0, 2, 2]]).tolist()
    [24.0, 0.0]
    """
    lower, upper = np.hsplit(checked_boxes(boxes), 2)
    return (upper - lower).clip(0).prod(axis=1)


def checked_boxes(boxes: npt.ArrayLike) -> Boxes:
    """Boxes (N, 6) as float64; no box at all may come in any shape.

    Raises:
        UsageError: another shape.
    """
    array = np.asarray(boxes, dtype=np.float64)
    if array.size and (array.ndim != 2 or array.shape[1] != 6):
        raise UsageError(f"boxes must be (N, 6), got the shape {array.shape}")
    return array.reshape(-1, 6)


def _from_corner(grid: Grid) -> npt.NDArray[np.float64]:
    """The affine for positions counted from the outer corner of the first voxel, not from its centre."""
    affine = np.array(grid.affine, dtype=np.float64)
    affine[:3, 3] -= affine[:3, :3].sum(axis=1) / 2
    return affine


def _moved(boxes: Boxes, source: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> Boxes:
    lower, upper = np.hsplit(boxes, 2)
    change = np.linalg.solve(target[:3, :3], source[:3, :3])
    offset = np.linalg.solve(target[:3, :3], source[:3, 3] - target[:3, 3])
    centres = (lower + upper) / 2 @ change.T + offset
    half = (upper - lower) / 2 @ np.abs(change).T  # of the box around all corners
    return np.hstack([centres - half, centres + half])


def _voxels(box: Boxes, shape: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """First and last + 1 of the voxels whose centres a box holds, within the volume."""
    lower, upper = np.ceil(box - 0.5).reshape(2, 3)
    single = upper <= lower
    lower = np.where(single, np.floor(box.reshape(2, 3).mean(axis=0)), lower)
    ends = np.clip([lower, np.where(single, lower + 1, upper)], 0, shape).astype(int)
    return ends[0].tolist(), ends[1].tolist()


def _hull(shape: tuple[int, ...], filled: bool) -> npt.NDArray[np.bool_]:
    hull = np.ones(shape, dtype=bool)
    hull[1:-1, 1:-1, 1:-1] = filled
    return hull
