"""Faster R-CNN in 2-D and 3-D (Ren et al., NeurIPS 2015), under torchvision's contract and with its keys."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from ...errors import ModelError
from .anchors import AnchorGenerator, anchors_of_a_place
from .checks import Target, check_numbers
from .detector import Detector, build_transform, check_classes, default_anchors
from .roi_align import MultiScaleRoIAlign
from .roi_heads import FastRCNNPredictor, RoIHeads, TwoMLPHead
from .rpn import RegionProposalNetwork, RPNHead
from .suppress import Suppression
from .transform import ImageList, Numbers


class FasterRCNN(Detector):
    """Proposals first, then their classes and exact boxes.

    Arguments are torchvision's. Where a default differs, medical volumes are the reason:

    - ``rpn_*_thresh``, ``box_*_thresh``: None stands for the overlap in n-D that is as far off on each axis as
      torchvision's in 2-D: 0.6 for 0.7, 0.4 for 0.5, 0.2 for 0.3 (see ``overlap_in``).
    - ``box_roi_size=4``: 7 bins an axis are 343 in 3-D; with 256 channels ``fc6`` alone would have 90 million weights.
    - ``rpn_*_top_n_*`` and ``box_batch_size_per_image``: a scan has a few structures, not dozens of people.
    - ``min_size``, ``image_mean``: none, see :class:`DetectorTransform`.

    Args:
        backbone: Any module with ``out_channels`` that gives a tensor or an ordered dict of maps, for example
            :class:`EncoderBackbone`. It may say ``in_channels``, ``ndim`` and ``output_stride`` too.
        num_classes: The background included; None if ``box_predictor`` is given.
        min_size, max_size, image_mean, image_std, size_divisible: See :class:`DetectorTransform`.
        rpn_anchor_generator: Needed for a backbone that does not say the ``strides`` of its maps.
        rpn_head: Objectness and codes of anchors, see :class:`RPNHead`.
        rpn_pre_nms_top_n_train, rpn_pre_nms_top_n_test, rpn_post_nms_top_n_train, rpn_post_nms_top_n_test,
            rpn_nms_thresh, rpn_fg_iou_thresh, rpn_bg_iou_thresh, rpn_batch_size_per_image, rpn_positive_fraction,
            rpn_score_thresh, rpn_matcher, rpn_sampler: See :class:`RegionProposalNetwork`.
        box_roi_pool: See :class:`MultiScaleRoIAlign`.
        box_head, box_predictor, box_fg_iou_thresh, box_bg_iou_thresh, box_batch_size_per_image, box_positive_fraction,
            bbox_reg_weights: See :class:`RoIHeads`.
        box_score_thresh, box_nms_thresh, box_detections_per_img, box_nms: See :class:`Suppression`.
        box_roi_size, box_sampling_ratio: Bins of a box an axis, and points of a bin an axis, of the default pooling.
        box_head_size: Outputs of the default ``box_head``.

    Attributes:
        rpn (``anchor_generator``, ``head``), roi_heads (``box_roi_pool``, ``box_head``, ``box_predictor``): Parts;
            assign to them to exchange them.

    Raises:
        ModelError: parts or numbers that do not make a detector.

    >>> import torch
    >>> backbone = nn.Sequential(nn.Conv3d(1, 4, 3, stride=4, padding=1), nn.ReLU())
    >>> backbone.out_channels = 4
    >>> anchors = AnchorGenerator(sizes=((8, 16),), aspect_ratios=((0.5, 1.0, 2.0),))
    >>> net = FasterRCNN(backbone, num_classes=2, rpn_anchor_generator=anchors, size_divisible=4).eval()
    >>> [sorted(found) for found in net([torch.rand(1, 16, 12, 10)])]
    [['boxes', 'labels', 'scores']]
    """

    prefix, anchor_argument = "faster_rcnn", "rpn_anchor_generator"
    loss_names = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
    module_arguments = (
        *("backbone", "num_classes", "rpn_anchor_generator", "rpn_head"),
        *("box_roi_pool", "box_head", "box_predictor"),
    )

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int | None = None,
        min_size: int | Sequence[int] | None = None,
        max_size: int | None = None,
        image_mean: Numbers = None,
        image_std: Numbers = None,
        size_divisible: int | Sequence[int] | None = None,
        rpn_anchor_generator: AnchorGenerator | None = None,
        rpn_head: nn.Module | None = None,
        rpn_pre_nms_top_n_train: int = 1000,
        rpn_pre_nms_top_n_test: int = 500,
        rpn_post_nms_top_n_train: int = 500,
        rpn_post_nms_top_n_test: int = 250,
        rpn_nms_thresh: float | None = None,
        rpn_fg_iou_thresh: float | None = None,
        rpn_bg_iou_thresh: float | None = None,
        rpn_batch_size_per_image: int = 256,
        rpn_positive_fraction: float = 0.5,
        rpn_score_thresh: float = 0.0,
        box_roi_pool: MultiScaleRoIAlign | None = None,
        box_head: nn.Module | None = None,
        box_predictor: nn.Module | None = None,
        box_score_thresh: float = 0.05,
        box_nms_thresh: float | None = None,
        box_detections_per_img: int = 100,
        box_fg_iou_thresh: float | None = None,
        box_bg_iou_thresh: float | None = None,
        box_batch_size_per_image: int = 128,
        box_positive_fraction: float = 0.25,
        bbox_reg_weights: Sequence[float] = (10.0, 5.0),
        box_nms: str = "hard",
        rpn_matcher: str = "iou",
        rpn_sampler: str = "balanced",
        box_roi_size: int | Sequence[int] = 4,
        box_sampling_ratio: int = 2,
        box_head_size: int = 1024,
    ) -> None:
        check_numbers(locals())
        anchors = default_anchors(backbone) if rpn_anchor_generator is None else rpn_anchor_generator
        transform = build_transform(backbone, anchors, min_size=min_size, max_size=max_size, image_mean=image_mean,
                                    image_std=image_std, size_divisible=size_divisible)  # fmt: skip
        super().__init__(backbone, transform)
        ndim, channels, overlap = self.ndim, int(backbone.out_channels), self._overlap  # type: ignore[arg-type]
        self.rpn = RegionProposalNetwork(
            anchors,
            rpn_head or RPNHead(channels, anchors_of_a_place(anchors), ndim=ndim),
            overlap(rpn_fg_iou_thresh, 0.7),
            overlap(rpn_bg_iou_thresh, 0.3),
            rpn_batch_size_per_image,
            rpn_positive_fraction,
            {"training": rpn_pre_nms_top_n_train, "testing": rpn_pre_nms_top_n_test},
            {"training": rpn_post_nms_top_n_train, "testing": rpn_post_nms_top_n_test},
            overlap(rpn_nms_thresh, 0.7),
            rpn_score_thresh,
            rpn_matcher,
            rpn_sampler,
        )
        _check_predictor(num_classes, box_predictor)
        pool = box_roi_pool or _default_pool(backbone, box_roi_size, box_sampling_ratio, ndim)
        self.roi_heads = RoIHeads(
            pool,
            box_head or TwoMLPHead(channels * math.prod(pool.output_size), box_head_size),
            box_predictor or FastRCNNPredictor(box_head_size, check_classes(num_classes), ndim),
            overlap(box_fg_iou_thresh, 0.5),
            overlap(box_bg_iou_thresh, 0.5),
            box_batch_size_per_image,
            box_positive_fraction,
            bbox_reg_weights,
            Suppression(overlap(box_nms_thresh, 0.5), box_score_thresh, box_detections_per_img, box_nms),
            ndim,
        )

    @property
    def num_classes(self) -> int | None:
        """Outputs of the predictor's ``cls_score``; None for a predictor that has none."""
        score = getattr(self.roi_heads.box_predictor, "cls_score", None)
        return getattr(score, "out_features", None)

    @property
    def suppression(self) -> Suppression:  # type: ignore[override]
        """That of ``roi_heads``."""
        return self.roi_heads.suppression

    def telling_parts(self) -> list[nn.Module]:
        """The backbone and both heads' last layers."""
        return [self.backbone, self.rpn.head, self.roi_heads.box_predictor]

    def _losses(self, batch: ImageList, maps: OrderedDict[str, Tensor], targets: list[Target]) -> dict[str, Tensor]:
        proposals, losses = self.rpn(batch, maps, targets)
        _, more = self.roi_heads(maps, proposals, batch.image_sizes, targets, batch.padded_size)
        return {**losses, **more}

    def _detections(self, batch: ImageList, maps: OrderedDict[str, Tensor]) -> list[Target]:
        proposals, _ = self.rpn(batch, maps)
        found: list[Target] = self.roi_heads(maps, proposals, batch.image_sizes, None, batch.padded_size)[0]
        return found


def _default_pool(backbone: nn.Module, size: int | Sequence[int], ratio: int, ndim: int) -> MultiScaleRoIAlign:
    names = getattr(backbone, "map_names", ["0"])[: getattr(backbone, "encoder_maps", 1)]
    bins = size if isinstance(size, int) else max(size)
    # two voxels of the map a bin: the 224 pixels of photographs come from 7 bins on stride 16 in the same way
    return MultiScaleRoIAlign(names, size, ratio, ndim, canonical_scale=2 * bins * 16, canonical_level=4)


def _check_predictor(num_classes: int | None, predictor: nn.Module | None) -> None:
    if predictor is not None and num_classes is not None:
        raise ModelError(f"num_classes={num_classes} and box_predictor were both given",
                         hint="Leave num_classes away: the predictor has its own")  # fmt: skip
