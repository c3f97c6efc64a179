"""UNet over any list of encoder modules, with the signature, attributes and keys of the ptimz tutorial."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import ModelError
from .decoder import Block, Decoder, Decoding
from .encoder import Encoder, origin_of, stage_maps
from .layer_configs import Config
from .layers import Layers, Size, cumulative, hold_statistics, hold_still, records_arguments


class UNet(Decoder):
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
        self.ndim = builder.ndim
        self.norm_eval, self.frozen_stages = norm_eval, frozen_stages
        self._like_encoder = origin is not None and _is_like(origin, builder, strides)
        self.output_stride = cumulative(strides, self.ndim)
        _check_stages(layers, channels, strides, frozen_stages)

        self.down_layer_name = [f"encoder_{i}" for i in range(len(layers))]
        for name, module in zip(self.down_layer_name, layers, strict=True):
            self.add_module(name, module)
        self.in_channels = origin["arguments"]["in_channels"] if origin and in_channels is None else in_channels

        decoding = Decoding(decoder_block, upsample_type, up_channels, dropout_rate, decoder_convs,
                            decoder_kernel_sizes, decoder_bias, with_cp)  # fmt: skip
        self.add_levels(builder, channels, strides, self.num_classes, decoding, aux_train, full_resolution_skip,
                        self.in_channels, zero_init_residual)  # fmt: skip
        self._hold()

    @classmethod
    def around(cls, encoder: Encoder, num_classes: int, **decoder_arguments: Any) -> UNet:
        """A UNet around the stages of an encoder, by reference, with the channels, strides and layer types it has.

        Args:
            encoder: An encoder of the zoo; its head, if it has one, is left where it is.
            num_classes: Classes of the segmentation, the background included.
            **decoder_arguments: Of :class:`UNet`, in place of those that fit the encoder.

        Raises:
            ModelError: the arguments do not describe a decoder for this encoder.

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
        return stage_maps(self.stages(), x)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(N, C, D, H, W) -> logits (N, nclasses, D, H, W); a list of them in training with ``aux_train``."""
        return self.decode(x, self.features(x))

    def train(self, mode: bool = True) -> UNet:
        """Switch the mode; frozen stages and held statistics stay as they are."""
        super().train(mode)
        if mode:
            self._hold()
        return self

    def _hold(self) -> None:
        hold_still(self.stages()[: self.frozen_stages + 1])
        if self.norm_eval:
            hold_statistics(self)


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
