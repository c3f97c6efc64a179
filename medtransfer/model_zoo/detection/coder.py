"""Boxes as offsets from other boxes: what a regression predicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.apps.detection.utils.box_coder import BoxCoder as MonaiBoxCoder
from torch import Tensor

from ...errors import ModelError

_NOT_FINITE = "Look for boxes without extent in the targets, or lower the learning rate"


class BoxCoder(MonaiBoxCoder):
    """MONAI's coder, which is torchvision's in 2-D and 3-D (Girshick et al., CVPR 2014).

    A box is coded by the shift of its centre, in extents of the reference box, and by the logarithm of the ratio of
    extents: (centre axis 0, ..., extent axis 0, ...), each times its weight. ``encode`` and ``decode`` take a list of
    boxes an image, ``encode_single`` and ``decode_single`` one tensor.

    Args:
        weights: One number for each of the 2 ndim codes, or ``(shift, extent)`` for all axes.
        ndim: Spatial dimensions.
        boxes_xform_clip: Highest logarithm of a ratio of extents that is decoded; default ``log(1000 / 16)``.

    Raises:
        ModelError: wrong number of weights; codes that are not finite, or boxes without extent.

    >>> coder = BoxCoder((10.0, 5.0), ndim=3)
    >>> anchors, boxes = torch.tensor([[0.0, 0, 0, 4, 4, 4]]), torch.tensor([[1.0, 0, 0, 5, 4, 8]])
    >>> codes = coder.encode_single(boxes, anchors)
    >>> [round(code, 2) for code in codes[0].tolist()]
    [2.5, 0.0, 5.0, 0.0, 0.0, 3.47]
    >>> torch.allclose(coder.decode_single(codes, anchors), boxes)
    True
    """

    def __init__(self, weights: Sequence[float], ndim: int = 3, boxes_xform_clip: float | None = None) -> None:
        given, weights = weights, tuple(weights) if isinstance(weights, Sequence) else ()
        if len(weights) == 2:
            weights = weights[:1] * ndim + weights[1:] * ndim
        if len(weights) != 2 * ndim or not all(isinstance(value, int | float) and value > 0 for value in weights):
            raise ModelError(f"the weights of box codes must be 2 or {2 * ndim} numbers above 0, got {given!r}")
        super().__init__(weights, boxes_xform_clip)

    def encode_single(self, gt_boxes: Tensor, proposals: Tensor) -> Tensor:
        """Codes (N, 2 ndim) of boxes (N, 2 ndim) from proposals (N, 2 ndim)."""
        return _checked(super().encode_single, gt_boxes, proposals)

    def decode_single(self, rel_codes: Tensor, reference_boxes: Tensor) -> Tensor:
        """Boxes (N, K * 2 ndim) of codes (N, K * 2 ndim) from reference boxes (N, 2 ndim)."""
        return _checked(super().decode_single, rel_codes, reference_boxes)


def _checked(function: Any, *tensors: Tensor) -> Tensor:
    try:
        with torch.autocast(tensors[0].device.type, enabled=False):
            # in half precision a corner would be rounded to whole voxels
            return function(*(each.to(torch.promote_types(each.dtype, torch.float32)) for each in tensors))
    except ValueError as error:
        raise ModelError(f"boxes cannot be coded: {error}".rstrip("."), hint=_NOT_FINITE) from None
