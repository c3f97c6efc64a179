"""RetinaNet in 2-D and 3-D (Lin et al., ICCV 2017), under torchvision's contract and with its keys."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .anchors import AnchorGenerator, anchors_of_a_place
from .checks import Target, check_numbers
from .coder import BoxCoder
from .detector import Detector, build_transform, check_classes, default_anchors
from .fpn import conv_type
from .levels import head_convs, rows_of_anchors, start_small
from .losses import focal_loss
from .matcher import BETWEEN_THRESHOLDS, AnchorMatcher
from .suppress import Suppression
from .transform import ImageList, Numbers

#: probability of a structure at an anchor that the head starts with, so that background does not swamp the first steps
PRIOR = 0.01


class RetinaNetClassificationHead(nn.Module):
    """Logits ``cls_logits`` of every class at every anchor, behind four convolutions ``conv``.

    Args:
        in_channels: Channels of the maps.
        num_anchors: Anchors of one place.
        num_classes: The background included: its logit is trained to be low and not used, as in torchvision.
        ndim: Spatial dimensions.
    """

    def __init__(self, in_channels: int, num_anchors: int, num_classes: int, ndim: int = 3) -> None:
        super().__init__()
        self.num_anchors, self.num_classes = num_anchors, num_classes
        self.conv = head_convs(in_channels, 4, ndim)
        self.cls_logits = start_small(conv_type(ndim)(in_channels, num_anchors * num_classes, 3, padding=1))
        nn.init.constant_(self.cls_logits.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (N, C, *spatial) -> of each (N, places * anchors, num_classes)."""
        return rows_of_anchors([self.cls_logits(self.conv(x)) for x in maps], self.num_classes)


class RetinaNetRegressionHead(nn.Module):
    """Box codes ``bbox_reg`` of every anchor, behind four convolutions ``conv``.

    Args:
        in_channels: Channels of the maps.
        num_anchors: Anchors of one place.
        ndim: Spatial dimensions.
    """

    def __init__(self, in_channels: int, num_anchors: int, ndim: int = 3) -> None:
        super().__init__()
        self.ndim = ndim
        self.conv = head_convs(in_channels, 4, ndim)
        self.bbox_reg = start_small(conv_type(ndim)(in_channels, num_anchors * 2 * ndim, 3, padding=1))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (N, C, *spatial) -> of each (N, places * anchors, 2 ndim)."""
        return rows_of_anchors([self.bbox_reg(self.conv(x)) for x in maps], 2 * self.ndim)


class RetinaNetHead(nn.Module):
    """Both heads, which share no weights.

    Args:
        in_channels, num_anchors, num_classes, ndim: See :class:`RetinaNetClassificationHead`.

    >>> logits, codes = RetinaNetHead(4, num_anchors=3, num_classes=2)([torch.rand(1, 4, 2, 3, 4)])
    >>> tuple(logits[0].shape), tuple(codes[0].shape)
    ((1, 72, 2), (1, 72, 6))
    """

    def __init__(self, in_channels: int, num_anchors: int, num_classes: int, ndim: int = 3) -> None:
        super().__init__()
        self.classification_head = RetinaNetClassificationHead(in_channels, num_anchors, num_classes, ndim)
        self.regression_head = RetinaNetRegressionHead(in_channels, num_anchors, ndim)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps -> of each the logits and the codes of all anchors."""
        return self.classification_head(maps), self.regression_head(maps)


