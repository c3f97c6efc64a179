"""Boxes as offsets from other boxes: what a regression predicts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...devices import at_least_float32
from ...errors import ModelError

_NOT_FINITE = "Look for boxes without extent in the targets, or lower the learning rate"


class BoxCoder:
    """The code of R-CNN, for any number of axes (Girshick et al., CVPR 2014).

    A box is coded by the shift of its centre, in extents of the reference box, and by the logarithm of the ratio of
    extents: (centre axis 0, ..., extent axis 0, ...), each times its weight. The values are those of MONAI's coder to
    the last bit, without the seconds that the import of MONAI takes; in half precision, where a
    corner would be rounded to whole voxels, it computes in float32.

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
        self.weights, self.ndim = weights, ndim
        self.boxes_xform_clip = math.log(1000 / 16) if boxes_xform_clip is None else boxes_xform_clip

    def encode(self, gt_boxes: Sequence[Tensor], proposals: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Of every image the codes (N, 2 ndim) of its boxes from its proposals."""
        codes = self.encode_single(torch.cat(tuple(gt_boxes)), torch.cat(tuple(proposals)))
        return codes.split([len(boxes) for boxes in gt_boxes])

    def encode_single(self, gt_boxes: Tensor, proposals: Tensor) -> Tensor:
        """Codes (N, 2 ndim) of boxes (N, 2 ndim) from proposals (N, 2 ndim)."""
        boxes, references = _valid(at_least_float32(gt_boxes)), _valid(at_least_float32(proposals))
        if len(boxes) != len(references):
            raise ModelError(f"boxes cannot be coded: {len(boxes)} of them, and {len(references)} proposals")
        shift, extent = boxes.new_tensor(self.weights).chunk(2)
        (centres, sizes), (own_centres, own_sizes) = map(_centres_and_sizes, (boxes, references))
        codes = [shift * (centres - own_centres) / own_sizes, extent * torch.log(sizes / own_sizes)]
        return _finite(torch.cat(codes, dim=1))

    def decode(self, rel_codes: Tensor, reference_boxes: Sequence[Tensor]) -> Tensor:
        """Boxes (N, K, 2 ndim) of codes (N, K * 2 ndim) from the reference boxes of all images behind each other."""
        boxes = self.decode_single(rel_codes, torch.cat(tuple(reference_boxes)))
        return boxes.unflatten(1, (-1, 2 * self.ndim))

    def decode_single(self, rel_codes: Tensor, reference_boxes: Tensor) -> Tensor:
        """Boxes (N, K * 2 ndim) of codes (N, K * 2 ndim) from reference boxes (N, 2 ndim)."""
        codes = at_least_float32(rel_codes).unflatten(1, (-1, 2 * self.ndim))
        references = _valid(at_least_float32(reference_boxes).to(codes.dtype))
        centres, sizes = (part[:, None] for part in _centres_and_sizes(references))
        shifts, ratios = (codes / codes.new_tensor(self.weights)).chunk(2, -1)
        middles = shifts * sizes + centres
        halves = 0.5 * _finite(torch.exp(ratios.clamp(max=self.boxes_xform_clip)) * sizes)
        return torch.cat([middles - halves, middles + halves], dim=-1).flatten(1)


def _centres_and_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    lower, upper = boxes.chunk(2, -1)
    return (lower + upper) / 2, upper - lower


def _valid(boxes: Tensor) -> Tensor:
    lower, upper = boxes.chunk(2, -1)
    if bool((upper < lower).any()):
        raise ModelError("boxes cannot be coded: a lower corner is above its upper corner", hint=_NOT_FINITE)
    return boxes


def _finite(values: Tensor) -> Tensor:
    if not bool(torch.isfinite(values).all()):
        raise ModelError("boxes cannot be coded: NaN or infinite values", hint=_NOT_FINITE)
    return values
