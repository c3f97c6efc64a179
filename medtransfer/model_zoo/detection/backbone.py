"""An encoder of the zoo as a detector's backbone, with a feature pyramid or as a single map."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from ...errors import ModelError
from ..encoder import Encoder, stage_maps
from ..layers import cumulative, hold_still
from .fpn import FeaturePyramidNetwork, build_extra_level

#: channels of a pyramid, those of nnDetection: 3-D convolutions have three times the weights of 2-D ones
PYRAMID_CHANNELS = 128
#: finest stride of a map that is used by default, as in torchvision's pyramids
FINEST_STRIDE = 4


class EncoderBackbone(nn.Module):
    """Stages of an encoder, and a feature pyramid over them.

    Args:
        body: An encoder of the zoo without a head; the same object, so that a step here moves every network around it.
        fpn: Whether there is a pyramid. Without one the backbone gives a single map.
        returned_layers: Stages whose maps are used, as numbers in ``body.features(x)`` (of a ResNet 1 is ``layer1``).
            By default of a pyramid those with strides of 4 voxels and more, one of each stride; else the last stage.
            Stages behind the last one are not run.
        out_channels: Channels of a pyramid's maps, 128 when None.
        extra_levels: Coarser maps behind a pyramid's last: ``"pool"``, ``"p6p7"`` or None. None is the default, since
            anchors of stride 64 are larger than most scans, and sizes would be padded to multiples of 64.

    Attributes:
        body, fpn (None without a pyramid): the parts.
        out_channels: Channels of every map.
        map_names, strides: Of each map, the extra ones included; strides are one number an axis.
        encoder_maps: How many of them come from the encoder: those that RoIAlign pools from.
        in_channels, ndim, output_stride: Sizes.

    Raises:
        ModelError: the body is no encoder without a head, or has no such stages.

    >>> import torch
    >>> from medtransfer.model_zoo import ResNet
    >>> backbone = EncoderBackbone(ResNet(10, in_channels=1, base_channels=4, stem_channels=4), out_channels=8)
    >>> {name: tuple(x.shape[1:]) for name, x in backbone(torch.rand(2, 1, 32, 32, 32)).items()}
    {'0': (8, 8, 8, 8), '1': (8, 4, 4, 4), '2': (8, 2, 2, 2), '3': (8, 1, 1, 1)}
    """

    def __init__(
        self,
        body: Encoder,
        fpn: bool = True,
        returned_layers: Sequence[int] | None = None,
        out_channels: int | None = None,
        extra_levels: str | None = None,
    ) -> None:
        super().__init__()
        _check(body, fpn, out_channels, extra_levels)
        strides = [cumulative(body.stage_strides[: i + 1], body.ndim) for i in range(len(body.stage_strides))]
        self.returned_layers = _layers(strides, fpn, returned_layers)
        self.body, self.in_channels, self.ndim = body, body.in_channels, body.ndim
        channels = [body.stage_channels[i] for i in self.returned_layers]
        self.strides = [strides[i] for i in self.returned_layers]
        self.map_names = [str(i) for i in range(len(channels))]
        self.encoder_maps = len(channels)
        self.fpn: FeaturePyramidNetwork | None = None
        self.out_channels = channels[-1]
        if fpn:
            self._add_pyramid(channels, PYRAMID_CHANNELS if out_channels is None else out_channels, extra_levels)
        self.output_stride = self.strides[-1]

    def forward(self, x: Tensor) -> Tensor | OrderedDict[str, Tensor]:
        """(N, C, *spatial) -> maps by name, high to low resolution; one tensor without a pyramid."""
        maps = stage_maps(self.body.stages()[: self.returned_layers[-1] + 1], x)
        if self.fpn is None:
            return maps[-1]
        return self.fpn(OrderedDict((str(i), maps[layer]) for i, layer in enumerate(self.returned_layers)))

    def _add_pyramid(self, channels: list[int], out_channels: int, extra_levels: str | None) -> None:
        extra = build_extra_level(extra_levels, out_channels, self.ndim)
        self.fpn = FeaturePyramidNetwork(channels, out_channels, self.ndim, extra)
        self.out_channels = out_channels
        for name in extra.names if extra else ():
            self.map_names.append(name)
            self.strides.append(tuple(2 * step for step in self.strides[-1]))


def freeze_stages(encoder: Encoder, trainable: int | None) -> None:
    """Leave the last ``trainable`` stages of an encoder to be trained, the others frozen; None changes nothing.

    Frozen stages are the encoder's own ``frozen_stages``, so that they stay frozen after ``train()``.

    Raises:
        ModelError: there are fewer stages, or ``frozen_stages`` was given too.
    """
    if trainable is None:
        return
    count = len(encoder.stages())
    if not isinstance(trainable, int) or trainable not in range(count + 1):
        raise ModelError(f"trainable_backbone_layers must be from 0 to {count} for this encoder, got {trainable!r}")
    if encoder.frozen_stages not in (-1, count - 1 - trainable):
        raise ModelError(
            f"trainable_backbone_layers={trainable} and frozen_stages={encoder.frozen_stages} do not agree",
            hint="Leave one of them away",
        )
    encoder.frozen_stages = count - 1 - trainable
    hold_still(encoder.stages()[: encoder.frozen_stages + 1])


def _check(body: Encoder, fpn: bool, out_channels: int | None, extra_levels: str | None) -> None:
    if not isinstance(body, Encoder) or body.head_type is not None:
        raise ModelError(
            f"body must be an encoder of the zoo without a head, got {type(body).__name__}",
            hint="Call without_head(encoder), or give the detector a backbone of your own with out_channels",
        )
    if not isinstance(fpn, bool):
        raise ModelError(f"fpn must be True or False, got {fpn!r}")
    if not fpn and (out_channels is not None or extra_levels is not None):
        given = {"out_channels": out_channels, "extra_levels": extra_levels}
        stated = " and ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)
        raise ModelError(f"{stated} is for a pyramid, and fpn=False", hint="Leave it away (None), or use fpn=True")
    if out_channels is not None and (type(out_channels) is not int or out_channels < 1):
        raise ModelError(f"out_channels must be a positive whole number, got {out_channels!r}")


def _layers(strides: Sequence[tuple[int, ...]], fpn: bool, given: Sequence[int] | None) -> list[int]:
    count = len(strides)
    if given is None:
        # of stages with the same stride (a dilated encoder) the deepest
        last = {stride: i for i, stride in enumerate(strides)}
        coarse = [i for stride, i in last.items() if max(stride) >= FINEST_STRIDE]
        return coarse if fpn and coarse else [count - 1]
    layers = list(given) if isinstance(given, Sequence) else []
    if not layers or not all(i in range(count) for i in layers) or layers != sorted(set(layers)):
        raise ModelError(f"returned_layers must be a list of rising stages from 0 to {count - 1}, got {given!r}")
    if not fpn and len(layers) > 1:
        raise ModelError(f"without a pyramid there is one map, got returned_layers={layers}", hint="Use fpn=True")
    return layers
