"""The region proposal network: where something is, whatever it is (Ren et al., "Faster R-CNN", NeurIPS 2015)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .anchors import AnchorGenerator
from .checks import Target
from .coder import BoxCoder
from .fpn import conv_type
from .levels import head_convs, rows_of_anchors, start_small
from .losses import box_loss, objectness_loss
from .matcher import BETWEEN_THRESHOLDS, AnchorMatcher
from .nms import batched_nms
from .sampler import build_sampler
from .suppress import too_thin
from .transform import ImageList, clip_boxes

#: shortest edge in voxels of a proposal, as in torchvision
MIN_EDGE = 1e-3


class RPNHead(nn.Module):
    """Objectness ``cls_logits`` and box codes ``bbox_pred`` of every anchor, from ``conv`` over each map.

    Args:
        in_channels: Channels of the maps.
        num_anchors: Anchors of one place.
        conv_depth: 3x3x3 convolutions in front.
        ndim: Spatial dimensions.

    >>> logits, codes = RPNHead(4, num_anchors=3)([torch.rand(2, 4, 5, 6, 7)])
    >>> tuple(logits[0].shape), tuple(codes[0].shape)
    ((2, 3, 5, 6, 7), (2, 18, 5, 6, 7))
    """

    def __init__(self, in_channels: int, num_anchors: int, conv_depth: int = 1, ndim: int = 3) -> None:
        super().__init__()
        self.conv = head_convs(in_channels, conv_depth, ndim)
        self.cls_logits = start_small(conv_type(ndim)(in_channels, num_anchors, 1))
        self.bbox_pred = start_small(conv_type(ndim)(in_channels, num_anchors * 2 * ndim, 1))

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps (N, C, *spatial) -> of each (N, anchors, *spatial) and (N, anchors * 2 ndim, *spatial)."""
        hidden = [self.conv(x) for x in maps]
        return [self.cls_logits(x) for x in hidden], [self.bbox_pred(x) for x in hidden]


