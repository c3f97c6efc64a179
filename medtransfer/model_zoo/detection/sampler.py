"""Which anchors or proposals a loss is computed over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import ModelError

#: which anchors a loss may be computed over
SAMPLERS = ("balanced", "hard_negative")


class BalancedPositiveNegativeSampler:
    """A number of anchors an image, drawn by chance, of which at most a share is positive: torchvision's rule.

    Args:
        batch_size_per_image: Anchors of an image.
        positive_fraction: Highest share of positive ones; negative ones fill up.

    >>> chosen = BalancedPositiveNegativeSampler(4, 0.5)([torch.tensor([1, 2, 3, 0, 0, 0, -1])])
    >>> [int(mask.sum()) for masks in chosen for mask in masks]
    [2, 2]
    """

    def __init__(self, batch_size_per_image: int, positive_fraction: float) -> None:
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction

    def __call__(self, labels: Sequence[Tensor], scores: Tensor | None = None) -> tuple[list[Tensor], list[Tensor]]:
        """Labels of each image's anchors, (A,) each -> masks of the chosen positive and negative ones, (A,) bool.

        Args:
            labels: >= 1 is positive, 0 negative, below 0 never chosen.
            scores: Not used; MONAI's ``HardNegativeSampler`` takes the scores of all images' anchors here.
        """
        chosen = [self._choose(each) for each in labels]
        return [positive for positive, _ in chosen], [negative for _, negative in chosen]

    def _choose(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        positive, negative = torch.where(labels >= 1)[0], torch.where(labels == 0)[0]
        wanted = min(len(positive), int(self.batch_size_per_image * self.positive_fraction))
        return _drawn(labels, positive, wanted), _drawn(labels, negative, self.batch_size_per_image - wanted)


def build_sampler(name: str, batch_size_per_image: int, positive_fraction: float) -> Any:
    """A sampler by name, called with labels and scores.

    Args:
        name: ``balanced``: :class:`BalancedPositiveNegativeSampler`; ``hard_negative``: MONAI's
            ``HardNegativeSampler``, which draws among the negative anchors with the highest scores.
        batch_size_per_image, positive_fraction: See :class:`BalancedPositiveNegativeSampler`.

    Raises:
        ModelError: an unknown name.

    >>> build_sampler("balanced", 4, 0.5).batch_size_per_image
    4
    """
    if name == "balanced":
        return BalancedPositiveNegativeSampler(batch_size_per_image, positive_fraction)
    if name == "hard_negative":
        # read when it is asked for: MONAI takes seconds
        from monai.apps.detection.utils.hard_negative_sampler import HardNegativeSampler

        return HardNegativeSampler(batch_size_per_image, positive_fraction)
    raise ModelError(f"the sampler must be {' or '.join(map(repr, SAMPLERS))}, got {name!r}")


def _drawn(labels: Tensor, places: Tensor, number: int) -> Tensor:
    mask = torch.zeros_like(labels, dtype=torch.bool)
    mask[places[torch.randperm(len(places), device=places.device)[:number]]] = True
    return mask
