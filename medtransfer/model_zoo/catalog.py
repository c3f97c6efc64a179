"""The catalog: names of the zoo to builders."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..errors import ModelError
from . import detection
from .conv_encoder import PlainEncoder, ResidualEncoder
from .encoder import HEAD_ARGUMENTS, SHARED_ARGUMENTS
from .multitask import MultiTask
from .names import DETECTORS, MODEL_NAMES
from .resnet import ResNet
from .unet import UNet
from .vgg import VGG


def _parameters(kind: type[nn.Module], *but: str) -> tuple[str, ...]:
    return tuple(name for name in inspect.signature(kind).parameters if name not in but)


ENCODER_ARGUMENTS = _parameters(ResNet, "depth", "in_channels", "num_classes")
PLAIN_ARGUMENTS = _parameters(PlainEncoder, "in_channels", "num_classes")
RESENC_ARGUMENTS = _parameters(ResidualEncoder, "in_channels", "num_classes")
VGG_ARGUMENTS = _parameters(VGG, "depth", "in_channels", "num_classes")
DECODER_ARGUMENTS = _parameters(UNet, "extra", "layers", "in_channels")


@dataclass(frozen=True)
class Family:
    """How the networks of one kind are built.

    Attributes:
        encoder: The class of the encoder.
        build: (in_channels, num_classes, arguments of the name and of the caller) -> network.
        encoder_arguments: Names of its arguments that a caller may give.
        own_arguments: Names of those that are not the encoder's, such as a decoder's; called when they are needed.
    """

    encoder: Callable[..., nn.Module]
    build: Callable[[int, int | None, dict[str, Any]], nn.Module]
    encoder_arguments: tuple[str, ...]
    own_arguments: Callable[[], tuple[str, ...]] = tuple

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of all arguments that a caller may give."""
        return (*self.encoder_arguments, *self.own_arguments())


def _classifiers(encoder: Callable[..., nn.Module], arguments: tuple[str, ...]) -> Family:
    """Networks that are an encoder with a head, or without one when there are no classes."""

    def build(in_channels: int, num_classes: int | None, given: dict[str, Any]) -> nn.Module:
        if num_classes is None:
            return encoder(in_channels=in_channels, **{**given, "head_type": None})
        return encoder(in_channels=in_channels, num_classes=num_classes, **{"head_type": "classification", **given})

    return Family(encoder, build, arguments)


def _segmenters(encoder: Callable[..., Any], arguments: tuple[str, ...]) -> Family:
    """Networks that are a UNet around an encoder; what both have goes to the encoder, whose decoder takes it over."""
    own = tuple(name for name in DECODER_ARGUMENTS if name not in SHARED_ARGUMENTS)

    def build(in_channels: int, num_classes: int | None, given: dict[str, Any]) -> nn.Module:
        if num_classes is None:
            raise ModelError("a segmenter needs num_classes")
        decoder = {name: value for name, value in given.items() if name in own}
        rest = {name: value for name, value in given.items() if name not in own}
        return UNet.around(encoder(in_channels=in_channels, **rest), num_classes, **decoder)

    return Family(encoder, build, arguments, lambda: own)


def _multitasks(encoder: Callable[..., Any], arguments: tuple[str, ...]) -> Family:
    """Networks of several heads, each of which has its own classes."""

    def build(in_channels: int, num_classes: int | None, given: dict[str, Any]) -> nn.Module:
        rest = {name: value for name, value in given.items() if name not in ("heads", "decoder")}
        return MultiTask(encoder(in_channels=in_channels, **rest), given.get("heads", {}), given.get("decoder"))

    of_encoder = tuple(name for name in arguments if name not in HEAD_ARGUMENTS)
    return Family(encoder, build, of_encoder, lambda: ("heads", "decoder"))


def _detectors(kind: str, encoder: Callable[..., Any], arguments: tuple[str, ...]) -> Family:
    """Detectors around an encoder; what is not the encoder's is theirs."""
    of_encoder = tuple(name for name in arguments if name not in HEAD_ARGUMENTS)

    def detector() -> Any:
        return getattr(detection, DETECTORS[kind])

    def build(in_channels: int, num_classes: int | None, given: dict[str, Any]) -> nn.Module:
        own = {name: value for name, value in given.items() if name in detector().plain_arguments()}
        rest = {name: value for name, value in given.items() if name not in own}
        network: nn.Module = detector().around(encoder(in_channels=in_channels, **rest), num_classes, **own)
        return network

    return Family(encoder, build, of_encoder, lambda: detector().plain_arguments())


