"""Detectors and what they are made of: boxes, anchors, matching, sampling, pooling; loaded on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .anchors import AnchorGenerator
    from .backbone import EncoderBackbone
    from .coder import BoxCoder
    from .detector import Detector
    from .faster_rcnn import FasterRCNN
    from .fpn import FeaturePyramidNetwork
    from .matcher import AnchorMatcher, Matcher
    from .nms import batched_nms, box_iou, soft_nms
    from .retinanet import RetinaNet, RetinaNetHead
    from .roi_align import MultiScaleRoIAlign
    from .roi_heads import FastRCNNPredictor, RoIHeads, TwoMLPHead
    from .rpn import RegionProposalNetwork, RPNHead
    from .sampler import BalancedPositiveNegativeSampler, build_sampler
    from .transform import DetectorTransform, ImageList

# the functions nms and roi_align are to be had from their modules alone, which have the same names
_HOMES = {
    "AnchorGenerator": "anchors",
    "AnchorMatcher": "matcher",
    "BalancedPositiveNegativeSampler": "sampler",
    "BoxCoder": "coder",
    "Detector": "detector",
    "DetectorTransform": "transform",
    "EncoderBackbone": "backbone",
    "FastRCNNPredictor": "roi_heads",
    "FasterRCNN": "faster_rcnn",
    "FeaturePyramidNetwork": "fpn",
    "ImageList": "transform",
    "Matcher": "matcher",
    "MultiScaleRoIAlign": "roi_align",
    "RPNHead": "rpn",
    "RegionProposalNetwork": "rpn",
    "RetinaNet": "retinanet",
    "RetinaNetHead": "retinanet",
    "RoIHeads": "roi_heads",
    "TwoMLPHead": "roi_heads",
    "batched_nms": "nms",
    "box_iou": "nms",
    "build_sampler": "sampler",
    "soft_nms": "nms",
}

__all__ = [
    "AnchorGenerator",
    "AnchorMatcher",
    "BalancedPositiveNegativeSampler",
    "BoxCoder",
    "Detector",
    "DetectorTransform",
    "EncoderBackbone",
    "FastRCNNPredictor",
    "FasterRCNN",
    "FeaturePyramidNetwork",
    "ImageList",
    "Matcher",
    "MultiScaleRoIAlign",
    "RPNHead",
    "RegionProposalNetwork",
    "RetinaNet",
    "RetinaNetHead",
    "RoIHeads",
    "TwoMLPHead",
    "batched_nms",
    "box_iou",
    "build_sampler",
    "soft_nms",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
