"""Convolutions of one to four channels, as stems are, with the taps of their last axis as channels.

CPUs compute convolutions channel by channel, in blocks of 16 or 32: of one input channel most of a block is zeros. The
stem of a ResNet (7x7x7, stride 2) took 160 ms of a forward pass where the same sum, read as eight channels under a
kernel of 7x7x1, takes 40 (bfloat16 with AMX, two cores). The parameter, its gradient and the result are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

#: from this many input channels on a convolution fills its blocks well enough
MANY = 5


def unfolded_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """``torch.conv3d`` without groups and dilation, by channels that hold the taps of the last axis.

    Equal but for the order of the sum. Values must be finite: an odd kernel gets one more tap, of zeros.

    Args:
        x: (N, C, D, H, W).
        weight: (K, C, d, h, w).
        bias: (K,), or None.
        stride: Three numbers.
        padding: Three numbers, of zeros.

    Returns:
        (N, K, D', H', W'), in the layout ``channels_last_3d``.

    >>> x, weight = torch.randn(1, 1, 6, 6, 9), torch.randn(2, 1, 3, 3, 3)
    >>> found = unfolded_convolution(x, weight, None, (2, 2, 2), (1, 1, 1))
    >>> torch.allclose(found, torch.conv3d(x, weight, None, 2, 1), atol=1e-5)
    True
    """
    kernel = taps_as_channels(weight)
    taps = unfold_taps(x, weight.shape[-1], stride[-1], padding[-1])
    return torch.conv3d(taps, kernel, bias, (*stride[:2], 1), (*padding[:2], 0))


def has_few_channels(weight: Tensor) -> bool:
    """Whether a CPU is quicker so in bfloat16, of a weight (K, C, d, h, w) without groups and dilation.

    >>> has_few_channels(torch.empty(8, 1, 7, 7, 7)), has_few_channels(torch.empty(8, 64, 3, 3, 3))
    (True, False)
    """
    return weight.shape[1] < MANY and weight.shape[-1] > 1


def unfold_taps(x: Tensor, taps: int, stride: int, padding: int) -> Tensor:
    """(N, C, D, H, W) to (N, taps * C, D, H, W'): what ``taps`` voxels of the last axis hold, as channels.

    Of an odd number there is one more, so that channels come in pairs.

    >>> unfold_taps(torch.arange(4.0).view(1, 1, 1, 1, 4), 2, 2, 0).flatten(1).tolist()
    [[0.0, 2.0, 1.0, 3.0]]
    """
    odd = taps % 2
    windows = F.pad(x, (padding, padding + odd)).unfold(-1, taps + odd, stride)
    # a view in which voxels lie more than once is right too, but makes the convolution slow
    return windows.permute(0, 2, 3, 4, 5, 1).contiguous().flatten(4).permute(0, 4, 1, 2, 3)


def taps_as_channels(weight: Tensor) -> Tensor:
    """(K, C, d, h, w) to (K, w * C, d, h, 1), the kernel for :func:`unfold_taps`; of an odd w with a tap of zeros.

    >>> taps_as_channels(torch.ones(8, 2, 7, 7, 7)).shape
    torch.Size([8, 16, 7, 7, 1])
    """
    weight = F.pad(weight, (0, weight.shape[-1] % 2))
    return weight.permute(0, 4, 1, 2, 3).flatten(1, 2)[..., None]
