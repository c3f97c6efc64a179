"""Losses of detectors, by torchvision's definitions. Without any box they are finite and have gradients of zero."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

#: where the smooth L1 loss of Faster R-CNN turns from a parabola into a line
BETA = 1 / 9


def objectness_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits (S,) and labels (S,) of 0 and 1; 0 of none."""
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits), reduction="sum") / max(1, len(labels))


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of logits (S, num_classes) and labels (S,); 0 of none."""
    return F.cross_entropy(logits, labels, reduction="sum") / max(1, len(labels))


def box_loss(codes: Tensor, true_codes: Tensor, samples: int) -> Tensor:
    """Smooth L1 of the codes (P, 2 ndim) of positive samples, summed, over the number of all samples.

    Source: Ren et al., "Faster R-CNN", NeurIPS 2015.
    """
    return F.smooth_l1_loss(codes, true_codes, beta=BETA, reduction="sum") / max(1, samples)


def focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sum of the binary cross-entropies, each times how wrong it is to the power of ``gamma``.

    Args:
        logits, targets: The same shape; targets are 0 or 1.
        alpha: Weight of the ones, 1 - alpha of the zeros.
        gamma: 0 leaves the cross-entropy.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.

    >>> import torch
    >>> round(float(focal_loss(torch.zeros(2), torch.tensor([0.0, 1.0]))), 4)
    0.1733
    """
    probability = logits.sigmoid()
    wrong = targets + probability - 2 * targets * probability
    weight = (1 - alpha) + (2 * alpha - 1) * targets
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (weight * wrong**gamma * entropy).sum()
