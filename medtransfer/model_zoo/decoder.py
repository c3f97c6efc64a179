"""What a UNet's decoder is made of: upsampling, the skip connection, and the convolutions that join them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from .blocks import BLOCKS, BasicBlock, Bottleneck, zero_last_norms
from .conv_blocks import ConvModule, ConvStage
from .layers import Layers, Size, initialise, per_stage, to_size

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


class Decoder(nn.Module):
    """The levels of a decoder, from an encoder's feature maps to logits; it holds no encoder.

    A subclass calls :meth:`add_levels` in its constructor.

    Attributes:
        decoder_0 ... (0 is the highest resolution), final_layer; with deep supervision aux_layers, with a skip
        connection at full resolution input_skip and input_decoder.
    """

    aux_train: bool
    up_layer_name: list[str]

    def add_levels(
        self,
        layers: Layers,
        channels: Sequence[int],
        strides: Sequence[Size],
        num_classes: int,
        decoding: Decoding,
        aux_train: bool = False,
        full_resolution_skip: int = 0,
        in_channels: int | None = None,
        zero_init_residual: bool = True,
    ) -> None:
        """Build and initialise everything.

        Args:
            layers: The builder of the layers.
            channels, strides: Of each feature map, high to low resolution; strides against the map before.
            num_classes: Channels of the logits.
            decoding: How each level is built.
            aux_train, full_resolution_skip, in_channels, zero_init_residual: See
                :class:`~medtransfer.model_zoo.unet.UNet`.

        Raises:
            ModelError: the channels of the input are needed and not known.
        """
        self.aux_train, self._mode = aux_train, layers.interpolation
        levels, last, rate = len(channels) - 1, channels[0], decoding.dropout_rate
        self.up_layer_name = [f"decoder_{i}" for i in range(levels)]
        for i, name in enumerate(self.up_layer_name):
            widths = (channels[i + 1], channels[i], channels[i])
            self.add_module(name, UpBlock(layers, *widths, strides[i + 1], decoding, i, levels))
        if full_resolution_skip:
            if in_channels is None:
                raise ModelError("full_resolution_skip needs in_channels, the channels of the input")
            last = full_resolution_skip
            self.input_skip = ConvModule(layers, in_channels, last)
            self.input_decoder = UpBlock(layers, channels[0], last, last, strides[0], decoding, 0, levels)
        self.final_layer = build_segmentation_head(layers, last, num_classes, rate)
        if aux_train:
            inner = list(channels[1:-1])[::-1]
            self.aux_layers = nn.ModuleList(build_segmentation_head(layers, c, num_classes, rate) for c in inner)
        for name, part in self.decoder_parts().items():
            # He's rule by fan-out would start a head of few classes with logits of several units, and a wasted start
            if name not in ("final_layer", "aux_layers"):
                initialise(part)
                if zero_init_residual:
                    zero_last_norms(part)

    def decoder_parts(self) -> dict[str, nn.Module]:
        """Everything but the encoder, by name."""
        names = (*self.up_layer_name, "input_skip", "input_decoder", "final_layer", "aux_layers")
        return {name: self._modules[name] for name in names if name in self._modules}  # type: ignore[misc]

    def decode(self, x: Tensor, maps: Sequence[Tensor]) -> Tensor | list[Tensor]:
        """The input (N, C, D, H, W) and the encoder's maps of it -> logits (N, K, D, H, W).

        In training with ``aux_train`` a list of them, those of coarser levels behind.
        """
        decoded = self._decode(maps)
        top = decoded[-1]
        if hasattr(self, "input_skip"):
            top = self.input_decoder(top, self.input_skip(x))
        logits = to_size(self.final_layer(top), x.shape[2:], self._mode)
        if not (self.aux_train and self.training):
            return logits
        auxiliary = [head(level) for head, level in zip(self.aux_layers, decoded[:-1], strict=True)]
        return [logits, *(to_size(a, x.shape[2:], self._mode) for a in reversed(auxiliary))]

    def _decode(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Outputs of the levels from low to high resolution."""
        decoded, x = [], maps[-1]
        for i in reversed(range(len(self.up_layer_name))):
            x = getattr(self, self.up_layer_name[i])(x, maps[i])
            decoded.append(x)
        return decoded


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
