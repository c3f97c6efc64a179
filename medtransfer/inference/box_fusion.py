"""From the boxes of several looks at one scan, by mirror images or by several networks, to one set of boxes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..model_zoo.detection.box_set import BoxSet, concatenate
from ..model_zoo.detection.nms import batched_nms, box_iou

_LEAST = 1e-9  # so that boxes without any score have a mean too


def fuse(looks: Sequence[BoxSet], threshold: float) -> BoxSet:
    """Weighted box fusion: boxes of one class that overlap become their mean, weighted by the scores.

    Every look has one vote in a box, its best. The score is the sum over the looks divided by their number, so that a
    box which only some of them found counts less. (Non-maximum suppression would take the best box and its score, as
    if the others had said nothing.)

    Args:
        looks: The boxes of each look, on one grid.
        threshold: Overlap with the mean so far, as intersection over union, above which a box joins it.

    Returns:
        Boxes by descending score; those of a single look as they are.

    Source: Solovyev et al., Image and Vision Computing 2021, "Weighted boxes fusion".

    >>> one = BoxSet(torch.tensor([[0.0, 0, 0, 4, 4, 4]]), torch.tensor([1]), torch.tensor([0.9]))
    >>> other = BoxSet(torch.tensor([[0.0, 0, 0, 4, 4, 5]]), torch.tensor([1]), torch.tensor([0.3]))
    >>> found = fuse([one, other, one.take(torch.tensor([], dtype=torch.int64))], threshold=0.5)
    >>> [round(value, 2) for value in found.boxes[0].tolist()], round(float(found.scores[0]), 2)
    ([0.0, 0.0, 0.0, 4.0, 4.0, 4.25], 0.4)
    """
    if len(looks) == 1:
        return looks[0]
    pool = concatenate(looks)
    pool = BoxSet(pool.boxes, pool.labels, pool.scores.clamp(min=_LEAST))
    owners = torch.repeat_interleave(torch.arange(len(looks)), torch.tensor([len(one) for one in looks]))
    order = pool.scores.argsort(descending=True, stable=True)
    clusters = _Clusters(pool, len(looks))
    for index in order.tolist():
        clusters.add(index, int(owners[index]), threshold)
    found = clusters.fused()
    return found.take(batched_nms(found.boxes, found.scores, found.labels, threshold))


class _Clusters:
    """Groups of boxes, at most as many as there are boxes; ``total`` is the sum of the boxes times their scores."""

    def __init__(self, pool: BoxSet, looks: int) -> None:
        count = len(pool)
        self.pool, self.looks, self.count = pool, looks, 0
        self.total = torch.zeros(count, 6, dtype=pool.boxes.dtype)
        self.scores = torch.zeros(count, dtype=pool.scores.dtype)
        self.labels = torch.zeros(count, dtype=pool.labels.dtype)
        self.voted = torch.zeros(count, looks, dtype=torch.bool)

    def add(self, index: int, owner: int, threshold: float) -> None:
        """Give a box to the group that it fits best, or to a new one; a second vote of a look counts nothing."""
        box, score, label = self.pool.boxes[index], self.pool.scores[index], self.pool.labels[index]
        place = self._place(box, label, threshold)
        if self.voted[place, owner]:
            return
        self.total[place] += box * score
        self.scores[place] += score
        self.labels[place] = label
        self.voted[place, owner] = True

    def fused(self) -> BoxSet:
        """The mean box of every group."""
        used = slice(0, self.count)
        return BoxSet(self._means(), self.labels[used], self.scores[used] / self.looks)

    def _place(self, box: Tensor, label: Tensor, threshold: float) -> int:
        overlaps = box_iou(box[None], self._means())[0] * (self.labels[: self.count] == label)
        if self.count and float(overlaps.max()) > threshold:
            return int(overlaps.argmax())
        self.count += 1
        return self.count - 1

    def _means(self) -> Tensor:
        used = slice(0, self.count)
        return self.total[used] / self.scores[used, None]
