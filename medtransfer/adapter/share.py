"""One encoder, two tasks: a segmenter around a classifier's stages, and a classifier around a segmenter's."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from ..errors import ModelError
from ..model_zoo.catalog import create_model
from ..model_zoo.resnet import ResNet
from ..model_zoo.unet import UNet


def to_segmenter(classifier: nn.Module, num_classes: int, share: bool = True, **decoder_arguments: Any) -> UNet:
    """A ResUNet around the encoder of a ResNet.

    Args:
        classifier: A ResNet, with or without a head.
        num_classes: Classes of the segmentation, the background included.
        share: Take the very modules, so that a step on one network moves the other; else copies.
        **decoder_arguments: Arguments of :class:`UNet`, for example ``full_resolution_skip=16``.

    Raises:
        ModelError: the network is not a ResNet of the zoo.

    >>> classifier = create_model("resnet10", base_channels=4, stem_channels=4, deep_stem=True)
    >>> to_segmenter(classifier, num_classes=8).encoder_0[0].conv.weight is classifier.stem[0].conv.weight
    True
    """
    if not isinstance(classifier, ResNet):
        raise ModelError(
            f"to_segmenter needs a ResNet of the zoo, got {type(classifier).__name__}",
            hint="Build UNet(extra, layers) around your own encoder modules",
        )
    return UNet.around(classifier if share else copy.deepcopy(classifier), num_classes, **decoder_arguments)


def to_classifier(segmenter: nn.Module, num_classes: int, share: bool = True) -> ResNet:
    """A ResNet classifier around the encoder of a ResUNet, with a new head.

    Args:
        segmenter: A UNet whose encoder modules are the stages of a ResNet.
        num_classes: Classes of the classification.
        share: Take the very modules; else copies.

    Raises:
        ModelError: the encoder is not a ResNet's.

    >>> segmenter = create_model("resunet10", base_channels=4, stem_channels=4)
    >>> to_classifier(segmenter, num_classes=4).layer2 is segmenter.encoder_2
    True
    """
    origin = segmenter.encoder_origin() if isinstance(segmenter, UNet) else None
    if origin is None:
        raise ModelError(
            f"to_classifier needs a UNet around a ResNet's stages, got {type(segmenter).__name__}",
            hint="Build the segmenter with create_model or to_segmenter",
        )
    # on the meta device, since every tensor but the head's is replaced
    with torch.device("meta"):
        classifier = create_model(origin["name"], **{**origin["arguments"], "num_classes": num_classes})
    assert isinstance(classifier, ResNet)
    stages = segmenter.stages()  # type: ignore[operator]
    classifier.adopt(stages if share else copy.deepcopy(stages))
    reference = next(segmenter.parameters())
    classifier.head_fc = nn.Linear(
        classifier.stage_channels[-1], num_classes, device=reference.device, dtype=reference.dtype
    )
    return classifier
