"""From scored boxes to detections: clip, drop the bad ones, suppress overlapping ones, keep the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...errors import ModelError
from .checks import Target
from .nms import batched_nms, soft_nms
from .transform import clip_boxes

#: shortest edge in voxels that a detection may have, as in torchvision
MIN_EDGE = 1e-2
BOX_NMS = ("hard", "soft")
#: intersection over union above which boxes of one class are one thing, for a detector that does not say
OVERLAP = 0.4


@dataclass
class Suppression:
    """Non-maximum suppression within each class.

    Attributes:
        nms_thresh: Overlap above which the worse of two boxes goes.
        score_thresh: Scores up to it are dropped.
        detections_per_img: Most detections of a scan.
        box_nms: ``"hard"``; or ``"soft"``, by which overlapping boxes lose score instead of going, for structures that
            touch each other.

    Raises:
        ModelError: an unknown kind of suppression.
    """

    nms_thresh: float
    score_thresh: float
    detections_per_img: int
    box_nms: str = "hard"

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "box_nms" and value not in BOX_NMS:
            raise ModelError(f"box_nms must be {' or '.join(map(repr, BOX_NMS))}, got {value!r}")
        super().__setattr__(name, value)

    def __call__(self, boxes: Tensor, scores: Tensor, labels: Tensor, size: Sequence[int]) -> Target:
        """Boxes (N, 2 ndim), scores (N,) and labels (N,) of one scan -> its detections, by descending score."""
        boxes = clip_boxes(boxes, size)
        keep = (scores > self.score_thresh) & ~too_thin(boxes, MIN_EDGE)
        boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
        if self.box_nms == "soft":
            best, scores = soft_nms(boxes, scores, labels, self.nms_thresh, score_threshold=self.score_thresh)
        else:
            best = batched_nms(boxes, scores, labels, self.nms_thresh)
            scores = scores[best]
        best, scores = best[: self.detections_per_img], scores[: self.detections_per_img]
        return {"boxes": boxes[best], "labels": labels[best], "scores": scores}


def _of_suppression(name: str) -> Any:
    return property(
        lambda self: getattr(self.suppression, name),
        lambda self, value: setattr(self.suppression, name, value),
        doc=f"``{name}`` of :class:`Suppression`; may be set.",
    )


class Suppressing(nn.Module):
    """A module that chooses detections, with the thresholds where torchvision has them: to be read and set."""

    suppression: Suppression
    nms_thresh, score_thresh = _of_suppression("nms_thresh"), _of_suppression("score_thresh")
    detections_per_img, box_nms = _of_suppression("detections_per_img"), _of_suppression("box_nms")


def overlap_of(network: nn.Module) -> float:
    """The overlap above which two boxes of one class are one thing to a detector; 0.4 for one that does not say."""
    return float(getattr(network, "nms_thresh", OVERLAP))


def too_thin(boxes: Tensor, edge: float) -> Tensor:
    """Which of the boxes (N, 2 ndim) have an edge shorter than ``edge`` voxels, (N,) bool."""
    lower, upper = boxes.unflatten(1, (2, -1)).unbind(1)
    return (upper - lower < edge).any(1)
