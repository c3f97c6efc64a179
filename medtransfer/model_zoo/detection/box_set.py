"""Boxes with their classes and scores, as they go from windows and looks to those of a scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import Target


@dataclass(frozen=True)
class BoxSet:
    """Boxes (N, 2 ndim) float64, their class numbers (N,) int64 and scores (N,) float64, on the CPU."""

    boxes: Tensor
    labels: Tensor
    scores: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def of(cls, found: Target) -> BoxSet:
        """What a detector gave for one image."""
        boxes, labels, scores = (found[name].cpu() for name in ("boxes", "labels", "scores"))
        return cls(boxes.double(), labels.long(), scores.double())

    def take(self, which: Tensor) -> BoxSet:
        """Those that a mask or indices choose."""
        return BoxSet(self.boxes[which], self.labels[which], self.scores[which])

    def moved(self, offset: Sequence[int]) -> BoxSet:
        """Moved by so many voxels along each axis."""
        return BoxSet(self.boxes + self.boxes.new_tensor([*offset, *offset]), self.labels, self.scores)

    def mirrored(self, axes: Sequence[int], shape: Sequence[int]) -> BoxSet:
        """Those of a volume of ``shape`` that is mirrored along ``axes``.

        >>> one = BoxSet(torch.tensor([[0.0, 1, 2, 3, 4, 5]]), torch.ones(1), torch.ones(1))
        >>> one.mirrored([0], (10, 9, 8)).boxes.tolist()
        [[7.0, 1.0, 2.0, 10.0, 4.0, 5.0]]
        """
        boxes, ndim = self.boxes.clone(), len(shape)
        for axis in axes:
            boxes[:, axis] = shape[axis] - self.boxes[:, ndim + axis]
            boxes[:, ndim + axis] = shape[axis] - self.boxes[:, axis]
        return BoxSet(boxes, self.labels, self.scores)


def concatenate(sets: Sequence[BoxSet]) -> BoxSet:
    """All boxes of several sets, in order."""
    return BoxSet(*(torch.cat([getattr(one, name) for one in sets]) for name in ("boxes", "labels", "scores")))
