"""What both detectors share: their contract, their record, and how they are built around an encoder."""

from __future__ import annotations

import copy
import inspect
import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from ...errors import ModelError
from ..encoder import HEAD_ARGUMENTS, Encoder, stage_maps, without_head
from ..layers import as_plain
from .anchors import AnchorGenerator
from .backbone import EncoderBackbone, freeze_stages
from .checks import Target, check_targets
from .suppress import Suppressing
from .transform import DetectorTransform, ImageList

#: edges of a map's default anchors in strides: with strides that double, all sizes in steps of 1.4. Two boxes of one
#: shape whose edges differ by 1.4 overlap by 0.35 in 3-D (0.5 in 2-D), so that fewer sizes would miss structures
PYRAMID_SIZES = (2.0, 2.0 * math.sqrt(2), 4.0)
#: of a single map, which alone is there for all sizes
SINGLE_SIZES = (0.5, 1.0, 2.0, 4.0)
ASPECT_RATIOS = (0.5, 1.0, 2.0)

Kind = TypeVar("Kind", bound="Detector")


class Detector(Suppressing):
    """Boxes with classes in scans of different sizes.

    In training mode ``net(images, targets)`` is a dict of losses; in evaluation mode ``net(images)`` is for each scan a
    dict of ``boxes`` (N, 2 ndim), float32, lower corners, then upper ones, in voxels in the order of the axes, clipped
    to the scan; ``labels`` (N,), int64, from 1; and ``scores`` (N,), descending.

    Attributes:
        transform, backbone: Parts.
        suppression: How detections are chosen; ``score_thresh``, ``nms_thresh`` ... are its own, and may be set.
        in_channels (None where nothing says it), num_classes (the background included), ndim, output_stride: Sizes.
        record: Name and arguments of :func:`create_model`, None for a detector that was put together by hand.

    >>> import torch
    >>> from medtransfer.model_zoo import create_model
    >>> net = create_model("retinanet_resnet10", num_classes=2, base_channels=4, stem_channels=4, out_channels=4).eval()
    >>> isinstance(net, Detector), sorted(net([torch.rand(1, 16, 20, 12)])[0])
    (True, ['boxes', 'labels', 'scores'])
    """

    task = "detection"
    #: prefix of the catalog's names, and the argument of ``__init__`` that takes the anchors
    prefix: ClassVar[str]
    anchor_argument: ClassVar[str]
    #: what the losses are called
    loss_names: ClassVar[tuple[str, ...]]
    #: arguments of ``__init__`` that are modules
    module_arguments: ClassVar[tuple[str, ...]]

    def __init__(self, backbone: nn.Module, transform: DetectorTransform) -> None:
        super().__init__()
        self.transform, self.backbone = transform, backbone
        self.ndim, self.in_channels = transform.ndim, transform.in_channels
        self.record: dict[str, Any] | None = None

    @property
    def num_classes(self) -> int | None:
        """Classes, the background included; those of the head as it is now."""
        raise NotImplementedError

    @property
    def output_stride(self) -> tuple[int, ...]:
        """Sizes are padded to multiples of it."""
        return self.transform.size_divisible

    @property
    def frozen_stages(self) -> int:
        """Of the encoder: -1 freezes nothing, n its stages 0 to n."""
        body = getattr(self.backbone, "body", None)
        return body.frozen_stages if isinstance(body, Encoder) else -1

    def telling_parts(self) -> list[nn.Module]:
        """Modules whose outputs show numbers that are not finite; the boxes do not: NaN is no score."""
        raise NotImplementedError

    def stages(self) -> list[nn.Module]:
        """The encoder's modules, by reference; a backbone of another kind is one."""
        body = getattr(self.backbone, "body", None)
        return body.stages() if isinstance(body, Encoder) else [self.backbone]

    def features(self, x: Tensor) -> list[Tensor]:
        """The encoder's maps of a batch (N, C, *spatial), one a stage, as :meth:`Encoder.features` gives them."""
        return stage_maps(self.stages(), x)

    @property
    def architecture(self) -> dict[str, Any] | None:
        """Name and arguments with which ``create_model`` builds this network again; None for a hand-built one."""
        if self.record is None:
            return None
        record = copy.deepcopy(self.record)
        return {**record, "arguments": {**record["arguments"], "num_classes": self.num_classes}}

    @classmethod
    def around(
        cls: type[Kind],
        encoder: Encoder,
        num_classes: int,
        *,
        fpn: bool = True,
        returned_layers: Sequence[int] | None = None,
        out_channels: int | None = None,
        extra_levels: str | None = None,
        anchor_sizes: Sequence[float | Sequence[float]] | None = None,
        aspect_ratios: Sequence[Any] | None = None,
        rounded_anchors: bool = False,
        trainable_backbone_layers: int | None = None,
        **arguments: Any,
    ) -> Kind:
        """A detector around an encoder, by reference, with a record from which it is built again.

        Args:
            encoder: An encoder of the zoo; its head, if it has one, is left where it is.
            num_classes: Classes, the background included.
            fpn, returned_layers, out_channels, extra_levels: See :class:`EncoderBackbone`.
            anchor_sizes: Edges in voxels, one or several for each map. By default 2, 2.8 and 4 strides of each map of a
                pyramid; of a single map 0.5, 1, 2 and 4.
            aspect_ratios: See :class:`AnchorGenerator`; by default 0.5, 1 and 2 on every map.
            rounded_anchors: Round the anchors to whole voxels, as torchvision does.
            trainable_backbone_layers: The last stages of the encoder that are trained, the others are frozen; all are
                trained when None.
            **arguments: Those of the class, except its modules.

        Raises:
            ModelError: an argument does not describe a detector.
        """
        anchoring = (anchor_sizes, aspect_ratios, rounded_anchors)
        own = (fpn, returned_layers, out_channels, extra_levels, *anchoring, trainable_backbone_layers)
        body = without_head(encoder)
        freeze_stages(body, trainable_backbone_layers)
        backbone = EncoderBackbone(body, fpn, returned_layers, out_channels, extra_levels)
        anchors = default_anchors(backbone, *anchoring)
        build: Any = cls
        detector: Kind = build(backbone, num_classes, **{cls.anchor_argument: anchors}, **arguments)
        detector.record = _record(cls.prefix, encoder, dict(zip(_AROUND, own, strict=True)), arguments)
        return detector

    @classmethod
    def plain_arguments(cls) -> tuple[str, ...]:
        """Names of the arguments beyond the encoder's that ``create_model`` takes."""
        own = [name for name in inspect.signature(cls).parameters if name not in cls.module_arguments]
        return (*_AROUND, *own)

    def forward(self, images: Sequence[Tensor] | Tensor, targets: Sequence[Target] | None = None) -> Any:
        """Scans (C, *spatial) of any sizes, as a list or a batch -> losses in training mode, else detections.

        Raises:
            ModelError: scans or targets that the detector cannot take, or no targets in training mode.
        """
        if not isinstance(images, Sequence | Tensor):
            raise ModelError(f"a detector needs a list of scans, got {type(images).__name__}")
        images = list(images)
        if self.training:
            check_targets(targets, len(images), self.ndim, self.num_classes)
        batch, moved = self.transform(images, targets if self.training else None)
        maps = self.backbone(batch.tensors)
        maps = OrderedDict([("0", maps)]) if isinstance(maps, Tensor) else maps
        if self.training:
            return self._losses(batch, maps, moved or [])
        original = [tuple(image.shape[1:]) for image in images]
        return self.transform.postprocess(self._detections(batch, maps), batch.image_sizes, original)

    def _overlap(self, given: float | None, of_2d: float) -> float:
        return overlap_in(self.ndim, of_2d) if given is None else given

    def _losses(self, batch: ImageList, maps: OrderedDict[str, Tensor], targets: list[Target]) -> dict[str, Tensor]:
        raise NotImplementedError

    def _detections(self, batch: ImageList, maps: OrderedDict[str, Tensor]) -> list[Target]:
        raise NotImplementedError


