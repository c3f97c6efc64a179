"""Anchors that fit the boxes of a dataset, as ``anchor_sizes`` and ``aspect_ratios`` of a detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.cluster.vq import kmeans

from ..errors import DatasetError, UsageError

Array: TypeAlias = npt.NDArray[np.float64]
Ratio: TypeAlias = "float | tuple[float, ...]"
_DIGITS = 4


class Anchors(NamedTuple):
    """What a detector's ``AnchorGenerator`` takes, and how well it fits.

    Attributes:
        sizes: For each level, in the order of the strides, the edges of cubes of the anchors' volume, ascending.
        aspect_ratios: For each level the same shapes: pairs (r1, r2) for extents 1 : r1 : r2 in 3-D, numbers
            (extent along the first axis over that along the second) in 2-D.
        mean_iou: Overlap (IoU) of a box with the best anchor on its centre, the mean over all boxes.
    """

    sizes: tuple[tuple[float, ...], ...]
    aspect_ratios: tuple[tuple[Ratio, ...], ...]
    mean_iou: float


def suggest_anchors(sizes: npt.ArrayLike, strides: Sequence[Any], per_level: int = 1) -> Anchors:
    """Anchors by k-means over the logarithms of the boxes' sizes and of their shapes.

    All levels share the shapes; larger strides get larger sizes. Where a level has several anchors they are several
    shapes, several sizes, or both: whichever fits the boxes best. Source of the idea: Redmon and Farhadi, "YOLO9000",
    CVPR 2017.

    Args:
        sizes: (N, 3) or (N, 2), extents of the boxes in voxels of the prepared scans.
        strides: Of the feature maps, one a level; numbers, or one number for each axis.
        per_level: Anchors at each place of a level.

    Returns:
        ``(sizes, aspect_ratios, mean_iou)``; the first two have one tuple a level, and ``len(sizes[i]) *
        len(aspect_ratios[i]) == per_level``.

    Raises:
        DatasetError: no box at all, one without extent, or no list of them.
        UsageError: no strides, or no number of anchors.

    >>> found = suggest_anchors([[8, 8, 4], [8, 8, 4], [16, 16, 8]], strides=(4, 8))
    >>> found.sizes, found.aspect_ratios, round(found.mean_iou, 2)
    (((6.35,), (12.7,)), (((1.0, 0.5),), ((1.0, 0.5),)), 1.0)
    """
    boxes = _extents(sizes)
    _refuse_levels(strides, per_level)
    if not boxes.size or not (np.isfinite(boxes).all() and (boxes > 0).all()):
        raise DatasetError("anchors need boxes, all of some extent", hint="Give the sizes of the training boxes")
    counts = [count for count in range(1, per_level + 1) if per_level % count == 0]
    tried = [_anchors(boxes, strides, count, per_level // count) for count in counts]
    return max(tried, key=lambda anchors: anchors.mean_iou)


def _extents(sizes: npt.ArrayLike) -> Array:
    try:
        boxes = np.asarray(sizes, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise DatasetError("sizes of boxes must be rows of as many numbers", hint="Give (N, 3) or (N, 2)") from error
    if boxes.size and (boxes.ndim != 2 or boxes.shape[1] not in (2, 3)):
        raise DatasetError(f"sizes of boxes must be (N, 3) or (N, 2), got {boxes.shape}")
    return boxes


def _refuse_levels(strides: Any, per_level: Any) -> None:
    listed = isinstance(strides, Sequence | np.ndarray) and not isinstance(strides, str)
    if not listed or not len(strides) or np.asarray(strides).dtype.kind not in "iuf":
        raise UsageError(f"strides must be a list of numbers, one for each feature map, got {strides!r}")
    if type(per_level) is not int or per_level < 1:
        raise UsageError(f"per_level must be a whole number above 0, got {per_level!r}")


def mean_best_iou(sizes: npt.ArrayLike, anchors: npt.ArrayLike) -> float:
    """The IoU (intersection over union) of boxes (N, ndim) with the best of anchors (M, ndim) on the same centre.

    >>> mean_best_iou([[2, 2, 2], [4, 4, 4]], [[4, 4, 4], [2, 2, 1]])
    0.75
    """
    boxes, shapes = np.asarray(sizes, dtype=np.float64)[:, None], np.asarray(anchors, dtype=np.float64)[None]
    common = np.minimum(boxes, shapes).prod(axis=2)
    return float((common / (boxes.prod(axis=2) + shapes.prod(axis=2) - common)).max(axis=1).mean())


def _anchors(boxes: Array, strides: Sequence[Any], each_sizes: int, each_shapes: int) -> Anchors:
    logs = np.log(boxes)
    scales = logs.mean(axis=1, keepdims=True)
    edges = np.sort(np.exp(_centres(scales, each_sizes * len(strides))).ravel()).reshape(len(strides), -1)
    shapes = np.exp(_centres(logs[:, 1:] - logs[:, :1], each_shapes))  # extents where the first is 1
    order = np.argsort([np.prod(stride) for stride in strides], kind="stable")
    levels = tuple(_rounded(edges[place]) for place in np.argsort(order))
    whole = np.hstack([np.ones((len(shapes), 1)), shapes])
    cubes = whole / whole.prod(axis=1, keepdims=True) ** (1 / boxes.shape[1])
    extents = (cubes[:, None] * edges.ravel()[None, :, None]).reshape(-1, boxes.shape[1])
    ratios = tuple(_ratio(shape) for shape in shapes)
    return Anchors(levels, (ratios,) * len(strides), mean_best_iou(boxes, extents))


def _centres(points: Array, count: int) -> Array:
    """Centres (count, d) of clusters, the same at every call; the last is repeated where there are too few points."""
    spread = points - points.mean(axis=0)
    longest = np.linalg.svd(spread, full_matrices=False)[2][0]
    order = np.argsort(spread @ longest, kind="stable")
    guess = np.unique(points[order[((np.arange(count) + 0.5) / count * len(points)).astype(int)]], axis=0)
    # scipy takes a guess of one number for a number of clusters
    found = kmeans(points, guess)[0] if len(guess) > 1 else points.mean(axis=0, keepdims=True)
    return np.concatenate([found, np.repeat(found[-1:], count - len(found), axis=0)])


def _ratio(shape: Array) -> Ratio:
    """As the anchors' generator has it."""
    return _rounded(shape) if len(shape) > 1 else _rounded(1 / shape)[0]


def _rounded(values: Array) -> tuple[float, ...]:
    return tuple(float(f"{value:.{_DIGITS}g}") for value in values)