#: family, as :data:`MODEL_NAMES` gives it -> how its networks are built
FAMILIES: dict[str, Family] = {
    "resnet": _classifiers(ResNet, ENCODER_ARGUMENTS),
    "resunet": _segmenters(ResNet, ENCODER_ARGUMENTS),
    "vgg": _classifiers(VGG, VGG_ARGUMENTS),
    "vggunet": _segmenters(VGG, VGG_ARGUMENTS),
    "plain_encoder": _classifiers(PlainEncoder, PLAIN_ARGUMENTS),
    "plain_unet": _segmenters(PlainEncoder, PLAIN_ARGUMENTS),
    "resenc_encoder": _classifiers(ResidualEncoder, RESENC_ARGUMENTS),
    "resenc_unet": _segmenters(ResidualEncoder, RESENC_ARGUMENTS),
    "multitask_resnet": _multitasks(ResNet, ENCODER_ARGUMENTS),
    "multitask_vgg": _multitasks(VGG, VGG_ARGUMENTS),
    "multitask_plain_encoder": _multitasks(PlainEncoder, PLAIN_ARGUMENTS),
    "multitask_resenc_encoder": _multitasks(ResidualEncoder, RESENC_ARGUMENTS),
    **{f"{kind}_resnet": _detectors(kind, ResNet, ENCODER_ARGUMENTS) for kind in DETECTORS},
    **{f"{kind}_vgg": _detectors(kind, VGG, VGG_ARGUMENTS) for kind in DETECTORS},
    **{f"{kind}_plain_encoder": _detectors(kind, PlainEncoder, PLAIN_ARGUMENTS) for kind in DETECTORS},
    **{f"{kind}_resenc_encoder": _detectors(kind, ResidualEncoder, RESENC_ARGUMENTS) for kind in DETECTORS},
}


def create_model(name: str, in_channels: int = 1, num_classes: int | None = 2, **arguments: Any) -> nn.Module:
    """Build a network of the zoo by name.

    Args:
        name: One of :func:`list_models`: ``resnet50`` is a classifier, ``resunet50`` a segmenter,
            ``faster_rcnn_resnet50`` and ``retinanet_resnet50`` are detectors.
        in_channels: Channels of the input.
        num_classes: Classes of the output, the background included; None leaves the head of a classifier away. The
            heads of a multi-task network have their own.
        **arguments: Arguments of the encoder, such as :class:`ResNet`; for a segmenter also those of :class:`UNet`,
            for a multi-task network ``heads`` and ``decoder`` of :class:`~medtransfer.model_zoo.multitask.MultiTask`.
            What both have (``conv_cfg``, ``norm_cfg``, ``act_cfg``, ``with_cp`` ...) reaches both.

    Raises:
        ModelError: the name or an argument is unknown; close names are given.

    >>> create_model("resunet10", num_classes=3, base_channels=4, stem_channels=4).num_classes
    3
    """
    if name not in MODEL_NAMES:
        raise ModelError(f"there is no model {name!r}", hint=_near(name, MODEL_NAMES))
    kind, implied = MODEL_NAMES[name]
    family = FAMILIES[kind]
    _refuse_unknown(name, arguments, family.arguments)
    return family.build(in_channels, num_classes, {**implied, **arguments})


def inherited_arguments(source: str, arguments: Mapping[str, Any], target: str) -> dict[str, Any]:
    """Arguments with which ``target`` has the encoder of another network; none where the encoders' kinds differ.

    Args:
        source, target: Names of the catalog; of others nothing is known.
        arguments: Those of the source beyond its name.

    >>> inherited_arguments("resenc_unet", {"num_blocks": 2, "aux_train": True, "num_classes": 3}, "resenc_encoder")
    {'num_blocks': 2}
    >>> inherited_arguments("resnet18", {"strides": [1, 2, 2, 2]}, "plain_unet")
    {}
    """
    if source not in MODEL_NAMES or target not in MODEL_NAMES:
        return {}
    (kind, implied), (target_kind, target_implied) = MODEL_NAMES[source], MODEL_NAMES[target]
    if FAMILIES[kind].encoder is not FAMILIES[target_kind].encoder:
        return {}
    # what the target's name stands for is its own, such as the depth; hidden layers of a head are a classifier's
    own = ("head_type", "fcn_stride", *target_implied)
    of_target = FAMILIES[target_kind].encoder_arguments
    known = [n for n in FAMILIES[kind].encoder_arguments if n in of_target and n not in own]
    return {name: value for name, value in {**implied, **arguments}.items() if name in known}


def _refuse_unknown(model: str, arguments: dict[str, Any], known: tuple[str, ...]) -> None:
    for name in arguments:
        if name not in known:
            raise ModelError(f"{model} has no argument {name!r}", hint=_near(name, known))


def _near(name: str, names: Any) -> str:
    near = difflib.get_close_matches(name, list(names), n=3, cutoff=0.5) or list(names)[:6]
    return f"Did you mean {' or '.join(near)}?"
