"""One encoder, several tasks: a segmenter around a classifier's stages, and a classifier around a segmenter's."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from ..errors import ModelError
from ..model_zoo.catalog import create_model
from ..model_zoo.encoder import Encoder
from ..model_zoo.unet import UNet
from .heads import fc_to_conv


def to_segmenter(classifier: nn.Module, num_classes: int, share: bool = True, **decoder_arguments: Any) -> UNet:
    """A UNet around an encoder: a ResUNet around a ResNet, nnU-Net's around its encoders.

    Args:
        classifier: An encoder of the zoo, with or without a head.
        num_classes: Classes of the segmentation, the background included.
        share: Take the very modules, so that a step on one network moves the other; else copies.
        **decoder_arguments: Arguments of :class:`UNet`, for example ``full_resolution_skip=16``.

    Raises:
        ModelError: the network is not an encoder of the zoo.

    >>> classifier = create_model("resnet10", base_channels=4, stem_channels=4, deep_stem=True)
    >>> to_segmenter(classifier, num_classes=8).encoder_0[0].conv.weight is classifier.stem[0].conv.weight
    True
    """
    if not isinstance(classifier, Encoder):
        raise ModelError(
            f"to_segmenter needs a ResNet or another encoder of the zoo, got {type(classifier).__name__}",
            hint="Build UNet(extra, layers) around your own encoder modules",
        )
    return UNet.around(classifier if share else copy.deepcopy(classifier), num_classes, **decoder_arguments)


def to_classifier(segmenter: nn.Module, num_classes: int, share: bool = True) -> Encoder:
    """A classifier around the encoder of a UNet, with a new head: a ResNet of a ResUNet.

    Args:
        segmenter: A UNet whose encoder modules are the stages of an encoder of the zoo.
        num_classes: Classes of the classification.
        share: Take the very modules; else copies.

    Raises:
        ModelError: the encoder is none of the zoo.

    >>> segmenter = create_model("resunet10", base_channels=4, stem_channels=4)
    >>> to_classifier(segmenter, num_classes=4).layer2 is segmenter.encoder_2
    True
    """
    origin = segmenter.encoder_origin() if isinstance(segmenter, UNet) else None
    if origin is None:
        raise ModelError(
            "to_classifier needs a UNet around the stages of a ResNet or another encoder of the zoo, "
            f"got {type(segmenter).__name__}",
            hint="Build the segmenter with create_model or to_segmenter",
        )
    # on the meta device, since every tensor but the head's is replaced
    with torch.device("meta"):
        head = {"head_type": "classification", "num_classes": num_classes}
        classifier = create_model(origin["name"], **{**origin["arguments"], **head})
    assert isinstance(classifier, Encoder)
    stages = segmenter.stages()  # type: ignore[operator]
    classifier.adopt(stages if share else copy.deepcopy(stages))
    reference = next(segmenter.parameters())
    classifier.head_fc = nn.Linear(
        classifier.stage_channels[-1], num_classes, device=reference.device, dtype=reference.dtype
    )
    return classifier


def to_fcn(classifier: nn.Module, share: bool = True) -> Encoder:
    """A trained classifier as a fully convolutional network: its class activation volumes, without training.

    The mean of the coarse logits, before they are interpolated to the input's size, is the classifier's logits.

    Args:
        classifier: A ResNet or another encoder with ``head_type="classification"``.
        share: Take the very encoder modules; else copies. The head's values are copied, since its shape is another.

    Returns:
        The same encoder with ``head_type="fcn"``: (N, C, D, H, W) -> logits (N, num_classes, D, H, W).

    Raises:
        ModelError: the network is not a classifier of the zoo.

    Source: Long et al., CVPR 2015; class activation maps are of Zhou et al., CVPR 2016.

    >>> classifier = create_model("resnet10", num_classes=5, base_channels=4, stem_channels=4)
    >>> to_fcn(classifier).head_conv.weight.shape
    torch.Size([5, 32, 1, 1, 1])
    """
    if not isinstance(classifier, Encoder) or classifier.head_type != "classification":
        raise ModelError(
            f"to_fcn needs a classifier of the zoo, got {type(classifier).__name__}"
            f"{'' if not isinstance(classifier, Encoder) else f' with head_type={classifier.head_type!r}'}",
            hint="Build it with create_model or to_classifier",
        )
    record = classifier.architecture
    # on the meta device, since every tensor is replaced
    with torch.device("meta"):
        fcn = create_model(record["name"], **{**record["arguments"], "head_type": "fcn"})
    assert isinstance(fcn, Encoder)
    stages = classifier.stages()
    fcn.adopt(stages if share else copy.deepcopy(stages))
    fcn.head_conv = fc_to_conv(classifier.head_fc, classifier.ndim)
    return fcn.train(classifier.training)
