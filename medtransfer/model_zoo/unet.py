"""UNet over any list of encoder modules, with the signature, attributes and keys of the ptimz tutorial."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError
from .blocks import BLOCKS, BasicBlock, Bottleneck, ResLayer
from .layers import Config, Layers, Size, cumulative, hold_statistics, hold_still, initialise, records_arguments
from .resnet import ResNet, zero_last_norms

Block = str | type[BasicBlock] | type[Bottleneck]


class UpBlock(nn.Module):
    """Upsample, bring to the skip's size, concatenate (up, skip), drop out, convolve.

    Args:
        layers: The builder of the network.
        in_channels: Channels from below.
        skip_channels: Channels of the skip connection.
        out_channels: Channels of the output.
        stride: Factor of the upsampling, a number or one number an axis.
        upsample_type: ``"deconv"``, a transposed convolution, or ``"interp"``, linear interpolation and a 1x1x1
            convolution.
    """

    def __init__(
        self,
        layers: Layers,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        stride: Size,
        upsample_type: str,
        block: type[BasicBlock] | type[Bottleneck],
        dropout_rate: float,
        with_cp: bool,
    ) -> None:
        super().__init__()
        self.up = _upsampling(layers, upsample_type, in_channels, out_channels, stride)
        self.dropout = layers.dropout(dropout_rate)
        joined = out_channels + skip_channels
        shortcut = nn.Sequential(layers.conv(joined, out_channels, 1, bias=True), layers.norm(out_channels)[1])
        self.conv = block(layers, joined, out_channels, downsample=shortcut, with_cp=with_cp)
        self._mode = layers.interpolation

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(N, in_channels, ...) and (N, skip_channels, ...) -> (N, out_channels, size of the skip)."""
        x = _to_size(self.up(x), skip.shape[2:], self._mode)
        return self.conv(self.dropout(torch.cat([x, skip], dim=1)))


