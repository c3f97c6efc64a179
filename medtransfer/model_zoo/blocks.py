"""Residual blocks and stages, with the state-dict keys of torchvision, MedicalNet and ptimz."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import ModelError
from .layers import Layers, Size, check_choice, per_axis
from .recomputing import both_runs


class ResidualBlock(nn.Module):
    """``activation(units(x) + shortcut(x))``, a unit being convolution, norm and (but for the last) activation.

    Units are the attributes ``conv1, bn1, conv2, bn2, ...`` (the norm's name follows its type).
    """

    expansion = 1

    def __init__(
        self,
        layers: Layers,
        in_channels: int,
        out_channels: int,
        stride: Size = 1,
        dilation: int = 1,
        downsample: nn.Module | None = None,
        style: str = "pytorch",
        with_cp: bool = False,
        kernel_size: Size = 3,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.with_cp = with_cp
        self._layers, self._kernel_size, self._bias = layers, kernel_size, bias
        self._units: list[tuple[str, str]] = []
        self.act = layers.act()
        self._add_units(in_channels, out_channels, stride, dilation, style)
        # after the units: the order of keys is torchvision's
        self.downsample = downsample

    @abstractmethod
    def _add_units(self, in_channels: int, out_channels: int, stride: Size, dilation: int, style: str) -> None:
        """Build the block's convolutions and norms."""

    def _add_unit(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size, dilation: int) -> None:
        number = len(self._units) + 1
        norm_name, norm = self._layers.norm(out_channels, postfix=number)
        conv = self._layers.conv(in_channels, out_channels, kernel_size, stride, dilation, self._bias)
        self.add_module(f"conv{number}", conv)
        self.add_module(norm_name, norm)
        self._units.append((f"conv{number}", norm_name))

    @property
    def last_norm(self) -> nn.Module:
        """The norm before the sum; zero there makes the block start as its shortcut."""
        return self.get_submodule(self._units[-1][1])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> (N, out_channels, ...), each axis divided by the stride and rounded up."""
        if self.with_cp and torch.is_grad_enabled():
            return self.act(checkpoint(self._residual, x, use_reentrant=False, context_fn=partial(both_runs, self)))
        return self.act(self._residual(x))

    def _residual(self, x: Tensor) -> Tensor:
        out = x
        for conv, norm in self._units:
            out = getattr(self, norm)(getattr(self, conv)(out))
            if norm != self._units[-1][1]:
                out = self.act(out)
        return out + (x if self.downsample is None else self.downsample(x))


class BasicBlock(ResidualBlock):
    """Two 3x3x3 convolutions (He et al., CVPR 2016). Both are dilated, as in MedicalNet."""

    def _add_units(self, in_channels: int, out_channels: int, stride: Size, dilation: int, style: str) -> None:
        self._add_unit(in_channels, out_channels, self._kernel_size, stride, dilation)
        self._add_unit(out_channels, out_channels, self._kernel_size, 1, dilation)


class Bottleneck(ResidualBlock):
    """1x1x1, 3x3x3, 1x1x1 convolutions (He et al., CVPR 2016).

    The stride is on the 3x3x3 convolution (``style="pytorch"``, torchvision's) or on the first (``style="caffe"``).
    """

    expansion = 4

    def _add_units(self, in_channels: int, out_channels: int, stride: Size, dilation: int, style: str) -> None:
        if out_channels % self.expansion:
            raise ModelError(f"a bottleneck needs out_channels divisible by {self.expansion}, got {out_channels}")
        middle = out_channels // self.expansion
        first, second = (1, stride) if style == "pytorch" else (stride, 1)
        self._add_unit(in_channels, middle, 1, first, 1)
        self._add_unit(middle, middle, self._kernel_size, second, dilation)
        self._add_unit(middle, out_channels, 1, 1, 1)


BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


def block_with_expansion(name: str, expansion: int | None = None) -> Any:
    """A block type by name, a bottleneck with another expansion if that is asked for.

    Raises:
        ModelError: no such block, or an expansion that it cannot have.

    >>> block_with_expansion("bottleneck", 2).expansion
    2
    """
    check_choice("block", name, BLOCKS)
    block = BLOCKS[name]
    if expansion is None or expansion == block.expansion:
        return block
    if name == "basic" or expansion < 1:
        raise ModelError(f"expansion must be {block.expansion} in a {name} block or a positive number in a "
                         f"bottleneck, got {expansion}")  # fmt: skip
    return type(block.__name__, (block,), {"expansion": expansion})


def zero_last_norms(network: nn.Module) -> None:
    """Set the scale of every block's last norm to zero, so that the block starts as its shortcut."""
    for module in network.modules():
        if isinstance(module, ResidualBlock) and getattr(module.last_norm, "weight", None) is not None:
            nn.init.zeros_(module.last_norm.weight)  # type: ignore[arg-type]


class PaddedShortcut(nn.Module):
    """Shortcut A: subsample, then zeros for the new channels; no parameters, and the gradient passes.

    MedicalNet (and MONAI) detach it from the graph; the forward values are the same.
    """

    def __init__(self, new_channels: int, stride: Size, ndim: int) -> None:
        super().__init__()
        self.new_channels = new_channels
        self._take = (slice(None), slice(None), *(slice(None, None, step) for step in per_axis(stride, ndim)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> (N, C + new_channels, ...)."""
        x = x[self._take]
        return torch.cat([x, x.new_zeros(x.shape[0], self.new_channels, *x.shape[2:])], dim=1)


class ResLayer(nn.Sequential):
    """A stage: residual blocks of which the first changes size and width.

    ``origin`` is the architecture record of the encoder that built it: a UNet around these very modules can then be
    saved, and turned back into a classifier, without being told what they are.
    """

    def __init__(
        self,
        layers: Layers,
        block: type[BasicBlock] | type[Bottleneck],
        num_blocks: int,
        in_channels: int,
        out_channels: int,
        stride: Size = 1,
        shortcut: str = "B",
        avg_down: bool = False,
        **block_arguments: Any,
    ) -> None:
        downsample = build_shortcut(layers, in_channels, out_channels, stride, shortcut, avg_down)
        first = block(layers, in_channels, out_channels, stride, downsample=downsample, **block_arguments)
        rest = [block(layers, out_channels, out_channels, **block_arguments) for _ in range(num_blocks - 1)]
        super().__init__(first, *rest)
        self.out_channels = out_channels
        self.origin: dict[str, Any] | None = None


def build_shortcut(
    layers: Layers, in_channels: int, out_channels: int, stride: Size, kind: str = "B", avg_down: bool = False
) -> nn.Module | None:
    """The shortcut of a stage's first block: None for identity, type A (no parameters) or B (1x1x1 conv and norm).

    ``avg_down`` pools before a convolution of stride 1 (ResNet-D, He et al., CVPR 2019). Type D, nnU-Net's, does so
    too, and has the convolution only where the number of channels changes.
    """
    strided = any(step != 1 for step in per_axis(stride, layers.ndim))
    if not strided and in_channels == out_channels:
        return None
    if kind == "A" and in_channels > out_channels:
        raise ModelError(f"shortcut='A' adds channels, here it would take {in_channels} to {out_channels}",
                         hint="Use shortcut='B', or stem_channels up to the first stage's width")  # fmt: skip
    if kind == "A":
        return PaddedShortcut(out_channels - in_channels, stride, layers.ndim)
    pool = [layers.avg_pool(stride)] if (avg_down or kind == "D") and strided else []
    if kind == "D" and in_channels == out_channels:
        return nn.Sequential(*pool)
    conv = layers.conv(in_channels, out_channels, 1, stride=1 if pool else stride)
    return nn.Sequential(*pool, conv, layers.norm(out_channels)[1])
