"""A convolution of few channels read as one of many: the taps of its last axis, and its strides, become channels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

#: channels that fill a block of a matrix unit
FULL = 32
_PAIR = 4  # bytes
Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Unfolding:
    """What is read at once of a scan, for a kernel that then goes by single voxels.

    The stem of a ResNet, 7x7x7 of one channel with stride 2, becomes a convolution of 4x4x1 over 32 channels: two
    planes, two rows and eight taps. Its sum has a third more products, of zeros, and takes two thirds of the time.
    :mod:`~medtransfer.model_zoo.few_channels` has the simpler form that training differentiates.

    Args:
        channels: Of the image.
        kernel: Of the convolution, three axes.
        stride: Of the convolution.
        padding: Of the convolution, zeros.

    >>> x, weight = torch.randn(1, 1, 9, 12, 10), torch.randn(2, 1, 7, 7, 7)
    >>> unfolding = Unfolding(1, (7, 7, 7), (2, 2, 2), (3, 3, 3))
    >>> tuple(unfolding(x).shape), tuple(unfolding.weight(weight).shape)
    ((1, 32, 8, 9, 5), (2, 32, 4, 4, 1))
    >>> found = F.conv3d(unfolding(x), unfolding.weight(weight))
    >>> torch.allclose(found, F.conv3d(x, weight, stride=2, padding=3), atol=1e-4)
    True
    """

    channels: int
    kernel: Sizes
    stride: Sizes
    padding: Sizes

    @property
    def taps(self) -> int:
        """Voxels of the last axis that lie behind each other; an odd kernel has one more, so that there are pairs."""
        return self.kernel[2] + self.kernel[2] % 2

    @property
    def steps(self) -> Sizes:
        """Planes and rows that are read at once: the strides, unless the taps alone are channels enough."""
        return self.stride[:2] if self.taps * self.channels < FULL else (1, 1)

    @property
    def left_stride(self) -> Sizes:
        """The stride of the convolution of what was unfolded."""
        return (self.stride[0] // self.steps[0], self.stride[1] // self.steps[1], 1)

    def weight(self, weight: Tensor) -> Tensor:
        """(K, C, d, h, w) to (K, planes * rows * taps * C, d', h', 1), of zeros where the kernel has nothing."""
        planes, rows = self.steps
        missing = [-size % step for size, step in zip(self.kernel, (planes, rows, 2), strict=True)]
        whole = F.pad(weight, (0, missing[2], 0, missing[1], 0, missing[0]))
        parts = whole.unflatten(3, (-1, rows)).unflatten(2, (-1, planes))
        return parts.permute(0, 3, 5, 6, 1, 2, 4).flatten(1, 4)[..., None]

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, D, H, W) to (N, planes * rows * taps * C, D', H', W') in ``channels_last_3d``."""
        padded = self._padded(x)
        step = self.stride[2] * x.shape[1]
        pairs = x.element_size() * 2 == _PAIR and step % 2 == 0 and padded.shape[3] % 2 == 0
        # a pair of short numbers is copied as one: half the steps of the innermost loop
        source, unit = (padded.view(torch.int32), 2) if pairs else (padded, 1)
        windows = self._windows(source, step // unit, self.taps * x.shape[1] // unit)
        found = torch.empty(windows.shape, dtype=source.dtype, device=x.device)
        for plane in range(self.steps[0]):
            for row in range(self.steps[1]):
                found[:, :, :, :, plane, row].copy_(windows[:, :, :, :, plane, row])
        return found.view(x.dtype).flatten(4).permute(0, 4, 1, 2, 3)

    def _windows(self, source: Tensor, step: int, length: int) -> Tensor:
        """(N, D, H, W * C) as (N, D', H', W', planes, rows, taps * C), a view in which voxels lie more than once."""
        planes, rows = self.steps
        batch, depth, height, row = source.stride()
        count = (source.shape[3] - length) // step + 1
        shape = (len(source), source.shape[1] // planes, source.shape[2] // rows, count, planes, rows, length)
        return source.as_strided(shape, (batch, planes * depth, rows * height, step * row, depth, height, row))

    def _padded(self, x: Tensor) -> Tensor:
        """(N, C, D, H, W) with its zeros around as (N, D', H', W' * C), as far as the convolution looks."""
        sizes = [self._reached(axis, size) for axis, size in enumerate(x.shape[2:])]
        padded = x.new_zeros(len(x), *sizes, x.shape[1])
        inside = [min(reached - pad, size) for reached, pad, size in zip(sizes, self.padding, x.shape[2:], strict=True)]
        target, source = padded.permute(0, 4, 1, 2, 3), x
        for axis, (pad, length) in enumerate(zip(self.padding, inside, strict=True), 2):
            target, source = target.narrow(axis, pad, length), source.narrow(axis, 0, length)
        target.copy_(source)
        return padded.flatten(3)

    def _reached(self, axis: int, size: int) -> int:
        """Voxels along an axis from the first zero on: whole blocks of planes and rows, and of the last axis all."""
        outputs = (size + 2 * self.padding[axis] - self.kernel[axis]) // self.stride[axis] + 1
        if axis == 2:
            return (outputs - 1) * self.stride[2] + self.taps
        left, step = self.left_stride[axis], self.steps[axis]
        return ((outputs - 1) * left + math.ceil(self.kernel[axis] / step)) * step
