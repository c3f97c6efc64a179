"""One encoder, several tasks: segmenters, classifiers and detectors around the stages of each other."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from ..errors import ModelError
from ..model_zoo import detection
from ..model_zoo.catalog import create_model
from ..model_zoo.detection.detector import Detector
from ..model_zoo.encoder import Encoder, origin_of
from ..model_zoo.hollow import hollow
from ..model_zoo.multitask import MultiTask
from ..model_zoo.names import DETECTORS
from ..model_zoo.unet import UNet
from .heads import fc_to_conv


def to_segmenter(classifier: nn.Module, num_classes: int, share: bool = True, **decoder_arguments: Any) -> UNet:
    """A UNet around an encoder: a ResUNet around a ResNet, nnU-Net's around its encoders.

    Args:
        classifier: An encoder of the zoo, with or without a head, or a multi-task network or detector for its encoder.
        num_classes: Classes of the segmentation, the background included.
        share: Take the very modules, so that a step on one network moves the other; else copies.
        **decoder_arguments: Arguments of :class:`UNet`, for example ``full_resolution_skip=16``.

    Raises:
        ModelError: the network is not an encoder of the zoo.

    >>> classifier = create_model("resnet10", base_channels=4, stem_channels=4, deep_stem=True)
    >>> to_segmenter(classifier, num_classes=8).encoder_0[0].conv.weight is classifier.stem[0].conv.weight
    True
    """
    encoder = _inner_encoder(classifier) or classifier
    if not isinstance(encoder, Encoder):
        raise ModelError(
            f"to_segmenter needs a ResNet or another encoder of the zoo, got {type(classifier).__name__}",
            hint="Build UNet(extra, layers) around your own encoder modules",
        )
    return UNet.around(encoder if share else copy.deepcopy(encoder), num_classes, **decoder_arguments)


def to_classifier(segmenter: nn.Module, num_classes: int, share: bool = True) -> Encoder:
    """A classifier around the encoder of a UNet, with a new head: a ResNet of a ResUNet.

    Args:
        segmenter: A UNet whose encoder modules are the stages of an encoder of the zoo, a multi-task network or a
            detector.
        num_classes: Classes of the classification.
        share: Take the very modules; else copies.

    Raises:
        ModelError: the encoder is none of the zoo.

    >>> segmenter = create_model("resunet10", base_channels=4, stem_channels=4)
    >>> to_classifier(segmenter, num_classes=4).layer2 is segmenter.encoder_2
    True
    """
    origin = origin_of(segmenter.stages()) if isinstance(segmenter, UNet | MultiTask | Detector) else None
    if origin is None:
        raise _no_stages("to_classifier", segmenter)
    # on the meta device, since every tensor but the head's is replaced
    with hollow():
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


def to_detector(
    network: nn.Module, num_classes: int, share: bool = True, kind: str = "faster_rcnn", **detector_arguments: Any
) -> Detector:
    """A detector around the encoder of a classifier, a segmenter or any other network of the zoo, with a new head.

    Args:
        network: The network whose encoder is taken.
        num_classes: Classes to detect, the background included.
        share: Take the very modules, so that a step on one network moves the other; else copies.
        kind: ``faster_rcnn`` or ``retinanet``.
        **detector_arguments: Arguments of :meth:`Detector.around` and of the class, for example ``fpn=False``,
            ``anchor_sizes=((8, 16),)``, ``trainable_backbone_layers=3``.

    Raises:
        ModelError: the network's encoder is none of the zoo, or an argument does not describe a detector.

    >>> segmenter = create_model("resunet10", base_channels=4, stem_channels=4)
    >>> detector = to_detector(segmenter, num_classes=3, out_channels=8, box_head_size=8)
    >>> detector.backbone.body.layer2 is segmenter.encoder_2, detector.num_classes
    (True, 3)
    """
    if kind not in DETECTORS:
        raise ModelError(f"there is no detector {kind!r}", hint=f"Give one of {', '.join(DETECTORS)}")
    encoder = encoder_of(network, "to_detector")
    found = getattr(detection, DETECTORS[kind])
    detector: Detector = found.around(encoder if share else copy.deepcopy(encoder), num_classes, **detector_arguments)
    reference = next(encoder.parameters())
    return detector.to(reference.device, reference.dtype).train(network.training)


def encoder_of(network: nn.Module, function: str = "to_multitask") -> Encoder:
    """The encoder of a network of the zoo, its modules by reference; a classifier is its own, head and all.

    Args:
        network: The network.
        function: Who asks, for the error.

    Raises:
        ModelError: it has none of the zoo.
    """
    if found := _inner_encoder(network):
        return found
    origin = network.encoder_origin() if isinstance(network, UNet) else None
    if origin is None:
        raise _no_stages(function, network)
    # on the meta device, since every tensor is replaced
    with hollow():
        encoder = create_model(origin["name"], **{**origin["arguments"], "num_classes": None, "head_type": None})
    assert isinstance(encoder, Encoder)
    encoder.adopt(network.stages())  # type: ignore[operator]
    return encoder.train(network.training)


def _inner_encoder(network: nn.Module) -> Encoder | None:
    """The network itself, or the encoder that it holds as an object of its own."""
    held = network.encoder if isinstance(network, MultiTask) else network
    held = getattr(network.backbone, "body", network) if isinstance(network, Detector) else held
    return held if isinstance(held, Encoder) else None


def _no_stages(function: str, network: nn.Module) -> ModelError:
    return ModelError(
        f"{function} needs a network around a ResNet or another encoder of the zoo, got {type(network).__name__}",
        hint="Build it with create_model, or from one by to_segmenter and its like",
    )


def to_fcn(classifier: nn.Module, share: bool = True, fcn_stride: int | None = None) -> Encoder:
    """A trained classifier as a fully convolutional network: its class activation volumes, without training.

    Behind global pooling the mean of the coarse logits (:meth:`Encoder.scores`), before they are interpolated to the
    input's size, is the classifier's logits. The hidden layers of a VGG slide over the map: where their kernel lies
    wholly in it, the logits are the classifier's for that part of the map.

    Args:
        classifier: A ResNet or another encoder with ``head_type="classification"``.
        share: Take the very encoder modules; else copies. The head's values are copied, since its shape is another.
        fcn_stride: Add scores from finer maps, down to this stride: 16 or 8 for FCN-16s or FCN-8s. They start at zero,
            and the network as the one without them.

    Returns:
        The same encoder with ``head_type="fcn"``: (N, C, D, H, W) -> logits (N, num_classes, D, H, W).

    Raises:
        ModelError: the network is not a classifier of the zoo, or has no map of that stride.

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
    with hollow():
        skips = {} if fcn_stride is None else {"fcn_stride": fcn_stride}
        fcn = create_model(record["name"], **{**record["arguments"], "head_type": "fcn", **skips})
    assert isinstance(fcn, Encoder)
    stages = classifier.stages()
    fcn.adopt(stages if share else copy.deepcopy(stages))
    fcn.head_conv = fc_to_conv(classifier.head_fc, classifier.ndim)
    if hasattr(fcn, "head_hidden"):
        _slide(classifier, fcn, share)
    if hasattr(fcn, "head_skips"):
        weight = classifier.head_fc.weight
        fcn.head_skips.to_empty(device=weight.device).to(weight.dtype).requires_grad_(True)
        for parameter in fcn.head_skips.parameters():
            nn.init.zeros_(parameter)
    return fcn.train(classifier.training)


def _slide(classifier: nn.Module, fcn: nn.Module, share: bool) -> None:
    """Fill the hidden layers of an FCN: fully connected ones as convolutions, activations as they are."""
    sliding = fcn.get_submodule("head_hidden")
    for name, own in classifier.get_submodule("head_hidden").named_children():
        layer = getattr(sliding, name, None)
        if isinstance(own, nn.Linear):
            assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
            setattr(sliding, name, fc_to_conv(own, len(layer.kernel_size), layer.kernel_size))
        elif layer is not None:
            setattr(sliding, name, own if share else copy.deepcopy(own))