class RetinaNet(Detector):
    """Classes and boxes of every anchor in one step, with the focal loss.

    Arguments are torchvision's, defaults differ as those of :class:`FasterRCNN`: ``fg_iou_thresh`` and
    ``nms_thresh`` are 0.4 in 3-D for 0.5 in 2-D, ``bg_iou_thresh`` 0.3 for 0.4.

    Args:
        backbone, num_classes, min_size, max_size, image_mean, image_std, size_divisible: See :class:`FasterRCNN`.
        anchor_generator: Needed for a backbone that does not say the ``strides`` of its maps.
        head: Maps -> of each logits (N, A, num_classes) and codes (N, A, 2 ndim).
        score_thresh, nms_thresh, detections_per_img, box_nms: See :class:`Suppression`.
        fg_iou_thresh, bg_iou_thresh: Overlap from which an anchor is of a box, and below which of the background.
        topk_candidates: Best boxes of each map that are looked at.
        matcher: How anchors are matched with boxes, ``"iou"`` by both thresholds, or ``"atss"``; see
            :class:`AnchorMatcher`.

    Raises:
        ModelError: parts or numbers that do not make a detector.

    >>> from medtransfer.model_zoo import ResNet
    >>> net = RetinaNet.around(ResNet(10, in_channels=1, base_channels=4, stem_channels=4), 3, out_channels=4)
    >>> losses = net([torch.rand(1, 40, 32, 32)], [{"boxes": torch.zeros(0, 6), "labels": torch.zeros(0).long()}])
    >>> sorted(losses)
    ['bbox_regression', 'classification']
    """

    prefix, anchor_argument = "retinanet", "anchor_generator"
    loss_names = ("classification", "bbox_regression")
    module_arguments = ("backbone", "num_classes", "anchor_generator", "head")

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        min_size: int | Sequence[int] | None = None,
        max_size: int | None = None,
        image_mean: Numbers = None,
        image_std: Numbers = None,
        size_divisible: int | Sequence[int] | None = None,
        anchor_generator: AnchorGenerator | None = None,
        head: nn.Module | None = None,
        score_thresh: float = 0.05,
        nms_thresh: float | None = None,
        detections_per_img: int = 100,
        fg_iou_thresh: float | None = None,
        bg_iou_thresh: float | None = None,
        topk_candidates: int = 1000,
        box_nms: str = "hard",
        matcher: str = "iou",
    ) -> None:
        check_numbers(locals())
        anchors = default_anchors(backbone) if anchor_generator is None else anchor_generator
        transform = build_transform(backbone, anchors, min_size=min_size, max_size=max_size, image_mean=image_mean,
                                    image_std=image_std, size_divisible=size_divisible)  # fmt: skip
        super().__init__(backbone, transform)
        ndim, channels, overlap = self.ndim, int(backbone.out_channels), self._overlap  # type: ignore[arg-type]
        self._given_classes = check_classes(num_classes)
        self.anchor_generator = anchors
        number = anchors_of_a_place(anchors)
        self.head = head or RetinaNetHead(channels, number, num_classes, ndim)
        limits = overlap(fg_iou_thresh, 0.5), overlap(bg_iou_thresh, 0.4)
        self.proposal_matcher = AnchorMatcher(matcher, *limits, anchors)
        self.box_coder = BoxCoder((1.0, 1.0), ndim)
        self.suppression = Suppression(overlap(nms_thresh, 0.5), score_thresh, detections_per_img, box_nms)
        self.topk_candidates = topk_candidates

    @property
    def num_classes(self) -> int:
        """Classes of the head as it is now, the background included."""
        own = getattr(self.head, "classification_head", None)
        return int(getattr(own, "num_classes", self._given_classes))

    def telling_parts(self) -> list[nn.Module]:
        """The backbone and the head."""
        return [self.backbone, self.head]

    def _losses(self, batch: ImageList, maps: OrderedDict[str, Tensor], targets: list[Target]) -> dict[str, Tensor]:
        logits, codes = self.head(list(maps.values()))
        anchors = self.anchor_generator(batch, list(maps.values()))[0]
        levels = [level.shape[1] for level in logits]
        matches = [self.proposal_matcher(target["boxes"], anchors, levels) for target in targets]
        rows = list(zip(torch.cat(logits, 1), torch.cat(codes, 1), matches, targets, strict=True))
        classes = [_class_loss(own, match, target) for own, _, match, target in rows]
        boxes = [self._box_loss(own, anchors, match, target) for _, own, match, target in rows]
        return {
            "classification": torch.stack(classes).mean(),
            "bbox_regression": torch.stack(boxes).mean(),
        }

    def _box_loss(self, codes: Tensor, anchors: Tensor, match: Tensor, target: Target) -> Tensor:
        """Mean over the positive anchors of the absolute errors of their codes."""
        positive = torch.where(match >= 0)[0]
        true = self.box_coder.encode_single(target["boxes"][match[positive]], anchors[positive])
        return (codes[positive] - true).abs().sum() / max(1, len(positive))

    def _detections(self, batch: ImageList, maps: OrderedDict[str, Tensor]) -> list[Target]:
        logits, codes = self.head(list(maps.values()))
        anchors = self.anchor_generator(batch, list(maps.values()))[0].split([level.shape[1] for level in logits])
        scores = [level[..., 1:].sigmoid() for level in logits]
        found = []
        for i, size in enumerate(batch.image_sizes):
            levels = zip(scores, codes, anchors, strict=True)
            parts = [self._candidates(level[i], own[i], of_level) for level, own, of_level in levels]
            boxes, best, labels = (torch.cat(part) for part in zip(*parts, strict=True))
            found.append(self.suppression(boxes, best, labels, size))
        return found

    def _candidates(self, scores: Tensor, codes: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and labels of the best of a map, of scores (A, classes but the background)."""
        above = torch.where(scores.flatten() > self.suppression.score_thresh)[0]
        best, order = scores.flatten()[above].topk(min(self.topk_candidates, len(above)))
        place = above[order]
        anchor = torch.div(place, scores.shape[1], rounding_mode="floor")
        return self.box_coder.decode_single(codes[anchor], anchors[anchor]), best, 1 + place % scores.shape[1]


def _class_loss(logits: Tensor, match: Tensor, target: Target) -> Tensor:
    """Focal loss over the anchors that are not left out, over the number of positive ones."""
    positive = torch.where(match >= 0)[0]
    true = torch.zeros_like(logits)
    true[positive, target["labels"][match[positive]]] = 1
    counted = match != BETWEEN_THRESHOLDS
    return focal_loss(logits[counted], true[counted]) / max(1, len(positive))