#: what ``around`` takes beyond the arguments of a class, with the defaults
_AROUND = {
    name: each.default
    for name, each in inspect.signature(Detector.around).parameters.items()
    if each.kind is each.KEYWORD_ONLY
}


def default_anchors(
    backbone: nn.Module,
    sizes: Sequence[float | Sequence[float]] | None = None,
    ratios: Sequence[Any] | None = None,
    rounded: bool = False,
) -> AnchorGenerator:
    """Anchors for the maps of a backbone, of just the sizes that are asked for unless they are to be ``rounded``.

    Raises:
        ModelError: the backbone does not say the strides of its maps, or sizes are of another number of maps.
    """
    strides = getattr(backbone, "strides", None)
    if strides is None:
        raise ModelError("the anchors of a backbone of your own must be given",
                         hint="Pass an AnchorGenerator with one tuple of sizes for each map")  # fmt: skip
    given: Any = sizes  # a config may hold anything
    if given is None:
        edges = [math.prod(stride) ** (1 / len(stride)) for stride in strides]
        of_edge = PYRAMID_SIZES if getattr(backbone, "fpn", None) is not None else SINGLE_SIZES
        given = [[edge * factor for factor in of_edge] for edge in edges]
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != len(strides):
        raise ModelError(f"anchor_sizes must be a list for the {len(strides)} maps of the backbone, got {given!r}")
    return AnchorGenerator(given, ASPECT_RATIOS if ratios is None else ratios, ndim=len(strides[0]), rounded=rounded)


