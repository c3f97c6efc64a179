"""Convolution, norm and activation in a row: the stages of U-Nets without residual blocks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .layers import Layers, Size, initialise, per_axis
from .recomputing import both_runs


class ConvUnit(nn.Module):
    """``activation(norm(conv(x)))`` with the keys of mmcv's ConvModule (``conv``, and ``bn``, ``in`` or ``gn``).

    Unlike that module it may have a bias before a norm, as nnU-Net's and Models Genesis' files do.
    """

    def __init__(
        self, layers: Layers, in_channels: int, out_channels: int, kernel_size: Size, stride: Size, bias: bool
    ) -> None:
        super().__init__()
        self.conv = layers.conv(in_channels, out_channels, kernel_size, stride, bias=bias)
        self._norm, norm = layers.norm(out_channels)
        self.add_module(self._norm, norm)
        self.act = layers.act()

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, ...) -> (N, out_channels, ...), each axis divided by the stride and rounded up."""
        return self.act(getattr(self, self._norm)(self.conv(x)))


class ConvModule(nn.Module):
    """``activation(norm(conv(x)))`` with the keys of mmcv's module of this name (``conv``, ``bn``, ``activate``)."""

    def __init__(
        self, layers: Layers, in_channels: int, out_channels: int, kernel_size: Size = 3, stride: Size = 1
    ) -> None:
        super().__init__()
        self.conv = layers.conv(in_channels, out_channels, kernel_size, stride)
        self._norm, norm = layers.norm(out_channels)
        self.add_module(self._norm, norm)
        self.activate = layers.act()
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, ...) -> (N, out_channels, ...), each axis divided by the stride and rounded up."""
        return self.activate(getattr(self, self._norm)(self.conv(x)))


class Stack(nn.Sequential):
    """Modules in a row that may be recomputed in the backward pass to save memory.

    Attributes:
        origin: See :class:`~medtransfer.model_zoo.blocks.ResLayer`.
    """

    def __init__(self, out_channels: int, with_cp: bool) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.with_cp = with_cp
        self.origin: dict[str, Any] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> (N, out_channels, ...)."""
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(super().forward, x, use_reentrant=False, context_fn=partial(both_runs, self))
        return super().forward(x)


class ConvStage(Stack):
    """A stage: convolution units ``0, 1, ...`` of which the first changes the size, or max-pooling (``pool``) does.

    Each axis is divided by the stride and rounded up.

    Args:
        layers: The builder of the network.
        channels: Of the input, then of each unit's output.
        kernel_size: Of every unit.
        stride: Of the first unit, or of the pooling.
        bias: Whether convolutions have one.
        pool: ``"conv"``, or ``"max"`` for pooling over as many voxels as the stride.
        with_cp: Recompute the stage in the backward pass to save memory.
    """

    def __init__(
        self,
        layers: Layers,
        channels: Sequence[int],
        kernel_size: Size = 3,
        stride: Size = 1,
        bias: bool = False,
        pool: str = "conv",
        with_cp: bool = False,
    ) -> None:
        super().__init__(channels[-1], with_cp)
        strides = per_axis(stride, layers.ndim)
        if pool == "max" and any(step != 1 for step in strides):
            # partial windows at the end count, so that axes of an odd size and of 1 voxel keep their last voxels
            kind: type[nn.Module] = getattr(nn, f"MaxPool{layers.ndim}d")
            self.add_module("pool", kind(strides, strides, ceil_mode=True))
        for i, (before, after) in enumerate(pairwise(channels)):
            step = stride if i == 0 and pool == "conv" else 1
            self.add_module(str(i), ConvUnit(layers, before, after, kernel_size, step, bias))
