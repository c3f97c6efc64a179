"""What every encoder of the zoo is: stages that a UNet can stand around, and an optional classification head."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import ModelError
from .blocks import zero_last_norms
from .fcn import Level, score_layers, skips_to, sum_scores
from .halves import Features, Output
from .hollow import hollow
from .layers import Layers, cumulative, hold_statistics, hold_still, initialise

HEAD_TYPES = (None, "classification", "fcn")

#: arguments of encoders that only a head, or the choice of what ``forward`` returns, makes use of
HEAD_ARGUMENTS = ("head_type", "num_classes", "out_indices", "fc_channels", "head_pool", "head_dropout", "fcn_stride")

#: arguments that a decoder takes over from its encoder
SHARED_ARGUMENTS = ("conv_cfg", "norm_cfg", "act_cfg", "with_cp", "norm_eval", "frozen_stages", "zero_init_residual")


class Encoder(nn.Module):
    """Stages from high to low resolution, with a head (``head_fc``, or ``head_conv`` of an FCN) or without.

    Attributes:
        in_channels, num_classes (None without a head), ndim: Sizes.
        stage_channels: Channels of each stage's output.
        stage_strides: Stride of each stage against the one before, one number an axis.
        output_stride: The product of them; of an FCN whose head pools once more, that of its last scores.
    """

    arguments: dict[str, Any]
    in_channels: int
    num_classes: int | None
    ndim: int
    stage_channels: tuple[int, ...]
    stage_strides: tuple[tuple[int, ...], ...]
    output_stride: tuple[int, ...]
    head_type: str | None
    frozen_stages: int
    norm_eval: bool
    #: catalog names of this encoder with a head, and of the UNet around it
    catalog_name: str
    segmenter_name: str

    @property
    def task(self) -> str:
        """``classification``, or ``segmentation`` by class activation volumes."""
        return "segmentation" if self.head_type == "fcn" else "classification"

    @property
    def architecture(self) -> dict[str, Any]:
        """Name and arguments with which ``create_model`` builds this network again."""
        positional = ("depth", "in_channels", "num_classes", "head_type")
        arguments = {k: copy.deepcopy(v) for k, v in self.arguments.items() if k not in positional}
        head = {"head_type": "fcn"} if self.head_type == "fcn" else {}
        record = {"in_channels": self.in_channels, "num_classes": self.num_classes, **head, **arguments}
        return {"name": self.catalog_name, "arguments": record}

    @property
    def decoder_arguments(self) -> dict[str, Any]:
        """Arguments of the UNet that fits this encoder."""
        return {name: self.arguments[name] for name in SHARED_ARGUMENTS if name in self.arguments}

    def stages(self) -> list[nn.Module]:
        """The encoder modules that UNet takes, by reference."""
        raise NotImplementedError

    def adopt(self, stages: Sequence[nn.Module]) -> None:
        """Take encoder modules by reference, the inverse of :meth:`stages`."""
        raise NotImplementedError

    @property
    def features(self) -> Features:
        """The encoder as a block: ``features(x)`` is the list of maps, one a stage, from high to low resolution."""
        return Features(self)

    @property
    def output(self) -> Output:
        """The head as a block: ``output(features(x))`` is the network's answer."""
        return Output(self)

    def scores(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Logits of an FCN where it has them, before interpolation: of the last map, then of each skip, coarse to fine.

        Args:
            maps: Those of :attr:`features`.
        """
        skips = zip(getattr(self, "head_skips", ()), getattr(self, "_skips", ()), strict=True)
        return [self._last_scores(maps[-1]), *(conv(self._level_map(maps, skip.index)) for conv, skip in skips)]

    def train(self, mode: bool = True) -> Encoder:
        """Switch the mode; frozen stages and held statistics stay as they are."""
        super().train(mode)
        if mode:
            self._hold()
        return self

    def _finish(
        self, layers: Layers, num_classes: int, zero_init_residual: bool = False, fcn_stride: int | None = None
    ) -> None:
        """Add the head, initialise, freeze: the last step of every constructor."""
        self._mode = layers.interpolation
        if self.head_type == "classification":
            self.head_avgpool = layers.global_pool()
            self.head_fc = nn.Linear(self.stage_channels[-1], num_classes)
        elif self.head_type == "fcn":
            self.head_conv = layers.conv(self.stage_channels[-1], num_classes, 1, bias=True)
        for name, module in self.named_children():
            # He's rule by fan-out would start a head of few classes with large logits
            if name != "head_conv":
                initialise(module)
        if zero_init_residual:
            zero_last_norms(self)
        self._add_skips(layers, num_classes, fcn_stride)
        self._hold()

    def _add_skips(self, layers: Layers, num_classes: int, fcn_stride: int | None) -> None:
        """Score layers of an FCN on finer maps than the last."""
        if fcn_stride is None or self.head_type is None:
            return
        if self.head_type != "fcn":
            raise ModelError(f"fcn_stride={fcn_stride!r} is an FCN's", hint="Pass head_type='fcn' too")
        self._skips = skips_to(fcn_stride, self._levels(), self.output_stride)
        if self._skips:
            self.head_skips = score_layers(layers, self._skips, num_classes)

    def _levels(self) -> list[Level]:
        """The maps that an FCN may read scores from, from high to low resolution."""
        strides = [cumulative(self.stage_strides[: i + 1], self.ndim) for i in range(len(self.stage_strides))]
        return [Level(i, width, at) for i, (width, at) in enumerate(zip(self.stage_channels, strides, strict=True))]

    def _level_map(self, maps: Sequence[Tensor], index: int) -> Tensor:
        """The map of a level, of those that the encoder gives."""
        return maps[index]

    def _maps(self, x: Tensor) -> list[Tensor]:
        return stage_maps(self.stages(), x)

    def _logits(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """(N, num_classes) from the feature maps; of an FCN (N, num_classes, *size); without a head the last map."""
        if self.head_type is None:
            return maps[-1]
        if self.head_type == "fcn":
            return sum_scores(self.scores(maps), size, self._mode)
        return self.head_fc(self._pooled(maps[-1]))

    def _pooled(self, last: Tensor) -> Tensor:
        """The last map as the classifier's last layer takes it, (N, C)."""
        return self.head_avgpool(last).flatten(1)

    def _last_scores(self, last: Tensor) -> Tensor:
        """The last map's scores, at its own positions."""
        return self.head_conv(last)

    def _hold(self) -> None:
        hold_still(self.stages()[: self.frozen_stages + 1])
        if self.norm_eval:
            hold_statistics(self)

    def _origin(self, layers: Layers, parts: Sequence[int]) -> dict[str, Any]:
        """The record that stages carry, with their number as ``stage``: a UNet around them knows what they are.

        Args:
            layers: The builder that all layers came from.
            parts: For each of :meth:`stages` 1 if it carries the record itself, 2 if the second module of the pair
                that it is does, 0 for a stem that has none.
        """
        record = self.architecture
        # the skips are the head's, and a network around these stages has another
        arguments = {name: value for name, value in record["arguments"].items() if name != "fcn_stride"}
        return {
            **record,
            "arguments": arguments,
            "stage_strides": self.stage_strides,
            "segmenter": self.segmenter_name,
            "layers": copy.deepcopy(vars(layers)),
            "parts": tuple(parts),
        }


def stage_maps(stages: Sequence[nn.Module], x: Tensor) -> list[Tensor]:
    """What each of the stages gives, one after the other.

    >>> import torch
    >>> [tuple(x.shape) for x in stage_maps([nn.Conv1d(1, 2, 3), nn.MaxPool1d(2)], torch.zeros(1, 1, 8))]
    [(1, 2, 6), (1, 2, 3)]
    """
    maps = []
    for stage in stages:
        x = stage(x)
        maps.append(x)
    return maps


def without_head(encoder: Encoder) -> Encoder:
    """The encoder itself if it has no head, else a new one with the same stage modules (by reference) and none.

    >>> from medtransfer.model_zoo import ResNet
    >>> classifier = ResNet(10, base_channels=4, stem_channels=4, head_type="classification", num_classes=2)
    >>> without_head(classifier).layer2 is classifier.layer2
    True
    """
    if encoder.head_type is None:
        return encoder
    arguments = {name: value for name, value in encoder.arguments.items() if name not in HEAD_ARGUMENTS}
    # on the meta device, since every tensor is replaced
    with hollow():
        bare = type(encoder)(**arguments)
    bare.adopt(encoder.stages())
    return bare.train(encoder.training)


def origin_of(stages: Sequence[nn.Module]) -> dict[str, Any] | None:
    """The record of the encoder whose stages these are, all of them and in order; None if there is no such encoder."""
    found = [_recorded(stage) for stage in stages]
    records = [record for _, record in found if record]
    if not records or tuple(parts for parts, _ in found) != records[0]["parts"]:
        return None
    in_order = all(record == {**records[0], "stage": i} for i, record in enumerate(records))
    return records[0] if in_order else None


def _recorded(stage: nn.Module) -> tuple[int, dict[str, Any] | None]:
    own = getattr(stage, "origin", None)
    if own is None and type(stage) is nn.Sequential and len(stage) == 2:
        inner = getattr(stage[1], "origin", None)
        return (2, inner) if inner else (0, None)
    return (1, own) if own else (0, None)
