"""The boxes of one sample on their way through crops, flips and affine maps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..volumes.boxes import box_volumes, clip_boxes
from ..volumes.structures import BoxOf, boxes_of_labels, number_structures

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class BoxTargets:
    """Boxes within a volume, what they hold, and how much of each is left of what the scan had.

    Attributes:
        boxes: (N, 6), see `medtransfer.volumes.boxes`.
        labels: (N,), class numbers from 1.
        shares: (N,), from 1 (whole) to 0 (cut off).
    """

    boxes: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    shares: npt.NDArray[np.float64]

    @classmethod
    def whole(cls, boxes: npt.ArrayLike, labels: npt.ArrayLike) -> BoxTargets:
        """Boxes of which nothing is cut off yet.

        >>> BoxTargets.whole([[0, 0, 0, 2, 2, 2]], [1]).shares.tolist()
        [1.0]
        """
        numbers = np.asarray(labels, dtype=np.int64)
        return cls(np.asarray(boxes, dtype=np.float64).reshape(-1, 6), numbers, np.ones(len(numbers)))

    def __len__(self) -> int:
        return len(self.labels)

    def cropped(self, start: npt.ArrayLike, shape: Shape) -> BoxTargets:
        """In a part of the volume that starts at a voxel; what lies outside of it is cut off.

        >>> targets = BoxTargets.whole([[0, 0, 0, 4, 4, 4]], [1]).cropped((2, 0, 0), (8, 8, 8))
        >>> targets.boxes.tolist(), targets.shares.tolist()
        ([[0.0, 0.0, 0.0, 2.0, 4.0, 4.0]], [0.5])
        """
        return self._cut(self.boxes - np.tile(np.asarray(start, dtype=np.float64), 2), shape)

    def flipped(self, axis: int, shape: Shape) -> BoxTargets:
        """Mirrored along an axis."""
        boxes = self.boxes.copy()
        boxes[:, [axis, axis + 3]] = shape[axis] - self.boxes[:, [axis + 3, axis]]
        return replace(self, boxes=boxes)

    def warped(self, matrix: npt.NDArray[np.float64], shape: Shape) -> BoxTargets:
        """Through a matrix (3, 4) that takes the output's voxels to the input's, both counted from the centre.

        The centres are moved; the new size is that of the box around the moved ellipsoid that fills the old one. That
        is exact for shifts and zooms, and for round structures; corners that a structure does not fill do not make its
        box grow when it is turned, as MONAI's ``ellipse_mask`` has it.
        """
        back = np.linalg.inv(matrix[:, :3])
        middle = np.asarray(shape) / 2
        lower, upper = np.hsplit(self.boxes, 2)
        centres = ((lower + upper) / 2 - middle - matrix[:, 3]) @ back.T + middle
        half = np.sqrt(((upper - lower) / 2) ** 2 @ (back**2).T)
        return self._cut(np.hstack([centres - half, centres + half]), shape)

    def kept(self, smallest_share: float) -> BoxTargets:
        """Those of which at least such a share is left."""
        wanted = (self.shares >= smallest_share) & (box_volumes(self.boxes) > 0)
        return self[wanted]

    def __getitem__(self, wanted: npt.NDArray[Any]) -> BoxTargets:
        return BoxTargets(self.boxes[wanted], self.labels[wanted], self.shares[wanted])

    def to_dict(self) -> dict[str, Tensor]:
        """``boxes`` (N, 6) float32 and ``labels`` (N,) int64."""
        return {"boxes": torch.from_numpy(self.boxes).float(), "labels": torch.from_numpy(self.labels.copy())}

    def _cut(self, boxes: npt.NDArray[np.float64], shape: Shape) -> BoxTargets:
        clipped, before = clip_boxes(boxes, shape), box_volumes(boxes)
        left = np.divide(box_volumes(clipped), before, out=np.zeros(len(before)), where=before > 0)
        return replace(self, boxes=clipped, shares=self.shares * left)


def mask_targets(labels: Tensor, each: BoxOf, smallest: int = 1) -> tuple[Tensor, BoxTargets]:
    """Every structure of a mask under a number of its own, from 1, and their boxes in the same order.

    Args:
        labels: (1, D, H, W), class numbers.
        each: See `medtransfer.volumes.structures.boxes_of_labels`.
        smallest: Structures of fewer voxels are left out.

    Returns:
        The numbers (1, D, H, W), uint8 or int32, and the boxes.

    >>> mask = torch.tensor([[[[2, 2, 0, 2]]]], dtype=torch.uint8)
    >>> numbers, targets = mask_targets(mask, "component")
    >>> numbers.tolist(), targets.labels.tolist()
    ([[[[1, 1, 0, 2]]]], [2, 2])
    """
    array = labels[0].numpy()
    numbered, owners = number_structures(array, each)
    boxes, numbers = boxes_of_labels(numbered)
    sizes = np.bincount(numbered.ravel(), minlength=len(owners) + 1)[numbers]
    kept = sizes >= smallest
    table = np.zeros(len(owners) + 1, dtype=np.int32)
    table[numbers[kept]] = np.arange(1, kept.sum() + 1)
    small = np.uint8 if kept.sum() <= np.iinfo(np.uint8).max else np.int32
    targets = BoxTargets.whole(boxes[kept], owners[numbers[kept] - 1])
    return torch.from_numpy(table.astype(small)[numbered])[None], targets