def build_transform(backbone: nn.Module, anchors: AnchorGenerator, **given: Any) -> DetectorTransform:
    """The transform for a backbone, which may say ``in_channels`` and ``output_stride`` (32 otherwise).

    Raises:
        ModelError: the backbone does not say its ``out_channels``, or has other dimensions than the anchors.
    """
    if not isinstance(getattr(backbone, "out_channels", None), int):
        raise ModelError(
            f"the backbone, {type(backbone).__name__}, must have an attribute out_channels",
            hint="Set it to the number of channels of its maps",
        )
    ndim = getattr(backbone, "ndim", anchors.ndim)
    if ndim not in (2, 3):
        raise ModelError(f"a detector is 2-D or 3-D, the backbone is {ndim}-D")
    if ndim != anchors.ndim:
        raise ModelError(f"the anchors are {anchors.ndim}-D, the backbone {ndim}-D", hint=f"Pass ndim={ndim} to them")
    means = given["image_mean"] or given["image_std"] or []
    counted = len(means) if isinstance(means, Sequence) else 0  # else the transform says what is wrong with them
    channels = getattr(backbone, "in_channels", counted or None)
    if given["size_divisible"] is None:
        given["size_divisible"] = getattr(backbone, "output_stride", 32)
    return DetectorTransform(**given, ndim=ndim, in_channels=channels)


def overlap_in(ndim: int, of_2d: float) -> float:
    """The overlap of two boxes in n-D that are as far apart on each axis as squares with the given overlap in 2-D.

    Each axis takes its share, so that what is a good fit in a photograph has a lower number in a volume.

    >>> [overlap_in(3, of_2d) for of_2d in (0.3, 0.4, 0.5, 0.7)], overlap_in(2, 0.7)
    ([0.2, 0.3, 0.4, 0.6], 0.7)
    """
    shared = (2 * of_2d / (1 + of_2d)) ** (ndim / 2)
    return round(shared / (2 - shared), 1)


def check_classes(num_classes: int | None) -> int:
    """Refuse a number of classes that leaves nothing to detect.

    Raises:
        ModelError: it is below 2.
    """
    if not isinstance(num_classes, int) or num_classes < 2:
        raise ModelError(f"num_classes must be 2 or more, the background included, got {num_classes!r}")
    return num_classes


def _record(prefix: str, encoder: Encoder, around: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    built = encoder.architecture
    own = {name: value for name, value in built["arguments"].items() if name not in HEAD_ARGUMENTS}
    given = {name: value for name, value in around.items() if value != _AROUND[name]}
    return {"name": f"{prefix}_{built['name']}", "arguments": {**own, **as_plain({**given, **arguments})}}
