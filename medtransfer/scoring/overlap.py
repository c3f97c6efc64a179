"""How much of two masks is the same: Dice, sensitivity, precision, and the error in volume."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Overlap:
    """Voxels of two masks, from which all scores of overlap follow.

    A score is NaN where it is not defined, so that nobody takes it for a good one: Dice where both masks are empty,
    sensitivity and the relative volume error where the reference is, precision where the prediction is.

    Attributes:
        both: Voxels in both masks.
        found: Voxels in the prediction.
        wanted: Voxels in the reference.

    >>> overlap = Overlap(both=2, found=4, wanted=2)
    >>> overlap.sensitivity, overlap.precision, round(overlap.dice, 3), overlap.relative_error
    (1.0, 0.5, 0.667, 1.0)
    >>> Overlap(0, 0, 5).dice, Overlap(0, 5, 0).dice, Overlap(0, 0, 0).dice
    (0.0, 0.0, nan)
    """

    both: int
    found: int
    wanted: int

    @property
    def dice(self) -> float:
        """Twice the common voxels over the voxels of both (Dice 1945; the F1 of voxels)."""
        return _ratio(2 * self.both, self.found + self.wanted)

    @property
    def sensitivity(self) -> float:
        """Share of the reference that was found (recall)."""
        return _ratio(self.both, self.wanted)

    @property
    def precision(self) -> float:
        """Share of the prediction that is right (positive predictive value)."""
        return _ratio(self.both, self.found)

    @property
    def relative_error(self) -> float:
        """Volume of the prediction less that of the reference, over that of the reference."""
        return _ratio(self.found - self.wanted, self.wanted)


def overlap(mask: Mask, reference: Mask) -> Overlap:
    """Count the voxels of two masks of the same shape.

    >>> overlap(np.array([True, True, False]), np.array([False, True, False]))
    Overlap(both=1, found=2, wanted=1)
    """
    return Overlap(*(int(np.count_nonzero(one)) for one in (mask & reference, mask, reference)))


def class_overlaps(table: npt.NDArray[np.int64]) -> list[Overlap]:
    """The overlap of each class, from how many voxels of which class were taken for which.

    Args:
        table: (K, K) counts as of `medtransfer.scoring.classification.confusion`: rows are the true classes.

    >>> class_overlaps(np.array([[5, 1], [2, 3]]))
    [Overlap(both=5, found=7, wanted=6), Overlap(both=3, found=4, wanted=5)]
    """
    counts = np.stack([table.diagonal(), table.sum(axis=0), table.sum(axis=1)], axis=1)
    return [Overlap(*row) for row in counts.tolist()]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
