"""Which true box each anchor or proposal stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import ModelError
from .anchors import AnchorGenerator, anchors_of_a_place
from .nms import box_iou

#: what a match says of an anchor that stands for no box: it is background, or it is left out of the loss
BELOW_LOW_THRESHOLD = -1
BETWEEN_THRESHOLDS = -2

#: how anchors are matched
RULES = ("iou", "atss")
#: places of each map around a box's centre whose anchors ATSS compares, as in nnDetection
CANDIDATES = 4


class Matcher:
    """Matching by two thresholds on the overlap: the rules of torchvision's ``Matcher``.

    An anchor takes the box that it overlaps most: from ``high_threshold`` on it stands for it, below
    ``low_threshold`` it is background (-1), between them it is left out (-2).

    Args:
        high_threshold: Overlap from which an anchor stands for a box.
        low_threshold: Overlap below which it is background.
        allow_low_quality_matches: Every box's best anchors (ties included) stand for the box that they themselves
            overlap most, however little that is.

    Raises:
        ModelError: the low threshold is above the high one.

    >>> quality = torch.tensor([[0.8, 0.1, 0.4], [0.2, 0.3, 0.0]])
    >>> Matcher(0.5, 0.35)(quality), Matcher(0.5, 0.35, allow_low_quality_matches=True)(quality)
    (tensor([ 0, -1, -2]), tensor([ 0,  1, -2]))
    """

    def __init__(self, high_threshold: float, low_threshold: float, allow_low_quality_matches: bool = False) -> None:
        if low_threshold > high_threshold:
            raise ModelError(f"the low threshold must not be above the high one, got {low_threshold}, {high_threshold}")
        self.high_threshold = high_threshold
        self.low_threshold = low_threshold
        self.allow_low_quality_matches = allow_low_quality_matches

    def __call__(self, quality: Tensor) -> Tensor:
        """Overlaps (true boxes, anchors) -> (anchors,) int64: the number of the box, or -1 or -2.

        Without boxes all anchors are background.
        """
        if not quality.shape[0]:
            return quality.new_full(quality.shape[1:], BELOW_LOW_THRESHOLD, dtype=torch.int64)
        overlap, nearest = quality.max(dim=0)
        matches = nearest.masked_fill(overlap < self.high_threshold, BETWEEN_THRESHOLDS)
        matches.masked_fill_(overlap < self.low_threshold, BELOW_LOW_THRESHOLD)
        if not (self.allow_low_quality_matches and quality.numel()):
            return matches
        is_best = (quality == quality.amax(dim=1, keepdim=True)).any(dim=0)
        return torch.where(is_best, nearest, matches)


class AnchorMatcher:
    """Which true box each anchor of a batch's maps stands for; every box has one at least.

    Args:
        rule: ``"iou"``: :class:`Matcher` with both thresholds. ``"atss"``: MONAI's ``ATSSMatcher``, which takes for
            each box the anchors around its centre that overlap it clearly more than the others there (Zhang et al.,
            CVPR 2020), as nnDetection does: small boxes overlap all anchors little, large ones many of them much.
        fg_iou_thresh, bg_iou_thresh: Of :class:`Matcher`.
        generator: Of the anchors.

    Raises:
        ModelError: an unknown rule, or thresholds that cannot be.

    >>> generator = AnchorGenerator([[4]], [1.0], ndim=2)
    >>> anchors = torch.tensor([[0.0, 0, 4, 4], [4, 0, 8, 4], [8, 0, 12, 4], [12, 0, 16, 4]])
    >>> matchers = [AnchorMatcher(rule, 0.6, 0.2, generator) for rule in RULES]
    >>> [matcher(torch.tensor([[2.0, 0, 8, 4]]), anchors, [4]).tolist() for matcher in matchers]
    [[-2, 0, -1, -1], [-1, 0, -1, -1]]
    """

    def __init__(self, rule: str, fg_iou_thresh: float, bg_iou_thresh: float, generator: AnchorGenerator) -> None:
        if rule not in RULES:
            raise ModelError(f"the anchors' matcher must be {' or '.join(map(repr, RULES))}, got {rule!r}")
        self.per_place = 0
        self.by_thresholds = Matcher(fg_iou_thresh, bg_iou_thresh, allow_low_quality_matches=True)
        self.adaptive: Any = None
        if rule == "atss":
            # read when it is asked for: MONAI takes seconds
            from monai.apps.detection.utils.ATSS_matcher import ATSSMatcher

            self.per_place = anchors_of_a_place(generator)
            self.adaptive = ATSSMatcher(CANDIDATES, box_iou, center_in_gt=False)

    def __call__(self, boxes: Tensor, anchors: Tensor, levels: Sequence[int]) -> Tensor:
        """Boxes (N, 2 ndim), anchors (A, 2 ndim) of maps of so many each -> (A,) as :class:`Matcher` gives them."""
        if self.adaptive is None or not len(boxes):
            return self.by_thresholds(box_iou(boxes, anchors))
        places = [count // self.per_place for count in levels]
        overlaps, matches = self.adaptive(boxes, anchors, places, self.per_place)
        # of anchors that overlap a box all alike none stands out
        every = torch.arange(len(boxes), device=matches.device)
        left = every[torch.isin(every, matches, invert=True)]
        return torch.as_tensor(matches.index_put((overlaps[left].argmax(dim=1),), left))