class UNet(nn.Module):
    """A decoder with skip connections around encoder modules that stay the caller's own (shared by reference).

    Args:
        extra: ``num_channels``, channels of each encoder stage; ``nclasses``; and optionally ``strides``, the stride
            of each stage against the one before (by default those of the ResNet whose stages these are, else 2).
        layers: Encoder modules, called one after the other, for example :meth:`ResNet.stages`.
        conv_cfg, norm_cfg, act_cfg: mmcv's config dicts of the decoder.
        norm_eval: Keep batch-norm statistics fixed in training, in the encoder too.
        with_cp: Recompute decoder blocks in the backward pass to save memory.
        upsample_type: ``"deconv"`` or ``"interp"``.
        decoder_block: ``"bottleneck"`` or ``"basic"``.
        dropout_rate: Share of channels dropped before each decoder block and the final layer.
        zero_init_residual: Start every decoder block as its shortcut.
        aux_train: Deep supervision: in training ``forward`` returns ``[logits, coarser logits, ...]``, all of the
            input's size.
        full_resolution_skip: Channels of one more skip connection at the input's own resolution, 0 for none. The
            tutorial's network ends at the stem's resolution and interpolates, which blurs fine structures.
        in_channels: Channels of the input; needed with ``full_resolution_skip``.
        frozen_stages: -1 freezes nothing, n freezes ``encoder_0`` to ``encoder_n``.

    Attributes:
        encoder_0 ..., decoder_0 ... (0 is the highest resolution), final_layer, aux_layers; with a full-resolution
        skip also input_skip and input_decoder.

    Raises:
        ModelError: channels, strides and encoder modules do not belong together.

    Source: Ronneberger et al., MICCAI 2015; deep supervision as in Kayalibay et al., 2017.

    >>> encoder = ResNet(10, in_channels=1, base_channels=4, stem_channels=4)
    >>> net = UNet(dict(num_channels=encoder.stage_channels, nclasses=3), encoder.stages()).eval()
    >>> net(torch.rand(1, 1, 16, 16, 16)).shape
    torch.Size([1, 3, 16, 16, 16])
    """

    task = "segmentation"
    arguments: dict[str, Any]

    @records_arguments
    def __init__(
        self,
        extra: Config,
        layers: Sequence[nn.Module],
        conv_cfg: Config | None = None,
        norm_cfg: Config | None = None,
        norm_eval: bool = False,
        with_cp: bool = False,
        upsample_type: str = "deconv",
        decoder_block: Block = "bottleneck",
        dropout_rate: float = 0.0,
        zero_init_residual: bool = True,
        aux_train: bool = False,
        act_cfg: Config | None = None,
        full_resolution_skip: int = 0,
        in_channels: int | None = None,
        frozen_stages: int = -1,
    ) -> None:
        super().__init__()
        origin = _origin(layers)
        channels, self.num_classes, strides = _read_extra(extra, origin)
        builder = Layers(conv_cfg, norm_cfg, act_cfg)
        self.ndim, self._mode = builder.ndim, builder.interpolation
        self.aux_train, self.norm_eval, self.frozen_stages = aux_train, norm_eval, frozen_stages
        self._like_encoder = origin is not None and _is_like(origin, builder, strides)
        self.output_stride = cumulative(strides, self.ndim)
        _check_stages(layers, channels, strides, frozen_stages)

        self.down_layer_name = [f"encoder_{i}" for i in range(len(layers))]
        for name, module in zip(self.down_layer_name, layers, strict=True):
            self.add_module(name, module)
        self.in_channels = origin["arguments"]["in_channels"] if origin and in_channels is None else in_channels

        block = _named_block(decoder_block)
        shared = (upsample_type, block, dropout_rate, with_cp)
        self.up_layer_name = [f"decoder_{i}" for i in range(len(channels) - 1)]
        for i, name in enumerate(self.up_layer_name):
            up = UpBlock(builder, channels[i + 1], channels[i], channels[i], strides[i + 1], *shared)
            self.add_module(name, up)

        last = channels[0]
        if full_resolution_skip:
            if self.in_channels is None:
                raise ModelError("full_resolution_skip needs in_channels, the channels of the input")
            last = full_resolution_skip
            self.input_skip = builder.conv_module(self.in_channels, last, 3)
            self.input_decoder = UpBlock(builder, channels[0], last, last, strides[0], *shared)
        self.final_layer = _head(builder, last, self.num_classes, dropout_rate)
        if aux_train:
            inner = channels[1:-1][::-1]
            self.aux_layers = nn.ModuleList(_head(builder, width, self.num_classes, dropout_rate) for width in inner)

        self._initialise_decoder(zero_init_residual)
        self._hold()

    @classmethod
    def around(cls, encoder: ResNet, num_classes: int, **decoder_arguments: Any) -> UNet:
        """A UNet around the stages of a ResNet, by reference, with the channels, strides and layer types it has.

        >>> encoder = ResNet(10, in_channels=1, base_channels=4, stem_channels=4)
        >>> UNet.around(encoder, num_classes=3).encoder_2 is encoder.layer2
        True
        """
        extra = {
            "num_channels": list(encoder.stage_channels),
            "nclasses": num_classes,
            "strides": [list(stride) for stride in encoder.stage_strides],
        }
        inherited = {name: encoder.arguments[name] for name in SHARED_ARGUMENTS if name in encoder.arguments}
        return cls(extra, encoder.stages(), **{**inherited, "in_channels": encoder.in_channels, **decoder_arguments})

    @property
    def architecture(self) -> dict[str, Any] | None:
        """Name and arguments with which ``create_model`` builds this network again.

        None for a foreign encoder, and for a decoder of other layer types or strides than its encoder's.
        """
        origin = self.encoder_origin()
        if origin is None or not self._like_encoder:
            return None
        own = {k: copy.deepcopy(v) for k, v in self.arguments.items() if k not in ("extra", "layers", "in_channels")}
        # the encoder's head is not a part of this network
        encoder = {k: copy.deepcopy(v) for k, v in origin["arguments"].items() if k not in ("head_type", "num_classes")}
        arguments = {**encoder, **own, "num_classes": self.num_classes}
        return {"name": origin["name"].replace("resnet", "resunet"), "arguments": arguments}

    def encoder_origin(self) -> dict[str, Any] | None:
        """The architecture record of the ResNet whose stages these are, or None."""
        return _origin(self.stages())

    def stages(self) -> list[nn.Module]:
        """The encoder modules, by reference."""
        return [getattr(self, name) for name in self.down_layer_name]

    def features(self, x: Tensor) -> list[Tensor]:
        """Encoder feature maps from high to low resolution."""
        maps = []
        for stage in self.stages():
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(N, C, D, H, W) -> logits (N, nclasses, D, H, W); a list of them in training with ``aux_train``."""
        maps = self.features(x)
        decoded = self._decode(maps)
        top = decoded[-1]
        if hasattr(self, "input_skip"):
            top = self.input_decoder(top, self.input_skip(x))
        logits = _to_size(self.final_layer(top), x.shape[2:], self._mode)
        if not (self.aux_train and self.training):
            return logits
        auxiliary = [head(level) for head, level in zip(self.aux_layers, decoded[:-1], strict=True)]
        return [logits, *(_to_size(a, x.shape[2:], self._mode) for a in reversed(auxiliary))]

    def train(self, mode: bool = True) -> UNet:
        """Switch the mode; frozen stages and held statistics stay as they are."""
        super().train(mode)
        if mode:
            self._hold()
        return self

    def _decode(self, maps: list[Tensor]) -> list[Tensor]:
        """Decoder outputs from low to high resolution."""
        decoded, x = [], maps[-1]
        for i in reversed(range(len(self.up_layer_name))):
            x = getattr(self, self.up_layer_name[i])(x, maps[i])
            decoded.append(x)
        return decoded

    def _hold(self) -> None:
        hold_still(self.stages()[: self.frozen_stages + 1])
        if self.norm_eval:
            hold_statistics(self)

    def _initialise_decoder(self, zero_init_residual: bool) -> None:
        """Initialise all but the encoder, whose weights may come from somewhere, and the heads."""
        for name, module in self.named_children():
            # He's rule by fan-out would start a head of few classes with logits of several units, and a wasted start
            if name in (*self.down_layer_name, "final_layer", "aux_layers"):
                continue
            initialise(module)
            if zero_init_residual:
                zero_last_norms(module)


#: arguments that a decoder takes over from its encoder
SHARED_ARGUMENTS = ("conv_cfg", "norm_cfg", "act_cfg", "with_cp", "norm_eval", "frozen_stages", "zero_init_residual")


def _upsampling(layers: Layers, kind: str, in_channels: int, out_channels: int, stride: Size) -> nn.Module:
    if kind == "deconv":
        return layers.upsampling_conv(in_channels, out_channels, stride)
    if kind != "interp":
        raise ModelError(f"upsample_type must be 'deconv' or 'interp', got {kind!r}")
    factor = float(stride) if isinstance(stride, int) else tuple(float(s) for s in stride)
    upsample = nn.Upsample(scale_factor=factor, mode=layers.interpolation, align_corners=False)
    return nn.Sequential(upsample, layers.conv(in_channels, out_channels, 1, bias=True))


def _head(layers: Layers, in_channels: int, num_classes: int, dropout_rate: float) -> nn.Sequential:
    return nn.Sequential(layers.dropout(dropout_rate), layers.conv(in_channels, num_classes, 1, bias=True))


def _to_size(x: Tensor, size: Sequence[int], mode: str) -> Tensor:
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode=mode, align_corners=False)


def _origin(stages: Sequence[nn.Module]) -> dict[str, Any] | None:
    """The record of the ResNet whose stages these are, all of them and in order: stem, (pooling, layer1), layer2 ..."""
    pooled = stages[1] if len(stages) > 1 else None
    if type(pooled) is not nn.Sequential or len(pooled) != 2:
        return None
    origins = [getattr(stage, "origin", None) for stage in (pooled[1], *stages[2:])]
    first = origins[0]
    if first is None or any(origin != first for origin in origins) or len(first["stage_strides"]) != len(stages):
        return None
    return first


def _read_extra(extra: Config, origin: dict[str, Any] | None) -> tuple[list[int], int, list[Size]]:
    missing = [key for key in ("num_channels", "nclasses") if key not in extra]
    if missing:
        raise ModelError(f"extra needs the keys num_channels and nclasses, got {', '.join(extra) or 'none'}")
    channels = list(extra["num_channels"])
    own = [2] * len(channels) if origin is None else origin["stage_strides"]
    return channels, int(extra["nclasses"]), list(extra.get("strides", own))


def _named_block(block: Block) -> type[BasicBlock] | type[Bottleneck]:
    if not isinstance(block, str):
        return block
    names = {**BLOCKS, **{kind.__name__: kind for kind in BLOCKS.values()}}
    if block not in names:
        raise ModelError(f"decoder_block must be one of {', '.join(BLOCKS)}, got {block!r}")
    return names[block]


def _is_like(origin: dict[str, Any], builder: Layers, strides: list[Size]) -> bool:
    """Whether a decoder has the layer types and strides of its encoder, as ``create_model`` builds it."""
    encoder = Layers(*(origin["arguments"].get(name) for name in ("conv_cfg", "norm_cfg", "act_cfg")))
    if encoder.ndim != builder.ndim:
        raise ModelError(
            f"the encoder is {encoder.ndim}-D, the decoder {builder.ndim}-D",
            hint=f"Pass conv_cfg=dict(type='Conv{encoder.ndim}d')",
        )
    same_strides = [cumulative([stride], builder.ndim) for stride in strides] == list(origin["stage_strides"])
    return same_strides and vars(encoder) == vars(builder)


def _check_stages(layers: Sequence[nn.Module], channels: list[int], strides: list[Size], frozen_stages: int) -> None:
    if not len(layers) == len(channels) == len(strides):
        raise ModelError(
            f"extra['num_channels'] needs one number an encoder module: got {len(channels)} for {len(layers)} modules"
            + ("" if len(strides) == len(channels) else f" and {len(strides)} strides")
        )
    if frozen_stages not in range(-1, len(layers)):
        raise ModelError(f"frozen_stages must be from -1 to {len(layers) - 1}, got {frozen_stages!r}")
    for i, module in enumerate(layers):
        last = module[-1] if type(module) is nn.Sequential and len(module) else module
        if isinstance(last, ResLayer) and last.out_channels != channels[i]:
            raise ModelError(
                f"extra['num_channels'][{i}] is {channels[i]}, the encoder module gives {last.out_channels}"
            )
