"""Fully convolutional heads: which maps give scores, and how they become one answer (Long et al., CVPR 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError
from .layers import Layers, to_size


@dataclass(frozen=True)
class Level:
    """A feature map that scores may be read from.

    Attributes:
        index: Its number among those of the encoder.
        channels: Its channels.
        stride: Its stride against the input, one number an axis.
    """

    index: int
    channels: int
    stride: tuple[int, ...]


def skips_to(fcn_stride: int, levels: Sequence[Level], last: tuple[int, ...]) -> list[Level]:
    """The levels above the last map from which scores are added, coarse to fine: the deepest of each stride.

    Args:
        fcn_stride: Stride of the finest of them, the largest of its axes.
        levels: Of the encoder, from high to low resolution.
        last: Stride of the map that the head stands on.

    Raises:
        ModelError: no map has that stride.

    >>> levels = [Level(i, 8, (2**i,)) for i in range(1, 5)]
    >>> [level.stride for level in skips_to(8, levels, last=(32,))]
    [(16,), (8,)]
    """
    skips, below = [], last
    for level in reversed(levels):
        if level.stride != below:
            skips.append(level)
            below = level.stride
    known = sorted({max(last), *(max(level.stride) for level in skips)}, reverse=True)
    if fcn_stride not in known:
        raise ModelError(f"fcn_stride must be one of {', '.join(map(str, known))} in this network, got {fcn_stride!r}")
    return [level for level in skips if max(level.stride) >= fcn_stride]


def score_layers(layers: Layers, levels: Sequence[Level], num_classes: int) -> nn.ModuleList:
    """A 1x1x1 convolution for each level, of zeros: the network starts as the one without skips."""
    convs = nn.ModuleList(layers.conv(level.channels, num_classes, 1, bias=True) for level in levels)
    for parameter in convs.parameters():
        nn.init.zeros_(parameter)
    return convs


def sum_scores(scores: Sequence[Tensor], size: Sequence[int], mode: str) -> Tensor:
    """Scores (N, K, ...) of several resolutions, each interpolated to ``size``, as one.

    Each goes to the full size at once: two interpolations in a row are not one, and a network whose skips are zero
    would not be the one without them.
    """
    return reduce(torch.add, (to_size(score, size, mode) for score in scores))


class SlidingPad(nn.Module):
    """Zeros around a map, so that a kernel without padding of its own is centred on every voxel of it.

    A kernel of an even size is centred between voxels: it gives one position more, and :func:`centred` takes the means
    of neighbours.
    """

    def __init__(self, kernel: Sequence[int]) -> None:
        super().__init__()
        self.margins = [margin for size in reversed(kernel) for margin in (size // 2, size // 2)]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> (N, C, ...), larger by the kernel on each axis, or by one less where that is odd."""
        return F.pad(x, self.margins)

    def extra_repr(self) -> str:
        """The margins, for ``print``."""
        return f"{self.margins}"


def centred(scores: Tensor, kernel: Sequence[int]) -> Tensor:
    """Scores of a sliding kernel at the middles of the map's voxels: means of two where it stands between them.

    >>> centred(torch.tensor([[[1.0, 3.0, 5.0]]]), kernel=[2]), centred(torch.ones(1, 1, 3), kernel=[7]).shape
    (tensor([[[2., 4.]]]), torch.Size([1, 1, 3]))
    """
    window = tuple(2 - size % 2 for size in kernel)
    if max(window) == 1:
        return scores
    mean: Any = getattr(F, f"avg_pool{len(window)}d")
    return mean(scores, window, stride=1)
