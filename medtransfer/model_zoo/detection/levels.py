"""What heads that run over feature maps share: their convolutions, and maps as rows of anchors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ...devices import at_least_float32
from .fpn import conv_type


def head_convs(channels: int, count: int, ndim: int) -> nn.Sequential:
    """3x3x3 convolutions with ReLU, with the keys ``0.0``, ``1.0`` ... of torchvision's heads."""
    convs = [conv_type(ndim)(channels, channels, 3, padding=1) for _ in range(count)]
    for conv in convs:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        nn.init.zeros_(conv.bias)
    return nn.Sequential(*(nn.Sequential(conv, nn.ReLU()) for conv in convs))


def start_small(conv: Any) -> Any:
    """The last convolution of a head with weights of 0.01: anchors are scored alike and not moved at first.

    The papers start the hidden ones so too. That fits 256 channels; of narrower maps little would be left behind four
    of them, and a head learns nothing for hundreds of steps, so :func:`head_convs` starts by He's rule.
    """
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)
    return conv


def rows_of_anchors(maps: Sequence[Tensor], width: int) -> list[Tensor]:
    """Each map (N, anchors * width, *spatial) as (N, places * anchors, width), in the anchors' order, in float32.

    >>> import torch
    >>> [tuple(rows.shape) for rows in rows_of_anchors([torch.rand(2, 6, 4, 5, 3)], width=2)]
    [(2, 180, 2)]
    """
    rows = [each.unflatten(1, (-1, width)).movedim((1, 2), (-2, -1)).flatten(1, -2) for each in maps]
    # boxes and losses of half precision are off by voxels
    return [at_least_float32(each) for each in rows]
