"""UNet over any list of encoder modules, with the signature, attributes and keys of the ptimz tutorial."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import ModelError
from .blocks import zero_last_norms
from .decoder import Block, Decoding, UpBlock, build_segmentation_head
from .encoder import Encoder, origin_of
from .layers import (
    Config,
    Layers,
    Size,
    cumulative,
    hold_statistics,
    hold_still,
    initialise,
    records_arguments,
    to_size,
)


class UNet(nn.Module):
    """A decoder with skip connections around encoder modules that stay the caller's own (shared by reference).

    Args:
        extra: ``num_channels``, channels of each encoder stage; ``nclasses``; and optionally ``strides``, the stride
            of each stage against the one before (by default those of the encoder whose stages these are, else 2).
        layers: Encoder modules, called one after the other, for example :meth:`ResNet.stages`.
        conv_cfg, norm_cfg, act_cfg: mmcv's config dicts of the decoder.
        norm_eval: Keep batch-norm statistics fixed in training, in the encoder too.
        with_cp: Recompute decoder blocks in the backward pass to save memory.
        upsample_type: ``"deconv"`` or ``"interp"``.
        decoder_block: ``"bottleneck"``, ``"basic"``, or ``"convs"``, stacked convolutions as in nnU-Net.
        dropout_rate: Share of channels dropped before each decoder block and the final layer.
        zero_init_residual: Start every decoder block as its shortcut.
        aux_train: Deep supervision: in training ``forward`` returns ``[logits, coarser logits, ...]``, all of the
            input's size.
        full_resolution_skip: Channels of one more skip connection at the input's own resolution, 0 for none. The
            tutorial's network ends at the stem's resolution and interpolates, which blurs fine structures.
        in_channels: Channels of the input; needed with ``full_resolution_skip``.
        frozen_stages: -1 freezes nothing, n freezes ``encoder_0`` to ``encoder_n``.
        decoder_convs: Of ``"convs"``: convolutions of every level, or of each from ``decoder_0`` on.
        decoder_kernel_sizes: Of ``"convs"``: of all convolutions, or one an encoder module, whose size a level has.
        decoder_bias: Of ``"convs"``: whether convolutions have a bias.
        up_channels: Channels after upsampling, ``"skip"`` as many as the skip connection has, ``"below"`` as many as
            come from below (Models Genesis).

    Attributes:
        encoder_0 ..., decoder_0 ... (0 is the highest resolution), final_layer, aux_layers; with a full-resolution
        skip also input_skip and input_decoder.

    Raises:
        ModelError: channels, strides and encoder modules do not belong together.

    Source: Ronneberger et al., MICCAI 2015; deep supervision as in Kayalibay et al., 2017.

    >>> import torch
    >>> from medtransfer.model_zoo import ResNet
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
        decoder_convs: int | Sequence[int] = 2,
        decoder_kernel_sizes: int | Sequence[Size] = 3,
        decoder_bias: bool = True,
        up_channels: str = "skip",
    ) -> None:
        super().__init__()
        origin = origin_of(layers)
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

        decoding = Decoding(decoder_block, upsample_type, up_channels, dropout_rate, decoder_convs,
                            decoder_kernel_sizes, decoder_bias, with_cp)  # fmt: skip
        levels = len(channels) - 1
        self.up_layer_name = [f"decoder_{i}" for i in range(levels)]
        for i, name in enumerate(self.up_layer_name):
            widths = (channels[i + 1], channels[i], channels[i])
            self.add_module(name, UpBlock(builder, *widths, strides[i + 1], decoding, i, levels))

        last = channels[0]
        if full_resolution_skip:
            if self.in_channels is None:
                raise ModelError("full_resolution_skip needs in_channels, the channels of the input")
            last = full_resolution_skip
            self.input_skip = builder.conv_module(self.in_channels, last, 3)
            self.input_decoder = UpBlock(builder, channels[0], last, last, strides[0], decoding, 0, levels)
        self.final_layer = build_segmentation_head(builder, last, self.num_classes, dropout_rate)
        if aux_train:
            inner = channels[1:-1][::-1]
            self.aux_layers = nn.ModuleList(
                build_segmentation_head(builder, width, self.num_classes, dropout_rate) for width in inner
            )

        self._initialise_decoder(zero_init_residual)
        self._hold()

    @classmethod
    def around(cls, encoder: Encoder, num_classes: int, **decoder_arguments: Any) -> UNet:
        """A UNet around the stages of an encoder, by reference, with the channels, strides and layer types it has.

        >>> from medtransfer.model_zoo import ResNet
        >>> encoder = ResNet(10, in_channels=1, base_channels=4, stem_channels=4)
        >>> UNet.around(encoder, num_classes=3).encoder_2 is encoder.layer2
        True
        """
        extra = {
            "num_channels": list(encoder.stage_channels),
            "nclasses": num_classes,
            "strides": [list(stride) for stride in encoder.stage_strides],
        }
        inherited = {**encoder.decoder_arguments, "in_channels": encoder.in_channels}
        return cls(extra, encoder.stages(), **{**inherited, **decoder_arguments})

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
        return {"name": origin["segmenter"], "arguments": arguments}

    def encoder_origin(self) -> dict[str, Any] | None:
        """The architecture record of the encoder whose stages these are, or None."""
        return origin_of(self.stages())

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
        logits = to_size(self.final_layer(top), x.shape[2:], self._mode)
        if not (self.aux_train and self.training):
            return logits
        auxiliary = [head(level) for head, level in zip(self.aux_layers, decoded[:-1], strict=True)]
        return [logits, *(to_size(a, x.shape[2:], self._mode) for a in reversed(auxiliary))]

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


def _read_extra(extra: Config, origin: dict[str, Any] | None) -> tuple[list[int], int, list[Size]]:
    missing = [key for key in ("num_channels", "nclasses") if key not in extra]
    if missing:
        raise ModelError(f"extra needs the keys num_channels and nclasses, got {', '.join(extra) or 'none'}")
    channels = list(extra["num_channels"])
    own = [2] * len(channels) if origin is None else origin["stage_strides"]
    return channels, int(extra["nclasses"]), list(extra.get("strides", own))


def _is_like(origin: dict[str, Any], builder: Layers, strides: list[Size]) -> bool:
    """Whether a decoder has the layer types and strides of its encoder, as ``create_model`` builds it."""
    ndim = origin["layers"]["ndim"]
    if ndim != builder.ndim:
        raise ModelError(f"the encoder is {ndim}-D, the decoder {builder.ndim}-D",
                         hint=f"Pass conv_cfg=dict(type='Conv{ndim}d')")  # fmt: skip
    same_strides = [cumulative([stride], builder.ndim) for stride in strides] == list(origin["stage_strides"])
    return same_strides and origin["layers"] == vars(builder)


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
        width = getattr(last, "out_channels", None) if hasattr(last, "origin") else None
        if width not in (None, channels[i]):
            raise ModelError(f"extra['num_channels'][{i}] is {channels[i]}, the encoder module gives {width}")
