"""How a network is run over a volume: whole, or in overlapping windows whose logits are blended.

The windows, their weights and their order are those of MONAI's ``sliding_window_inference`` (a test compares them); it
is not called because importing MONAI takes longer than most predictions, and because the plan must be known before any
memory is taken.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UsageError

Shape = tuple[int, int, int]
Run = Callable[[Tensor], Tensor]
SIGMA = 0.125  # of the window's length, as in MONAI and nnU-Net
SMALLEST_WEIGHT = 1e-3


@dataclass(frozen=True)
class Plan:
    """What is run.

    Args:
        padded: Size to which the volume is padded with 0, on both sides.
        window: Size of a window; equal to ``padded`` for one pass over everything.
        overlap: Share of a window that the next one covers again.
    """

    padded: Shape
    window: Shape
    overlap: float = 0.5

    def starts(self) -> list[Shape]:
        """The first voxel of every window.

        >>> Plan((10, 4, 4), (4, 4, 4)).starts()
        [(0, 0, 0), (2, 0, 0), (4, 0, 0), (6, 0, 0)]
        """
        lines = [_starts(*sizes, self.overlap) for sizes in zip(self.padded, self.window, strict=True)]
        return [(first, second, third) for first, second, third in itertools.product(*lines)]


def plan_whole(shape: Sequence[int], strides: Sequence[int], patch: Sequence[int] | None) -> Plan:
    """One pass: padded to multiples of the network's stride, so that its levels fit each other, and to the patch size.

    >>> plan_whole((35, 52, 1), (8, 8, 8), None).padded
    (40, 56, 8)
    """
    least = patch or (1, 1, 1)
    sizes = [-(-max(size, low) // stride) * stride for size, stride, low in zip(shape, strides, least, strict=True)]
    if sizes == list(strides):  # norms over the input need two voxels at the lowest resolution
        sizes[2] *= 2
    return Plan(_shape(sizes), _shape(sizes))


def plan_windows(shape: Sequence[int], window: Sequence[int], overlap: float = 0.5) -> Plan:
    """Windows of one size; a volume that is smaller along an axis is padded to it.

    Raises:
        UsageError: a window or an overlap that cannot be.
    """
    sizes = list(window)
    if len(sizes) != 3 or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise UsageError(f"tile must be auto, whole or three sizes in voxels above 0, got {window}")
    if not 0 <= overlap < 1:
        raise UsageError(f"overlap must be at least 0 and below 1, got {overlap}")
    return Plan(_shape(max(pair) for pair in zip(shape, sizes, strict=True)), _shape(sizes), overlap)


def run_segmenter(run: Run, image: Tensor, plan: Plan) -> Tensor:
    """Logits (K, D, H, W) in float32 of an image (C, D, H, W); blended with Gaussian weights where windows overlap."""
    padded, margins = _pad(image, plan.padded)
    logits = run(padded[None])[0] if plan.window == plan.padded else _blend(run, padded, plan)
    return _cut(logits, margins, _shape(image.shape[1:]))


def run_classifier(run: Run, image: Tensor, plan: Plan) -> Tensor:
    """Logits (K,) in float32 of an image (C, D, H, W); the mean over windows if there are several."""
    padded, _ = _pad(image, plan.padded)
    logits = [run(_cut(padded, start, plan.window)[None])[0] for start in plan.starts()]
    return torch.stack(logits).mean(0)


def gaussian_weights(window: Sequence[int]) -> Tensor:
    """Weights (D, H, W) of a window: a Gaussian around its centre, never below 0.001."""
    lines = [torch.arange(size) - (size - 1) / 2 for size in window]
    first, second, third = (torch.exp(-0.5 * (line / (SIGMA * len(line))) ** 2) for line in lines)
    weights = first[:, None, None] * second[:, None] * third
    return weights.clamp(min=max(float(weights.min()), SMALLEST_WEIGHT))


def _blend(run: Run, padded: Tensor, plan: Plan) -> Tensor:
    weights = gaussian_weights(plan.window)
    total, norm = torch.zeros(0), torch.zeros(plan.padded)
    for start in plan.starts():
        logits = run(_cut(padded, start, plan.window)[None])[0].cpu()
        if not len(total):
            total = torch.zeros(len(logits), *plan.padded)
        _cut(total, start, plan.window).addcmul_(logits, weights)
        _cut(norm, start, plan.window).add_(weights)
    return total.div_(norm)


def _cut(tensor: Tensor, start: Shape, window: Shape) -> Tensor:
    """A view of one window of (..., D, H, W)."""
    first, second, third = (slice(low, low + size) for low, size in zip(start, window, strict=True))
    return tensor[..., first, second, third]


def _starts(size: int, window: int, overlap: float) -> list[int]:
    step = max(1, int(window * (1 - overlap)))
    count = math.ceil(max(0, size - window) / step) + 1
    return [min(index * step, size - window) for index in range(count)]


def _pad(image: Tensor, padded: Shape) -> tuple[Tensor, Shape]:
    """The padded image, and how many voxels were added before the first along each axis."""
    missing = [target - size for size, target in zip(image.shape[1:], padded, strict=True)]
    margins = [lack // 2 for lack in missing]
    both = [side for lack, low in zip(missing, margins, strict=True) for side in (lack - low, low)]
    return (F.pad(image, both[::-1]) if any(missing) else image), _shape(margins)


def _shape(sizes: Iterable[int]) -> Shape:
    first, second, third = sizes
    return first, second, third
