"""What a UNet's decoder is made of: upsampling, the skip connection, and the convolutions that join them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from .blocks import BLOCKS, BasicBlock, Bottleneck
from .conv_blocks import ConvStage
from .layers import Layers, Size, per_stage, to_size

Block = str | type[BasicBlock] | type[Bottleneck]


@dataclass(frozen=True)
class Decoding:
    """How every level of a decoder is built; see :class:`~medtransfer.model_zoo.unet.UNet` for the arguments.

    ``convs`` and ``kernel_sizes`` belong to ``block="convs"``, a :class:`ConvStage`, as nnU-Net has it.
    """

    block: Block = "bottleneck"
    upsample_type: str = "deconv"
    up_channels: str = "skip"
    dropout_rate: float = 0.0
    convs: int | Sequence[int] = 2
    kernel_sizes: int | Sequence[Size] = 3
    bias: bool = True
    with_cp: bool = False

    def __post_init__(self) -> None:
        for name, choices in (("upsample_type", ("deconv", "interp")), ("up_channels", ("skip", "below"))):
            if getattr(self, name) not in choices:
                wanted = " or ".join(map(repr, choices))
                raise ModelError(f"{name} must be {wanted}, got {getattr(self, name)!r}")

    def upsampling(self, layers: Layers, in_channels: int, out_channels: int, stride: Size) -> nn.Module:
        """A transposed convolution, or interpolation and a 1x1x1 convolution."""
        if self.upsample_type == "deconv":
            # beside residual blocks it always has a bias, in the tutorial's files
            return layers.upsampling_conv(in_channels, out_channels, stride, self.bias or self.block != "convs")
        factor = float(stride) if isinstance(stride, int) else tuple(float(s) for s in stride)
        upsample = nn.Upsample(scale_factor=factor, mode=layers.interpolation, align_corners=False)
        return nn.Sequential(upsample, layers.conv(in_channels, out_channels, 1, bias=True))

    def joining(self, layers: Layers, in_channels: int, out_channels: int, level: int, levels: int) -> nn.Module:
        """The convolutions over upsampled and skipped channels at a level, 0 the highest resolution."""
        if self.block == "convs":
            count = per_stage("decoder_convs", self.convs, levels)[level]
            # one kernel size a stage of the encoder, of which the lowest has no level here
            kernel = per_stage("decoder_kernel_sizes", self.kernel_sizes, levels + 1)[level]
            widths = [in_channels, *[out_channels] * count]
            return ConvStage(layers, widths, kernel, bias=self.bias, with_cp=self.with_cp)
        shortcut = nn.Sequential(layers.conv(in_channels, out_channels, 1, bias=True), layers.norm(out_channels)[1])
        block = _named_block(self.block)
        return block(layers, in_channels, out_channels, downsample=shortcut, with_cp=self.with_cp)


class UpBlock(nn.Module):
    """Upsample, bring to the skip's size, concatenate (up, skip), drop out, convolve.

    Args:
        layers: The builder of the network.
        in_channels: Channels from below.
        skip_channels: Channels of the skip connection.
        out_channels: Channels of the output.
        stride: Factor of the upsampling, a number or one number an axis.
        decoding: How it is built.
        level: Its place, 0 the highest resolution.
        levels: Number of levels.
    """

    def __init__(
        self,
        layers: Layers,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        stride: Size,
        decoding: Decoding,
        level: int = 0,
        levels: int = 1,
    ) -> None:
        super().__init__()
        up_channels = in_channels if decoding.up_channels == "below" else out_channels
        self.up = decoding.upsampling(layers, in_channels, up_channels, stride)
        self.dropout = layers.dropout(decoding.dropout_rate)
        self.conv = decoding.joining(layers, up_channels + skip_channels, out_channels, level, levels)
        self._mode = layers.interpolation

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(N, in_channels, ...) and (N, skip_channels, ...) -> (N, out_channels, size of the skip)."""
        x = to_size(self.up(x), skip.shape[2:], self._mode)
        return self.conv(self.dropout(torch.cat([x, skip], dim=1)))


def build_segmentation_head(layers: Layers, in_channels: int, num_classes: int, dropout_rate: float) -> nn.Sequential:
    """Dropout and a 1x1x1 convolution with bias."""
    return nn.Sequential(layers.dropout(dropout_rate), layers.conv(in_channels, num_classes, 1, bias=True))


def _named_block(block: Block) -> Any:
    if not isinstance(block, str):
        return block
    names = {**BLOCKS, **{kind.__name__: kind for kind in BLOCKS.values()}}
    if block not in names:
        raise ModelError(f"decoder_block must be one of {', '.join((*BLOCKS, 'convs'))}, got {block!r}")
    return names[block]
