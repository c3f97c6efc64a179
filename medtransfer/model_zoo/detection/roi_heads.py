"""What is in a proposal, and its exact box: Faster R-CNN's second stage (Ren et al., NeurIPS 2015)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...devices import at_least_float32
from .checks import Target
from .coder import BoxCoder
from .losses import box_loss, class_loss
from .matcher import Matcher
from .nms import box_iou
from .sampler import BalancedPositiveNegativeSampler
from .suppress import Suppressing, Suppression


class TwoMLPHead(nn.Module):
    """Two linear layers ``fc6`` and ``fc7`` with ReLU over the pooled features of a proposal.

    Args:
        in_channels: Channels times bins of the pooled features.
        representation_size: Outputs.

    >>> TwoMLPHead(2 * 4**3, 8)(torch.rand(5, 2, 4, 4, 4)).shape
    torch.Size([5, 8])
    """

    def __init__(self, in_channels: int, representation_size: int) -> None:
        super().__init__()
        self.fc6 = nn.Linear(in_channels, representation_size)
        self.fc7 = nn.Linear(representation_size, representation_size)

    def forward(self, pooled: Tensor) -> Tensor:
        """(R, C, *bins) -> (R, representation_size)."""
        return F.relu(self.fc7(F.relu(self.fc6(pooled.flatten(1)))))


class FastRCNNPredictor(nn.Module):
    """Class logits ``cls_score`` and a box for each class ``bbox_pred`` (Girshick, "Fast R-CNN", ICCV 2015).

    Args:
        in_channels: Outputs of the box head.
        num_classes: The background included.
        ndim: Spatial dimensions.

    >>> [tuple(found.shape) for found in FastRCNNPredictor(8, num_classes=3)(torch.rand(5, 8))]
    [(5, 3), (5, 18)]
    """

    def __init__(self, in_channels: int, num_classes: int, ndim: int = 3) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_channels, num_classes)
        self.bbox_pred = nn.Linear(in_channels, num_classes * 2 * ndim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, in_channels) -> logits (R, num_classes) and codes (R, num_classes * 2 ndim)."""
        x = x.flatten(1)
        return self.cls_score(x), self.bbox_pred(x)


