"""What every encoder of the zoo is: stages that a UNet can stand around, and an optional classification head."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .blocks import zero_last_norms
from .layers import Layers, hold_statistics, hold_still, initialise, to_size

HEAD_TYPES = (None, "classification", "fcn")

#: arguments that a decoder takes over from its encoder
SHARED_ARGUMENTS = ("conv_cfg", "norm_cfg", "act_cfg", "with_cp", "norm_eval", "frozen_stages", "zero_init_residual")


class Encoder(nn.Module):
    """Stages from high to low resolution, with a head (``head_fc``, or ``head_conv`` of an FCN) or without.

    Attributes:
        in_channels, num_classes (None without a head), ndim: Sizes.
        stage_channels: Channels of each stage's output.
        stage_strides: Stride of each stage against the one before, one number an axis.
        output_stride: The product of them.
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

    def features(self, x: Tensor) -> list[Tensor]:
        """Feature maps from high to low resolution, one a stage."""
        maps = []
        for stage in self.stages():
            x = stage(x)
            maps.append(x)
        return maps

    def train(self, mode: bool = True) -> Encoder:
        """Switch the mode; frozen stages and held statistics stay as they are."""
        super().train(mode)
        if mode:
            self._hold()
        return self

    def _finish(self, layers: Layers, num_classes: int, zero_init_residual: bool = False) -> None:
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
        self._hold()

    def _logits(self, last: Tensor, size: Sequence[int]) -> Tensor:
        """(N, num_classes) from the last feature map; of an FCN (N, num_classes, *size)."""
        if self.head_type == "fcn":
            return to_size(self.head_conv(last), size, self._mode)
        return self.head_fc(self.head_avgpool(last).flatten(1))

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
        return {
            **self.architecture,
            "stage_strides": self.stage_strides,
            "segmenter": self.segmenter_name,
            "layers": copy.deepcopy(vars(layers)),
            "parts": tuple(parts),
        }


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
