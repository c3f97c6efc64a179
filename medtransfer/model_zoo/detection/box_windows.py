"""Boxes of a volume from passes over windows of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .box_set import BoxSet


def detect_in_windows(
    detect: Callable[[Tensor], BoxSet],
    image: Tensor,
    starts: Sequence[Sequence[int]],
    window: Sequence[int],
    threshold: float,
) -> BoxSet:
    """Boxes of an image (C, *spatial) from its windows.

    Args:
        detect: One pass over (1, C, *window).
        image: What is run.
        starts: The first voxel of every window; all lie in the image.
        window: Voxels of a window.
        threshold: See :func:`~medtransfer.model_zoo.detection.box_joining.join_windows`.
    """
    ends = [[*start, *map(sum, zip(start, window, strict=True))] for start in starts]
    ndim = len(window)
    parts = [image[(slice(None), *map(slice, each[:ndim], each[ndim:]))] for each in ends]
    found = [detect(part[None]).moved(start) for part, start in zip(parts, starts, strict=True)]
    if len(found) == 1:
        return found[0]
    # brings scipy, which the networks without boxes and those that see the whole scan need not wait for
    from .box_joining import join_windows

    return join_windows(found, torch.tensor(ends, dtype=torch.float64), image.shape[1:], threshold)