class RoIHeads(Suppressing):
    """Classes and boxes of proposals, and the losses of both.

    Args:
        box_roi_pool: Features of boxes, see :class:`MultiScaleRoIAlign`.
        box_head: Pooled features (R, C, *bins) -> (R, F); any module.
        box_predictor: (R, F) -> logits (R, num_classes) and codes (R, num_classes * 2 ndim); any module.
        fg_iou_thresh, bg_iou_thresh: Overlap from which a proposal is of a box, and below which of the background.
        batch_size_per_image, positive_fraction: Proposals of a scan in the loss, and the highest share of positive
            ones.
        bbox_reg_weights: See :class:`BoxCoder`.
        suppression: How detections are chosen.
        ndim: Spatial dimensions.

    Raises:
        ModelError: weights or thresholds that cannot be.

    >>> from medtransfer.model_zoo.detection import MultiScaleRoIAlign
    >>> pool = MultiScaleRoIAlign(["0"], output_size=2, sampling_ratio=1)
    >>> heads = RoIHeads(pool, TwoMLPHead(4 * 2**3, 8), FastRCNNPredictor(8, num_classes=2), 0.4, 0.4, 16, 0.25,
    ...                  (10.0, 5.0), Suppression(0.4, 0.05, 100)).eval()
    >>> proposals = [torch.tensor([[0.0, 0, 0, 6, 6, 6], [2, 2, 2, 8, 8, 8]])]
    >>> detections, losses = heads({"0": torch.rand(1, 4, 4, 4, 4)}, proposals, [(8, 8, 8)])
    >>> detections[0]["boxes"].shape[1], losses
    (6, {})
    """

    def __init__(
        self,
        box_roi_pool: nn.Module,
        box_head: nn.Module,
        box_predictor: nn.Module,
        fg_iou_thresh: float,
        bg_iou_thresh: float,
        batch_size_per_image: int,
        positive_fraction: float,
        bbox_reg_weights: Sequence[float],
        suppression: Suppression,
        ndim: int = 3,
    ) -> None:
        super().__init__()
        self.box_roi_pool, self.box_head, self.box_predictor = box_roi_pool, box_head, box_predictor
        self.ndim = ndim
        self.box_coder = BoxCoder(bbox_reg_weights, ndim)
        self.proposal_matcher = Matcher(fg_iou_thresh, bg_iou_thresh)
        self.fg_bg_sampler = BalancedPositiveNegativeSampler(batch_size_per_image, positive_fraction)
        self.suppression = suppression

    def forward(
        self,
        features: Mapping[str, Tensor],
        proposals: Sequence[Tensor],
        image_sizes: Sequence[Sequence[int]],
        targets: Sequence[Target] | None = None,
        padded_size: Sequence[int] | None = None,
    ) -> tuple[list[Target], dict[str, Tensor]]:
        """Maps by name and proposals -> detections of each scan in evaluation, losses in training.

        Args:
            features: Feature maps.
            proposals: (P, 2 ndim) of each scan.
            image_sizes: Of the scans, to which boxes are clipped.
            targets: Boxes and labels of each scan; needed in training.
            padded_size: Of the batch; the strides of the maps follow from it. The largest scan's when None.
        """
        training = self.training and targets is not None
        labels: list[Tensor] = []
        codes: list[Tensor] = []
        if training:
            proposals, labels, codes = self.select_training_samples(proposals, targets or [])
        sizes = [padded_size] * len(proposals) if padded_size else image_sizes
        logits, moves = self._predict(features, proposals, sizes)
        if training:
            return [], self._losses(logits, moves, torch.cat(labels), torch.cat(codes))
        return self._detections(logits, moves, proposals, image_sizes), {}

    def select_training_samples(
        self, proposals: Sequence[Tensor], targets: Sequence[Target]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Sampled proposals of each scan, the true boxes among them; their labels; codes of the positive ones."""
        candidates = [torch.cat([own, target["boxes"]]) for own, target in zip(proposals, targets, strict=True)]
        pairs = list(zip(candidates, targets, strict=True))
        matches = [self.proposal_matcher(box_iou(target["boxes"], boxes)) for boxes, target in pairs]
        labels = [_labels(match, target["labels"]) for match, target in zip(matches, targets, strict=True)]
        masks = zip(*self.fg_bg_sampler(labels, None), strict=True)
        chosen = [torch.where(positive.bool() | negative.bool())[0] for positive, negative in masks]
        codes = []
        for (boxes, target), match, label, picked in zip(pairs, matches, labels, chosen, strict=True):
            of_boxes = picked[label[picked] > 0]
            codes.append(self.box_coder.encode_single(target["boxes"][match[of_boxes]], boxes[of_boxes]))
        return (
            [boxes[picked] for boxes, picked in zip(candidates, chosen, strict=True)],
            [label[picked] for label, picked in zip(labels, chosen, strict=True)],
            codes,
        )

    def _predict(
        self, features: Mapping[str, Tensor], boxes: Sequence[Tensor], sizes: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        logits, moves = self.box_predictor(self.box_head(self.box_roi_pool(features, boxes, sizes)))
        return at_least_float32(logits), at_least_float32(moves)

    def _losses(self, logits: Tensor, moves: Tensor, labels: Tensor, codes: Tensor) -> dict[str, Tensor]:
        positive = torch.where(labels > 0)[0]
        of_class = moves.unflatten(1, (-1, 2 * self.ndim))[positive, labels[positive]]
        return {
            "loss_classifier": class_loss(logits, labels),
            "loss_box_reg": box_loss(of_class, codes, len(labels)),
        }

    def _detections(
        self, logits: Tensor, moves: Tensor, proposals: Sequence[Tensor], sizes: Sequence[Sequence[int]]
    ) -> list[Target]:
        counts = [len(boxes) for boxes in proposals]
        boxes = self.box_coder.decode_single(moves, torch.cat(list(proposals)))
        # each class but the background has a box of its own
        boxes = boxes.unflatten(1, (-1, 2 * self.ndim))[:, 1:]
        scores = logits.softmax(1)[:, 1:]
        labels = torch.arange(1, logits.shape[1], device=logits.device).expand_as(scores)
        rows = zip(boxes.split(counts), scores.split(counts), labels.split(counts), sizes, strict=True)
        return [self.suppression(b.flatten(0, 1), s.flatten(), lab.flatten(), size) for b, s, lab, size in rows]


def _labels(match: Tensor, labels: Tensor) -> Tensor:
    """Of each proposal: its class, 0 for background, -1 where it is left out."""
    classes = torch.cat([labels.to(torch.int64), match.new_tensor([-1, 0])])
    # -1 (background) is the last of them, -2 (left out) the one before
    return classes[match]