class RegionProposalNetwork(nn.Module):
    """Proposals from anchors, and the losses of both its outputs.

    Args:
        anchor_generator, head: The parts.
        fg_iou_thresh, bg_iou_thresh: Overlap from which an anchor is of a box, and below which of the background.
        batch_size_per_image, positive_fraction: Anchors of a scan in the loss, and the highest share of positive ones.
        pre_nms_top_n: Best anchors of each map that are looked at, by ``"training"`` and ``"testing"``.
        post_nms_top_n: Proposals of a scan, by the same words.
        nms_thresh: Overlap above which the worse of two proposals of one map goes.
        score_thresh: Objectness below which there is no proposal.
        matcher: How anchors are matched with boxes, ``"iou"`` or ``"atss"``, see :class:`AnchorMatcher`.
        sampler: Which anchors are in the loss, ``"balanced"`` or ``"hard_negative"``, see :func:`build_sampler`.

    Raises:
        ModelError: an unknown matcher or sampler, or thresholds that cannot be.

    >>> anchors, top = AnchorGenerator([[4.0]], [1.0]), {"training": 20, "testing": 10}
    >>> rpn = RegionProposalNetwork(anchors, RPNHead(2, 1), 0.6, 0.2, 16, 0.5, top, top, nms_thresh=0.6).eval()
    >>> scans = ImageList(torch.rand(1, 1, 16, 16, 16), [(16, 16, 16)])
    >>> proposals, losses = rpn(scans, {"0": torch.rand(1, 2, 4, 4, 4)})
    >>> proposals[0].shape[1], len(proposals[0]) <= 10, losses
    (6, True, {})
    """

    def __init__(
        self,
        anchor_generator: AnchorGenerator,
        head: nn.Module,
        fg_iou_thresh: float,
        bg_iou_thresh: float,
        batch_size_per_image: int,
        positive_fraction: float,
        pre_nms_top_n: Mapping[str, int],
        post_nms_top_n: Mapping[str, int],
        nms_thresh: float,
        score_thresh: float = 0.0,
        matcher: str = "iou",
        sampler: str = "balanced",
    ) -> None:
        super().__init__()
        self.anchor_generator, self.head = anchor_generator, head
        self.ndim = anchor_generator.ndim
        self.box_coder = BoxCoder((1.0, 1.0), self.ndim)
        self.proposal_matcher = AnchorMatcher(matcher, fg_iou_thresh, bg_iou_thresh, anchor_generator)
        self.fg_bg_sampler = build_sampler(sampler, batch_size_per_image, positive_fraction)
        self.pre_nms_top_n, self.post_nms_top_n = dict(pre_nms_top_n), dict(post_nms_top_n)
        self.nms_thresh, self.score_thresh = nms_thresh, score_thresh

    def forward(
        self, images: ImageList, features: Mapping[str, Tensor], targets: Sequence[Target] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Maps by name -> proposals (P, 2 ndim) of each scan, and in training the losses.

        Args:
            images: The batch that the maps are of.
            features: All of them are used.
            targets: Boxes of each scan; needed in training.
        """
        maps = list(features.values())
        logits, codes = self.head(maps)
        scores = [rows.squeeze(2) for rows in rows_of_anchors(logits, 1)]
        moves = rows_of_anchors(codes, 2 * self.ndim)
        anchors = self.anchor_generator(images, maps)[0]
        proposals = self.filter_proposals(scores, moves, anchors, images.image_sizes)
        if not self.training or targets is None:
            return proposals, {}
        return proposals, self.compute_loss(scores, moves, anchors, targets)

    def filter_proposals(
        self, scores: Sequence[Tensor], moves: Sequence[Tensor], anchors: Tensor, sizes: Sequence[Sequence[int]]
    ) -> list[Tensor]:
        """The best proposals of each scan, without gradients.

        Args:
            scores: Objectness logits of each map, (N, A).
            moves: Box codes of each map, (N, A, 2 ndim).
            anchors: Of all maps, (sum of A, 2 ndim), the same for every scan.
            sizes: Of the scans, to which proposals are clipped.
        """
        mode = "training" if self.training else "testing"
        boxes, chances, levels = [], [], []
        of_levels = anchors.split([level.shape[1] for level in scores])
        for number, (level, codes, own) in enumerate(zip(scores, moves, of_levels, strict=True)):
            best, places = level.detach().topk(min(self.pre_nms_top_n[mode], level.shape[1]), dim=1)
            picked = codes.detach().gather(1, places[..., None].expand(-1, -1, codes.shape[2]))
            decoded = self.box_coder.decode_single(picked.flatten(0, 1), own[places].flatten(0, 1))
            boxes.append(decoded.view_as(picked))
            chances.append(best.sigmoid())
            levels.append(torch.full_like(places, number))
        rows = zip(torch.cat(boxes, 1), torch.cat(chances, 1), torch.cat(levels, 1), sizes, strict=True)
        return [self._best(*row)[: self.post_nms_top_n[mode]] for row in rows]

    def compute_loss(
        self, scores: Sequence[Tensor], moves: Sequence[Tensor], anchors: Tensor, targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """``loss_objectness`` and ``loss_rpn_box_reg`` over the sampled anchors of all scans.

        Args:
            scores: Objectness logits of each map, (N, A).
            moves: Box codes of each map, (N, A, 2 ndim).
            anchors: Of all maps, (sum of A, 2 ndim).
            targets: Boxes of each scan.
        """
        levels = [level.shape[1] for level in scores]
        matches = [self.proposal_matcher(target["boxes"], anchors, levels) for target in targets]
        logits, codes = torch.cat(list(scores), 1), torch.cat(list(moves), 1)
        # 1 a box, 0 background, -1 left out
        labels = [(match >= 0).float() - (match == BETWEEN_THRESHOLDS).float() for match in matches]
        positive, negative = (
            torch.stack(list(masks)).bool() for masks in self.fg_bg_sampler(labels, logits.detach().sigmoid().flatten())
        )
        chosen = positive | negative
        true_codes = [
            self.box_coder.encode_single(target["boxes"][match[mask]], anchors[mask])
            for target, match, mask in zip(targets, matches, positive, strict=True)
        ]
        return {
            "loss_objectness": objectness_loss(logits[chosen], torch.stack(labels)[chosen]),
            "loss_rpn_box_reg": box_loss(codes[positive], torch.cat(true_codes), int(chosen.sum())),
        }

    def _best(self, boxes: Tensor, scores: Tensor, levels: Tensor, size: Sequence[int]) -> Tensor:
        boxes = clip_boxes(boxes, size)
        keep = ~too_thin(boxes, MIN_EDGE) & (scores >= self.score_thresh)
        boxes = boxes[keep]
        return boxes[batched_nms(boxes, scores[keep], levels[keep], self.nms_thresh)]
