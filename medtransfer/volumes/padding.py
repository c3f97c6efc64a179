"""Padding on both sides of a volume: the same in training, prediction and ranking, so that networks see alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor
from torch.nn import functional as F

Margins = Sequence[tuple[int, int]]


def centred_margins(shape: Iterable[int], wanted: Iterable[int]) -> list[tuple[int, int]]:
    """Voxels to add before and behind along each axis until it is as long as wanted; an odd one stands behind.

    >>> centred_margins((4, 9, 8), (8, 8, 11))
    [(2, 2), (0, 0), (1, 2)]
    """
    missing = [max(int(want) - int(have), 0) for have, want in zip(shape, wanted, strict=True)]
    return [(number // 2, number - number // 2) for number in missing]


def pad(image: Tensor, margins: Margins) -> Tensor:
    """An image (..., D, H, W) with 0 around it.

    >>> import torch
    >>> pad(torch.ones(1, 1, 1, 2), [(0, 0), (0, 0), (1, 2)]).tolist()
    [[[[0.0, 1.0, 1.0, 0.0, 0.0]]]]
    """
    return F.pad(image, [side for pair in reversed(margins) for side in pair])
