"""Rows of a detector's layers: of classes, of boxes, of pooled features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..devices import at_least_float32
from ..errors import UsageError
from .class_map import ClassMap, class_rows, remap_rows
from .dialects.detector import anchors_of, dimensions_of
from .inflate import inflate_conv

#: layers that give boxes: 2 ndim rows for each anchor or class
_BOXES = ("rpn.head.bbox_pred", "roi_heads.box_predictor.bbox_pred", "head.regression_head.bbox_reg")
_BOX_OF_CLASS = "roi_heads.box_predictor.bbox_pred"
_CLASSES_OF_ANCHOR = "head.classification_head.cls_logits"
_POOLED = "roi_heads.box_head.fc6.weight"
_CHANNELS = "rpn.head.conv.0.0.weight"

Tensors = Mapping[str, Tensor]


def other_boxes(name: str, source: Tensors, target: Tensors) -> str | None:
    """Why a layer of boxes means nothing in the target: boxes there have another number of axes. None if they do not.

    Args:
        name: The zoo's name of a tensor.
        source, target: All tensors of both sides by the zoo's names.
    """
    old, new = dimensions_of(source), dimensions_of(target)
    if _layer(name) not in _BOXES or not old or not new or old == new:
        return None
    return f"boxes of {old} axes have {2 * old} numbers, the target's have {2 * new}"


def has_own_rows(name: str) -> bool:
    """Whether the rows of a layer are not simply its classes.

    >>> has_own_rows("roi_heads.box_predictor.bbox_pred.weight"), has_own_rows("roi_heads.box_predictor.cls_score.bias")
    (True, False)
    """
    return _layer(name) in (_BOX_OF_CLASS, _CLASSES_OF_ANCHOR)


def remap_detector(
    name: str,
    tensor: Tensor,
    shape: Sequence[int],
    choice: ClassMap,
    source: Tensors,
    classes: tuple[Sequence[str] | None, Sequence[str] | None],
) -> tuple[Tensor, str] | None:
    """Rows of kept classes, and rows of new ones, in a layer of :func:`has_own_rows`.

    Faster R-CNN has a box for each class, class after class: the box of a new one starts from the mean of the old ones'
    but the background's, which is never trained. RetinaNet has logits of all classes for each anchor: a new one starts
    with a probability of 0.01.

    Args:
        name: The zoo's name.
        tensor: Weight or bias.
        shape: The target's.
        choice: New class -> old class or None.
        source: All tensors of the source by the zoo's names.
        classes: Names of the old and of the new classes, where there are any.

    Returns:
        The new tensor and what was done; None where the two sides' anchors are of other numbers.

    Raises:
        UsageError: the map does not describe the target's classes.
    """
    of_boxes = _layer(name) == _BOX_OF_CLASS
    group = 2 * dimensions_of(source) if of_boxes else anchors_of(source) or 1
    rows = class_rows(choice, len(tensor) // group, *classes)
    if len(rows) * group != shape[0]:
        if shape[0] % group or not of_boxes:
            return None
        raise UsageError(f"head maps {len(rows)} classes, the target has {shape[0] // group}")
    how = "rows " + ", ".join(f"{new} <- {'new' if old is None else old}" for new, old in enumerate(rows))
    if of_boxes:
        return _remap_boxes(tensor.unflatten(0, (-1, group)), rows), f"{how}, {group} for each class"
    return remap_rows(tensor, rows, group, activation="sigmoid"), f"{how}, for each of {group} anchors"


def inflate_pooled(
    name: str, tensor: Tensor, shape: Sequence[int], source: Tensors, target: Tensors, mode: str, axis: int
) -> tuple[Tensor, str] | None:
    """The first layer behind RoIAlign for pooled maps of one more axis; None where that is not well defined.

    Its columns are (channels, bins, bins); with as many bins an axis in the target they are a kernel that covers the
    pooled map, and are inflated as one.

    Args:
        name: The zoo's name.
        tensor: Weight (outputs, columns).
        shape: The target's.
        source, target: All tensors of both sides by the zoo's names.
        mode, axis: As of :func:`inflate_conv`.
    """
    if name != _POOLED or tensor.shape == shape or _CHANNELS not in source or _CHANNELS not in target:
        return None
    channels = source[_CHANNELS].shape[1]
    bins = round((tensor.shape[1] / channels) ** 0.5)
    flat = dimensions_of(source) == 2 and channels * bins**2 == tensor.shape[1]
    same = dimensions_of(target) == 3 and tuple(shape) == (len(tensor), channels * bins**3)
    if not flat or not same or mode == "acs":
        return None
    kernel = inflate_conv(tensor.unflatten(1, (channels, bins, bins)), bins, mode, axis)
    return kernel.flatten(1), f"bins {bins}x{bins} to {bins}x{bins}x{bins} by {mode!r} along axis {axis}"


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _remap_boxes(table: Tensor, rows: Sequence[int | None]) -> Tensor:
    """(old classes, 2 ndim, ...) -> (new classes * 2 ndim, ...)."""
    fresh = at_least_float32(table[1:]).mean(dim=0).to(table.dtype)
    return torch.stack([fresh if row is None else table[row] for row in rows]).flatten(0, 1)
