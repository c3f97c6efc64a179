"""Distances between the surfaces of two masks, in millimetres, and the scores that follow from them.

The surface of a mask is the set of its voxels that touch another voxel, or the image's edge, by a face. Distances run
from voxel centre to voxel centre. These are the definitions of MONAI's metrics, with which the scores agree wherever
both masks hold something.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

Mask = npt.NDArray[np.bool_]
Distances = npt.NDArray[np.float64]

# a distance of just the tolerance counts, whatever the rounding of spacings such as 0.7
_ROUNDING_MM = 1e-6
_LEAF = 32  # faster than 16 where a tree is asked once


@dataclass(frozen=True)
class SurfaceDistances:
    """From every voxel of one surface to the nearest of the other, in mm; infinite where there is no other.

    A score is NaN where both masks are empty. Where one of them is, distances are infinite and NSD is 0.

    Attributes:
        to_reference: (P,) one a voxel of the prediction's surface.
        to_prediction: (R,) one a voxel of the reference's surface.

    >>> distances = SurfaceDistances(np.array([0.0, 3.0]), np.array([0.0, 1.0]))
    >>> distances.hd, distances.assd, distances.nsd(2.0)
    (3.0, 1.0, 0.75)
    """

    to_reference: Distances
    to_prediction: Distances

    @property
    def assd(self) -> float:
        """Average symmetric surface distance: mean over the voxels of both surfaces together."""
        return float(self._all.mean()) if len(self._all) else math.nan

    @property
    def hd(self) -> float:
        """Hausdorff distance: the largest of all."""
        return self.percentile(100)

    @property
    def hd95(self) -> float:
        """The larger of the two 95 % percentiles, one a surface."""
        return self.percentile(95)

    def percentile(self, percent: float) -> float:
        """The larger of the two percentiles, one a surface, values between being interpolated."""
        parts = [part for part in (self.to_reference, self.to_prediction) if len(part)]
        if not parts:
            return math.nan
        if np.isinf(parts[0][0]):  # interpolating between infinities gives NaN
            return math.inf
        return max(float(np.percentile(part, percent)) for part in parts)

    def nsd(self, tolerance: float) -> float:
        """Normalised surface Dice: share of the voxels of both surfaces within ``tolerance`` mm of the other.

        Source: Nikolov et al. 2018 (arXiv:1809.04430), who weigh by area; counted in voxels as in Seidlitz et al. 2022
        and MONAI.
        """
        return float((self._all <= tolerance + _ROUNDING_MM).mean()) if len(self._all) else math.nan

    @property
    def _all(self) -> Distances:
        return np.concatenate([self.to_reference, self.to_prediction])


def surface_distances(mask: Mask, reference: Mask, spacing: Sequence[float]) -> SurfaceDistances:
    """Distances between the surfaces of two masks.

    Args:
        mask: (I, J, K) the predicted structure.
        reference: (I, J, K) the true one.
        spacing: Millimetres along the three axes.

    >>> mask, reference = np.zeros((2, 1, 1, 9), bool)
    >>> mask[0, 0, 2], reference[0, 0, 4] = True, True
    >>> surface_distances(mask, reference, (1, 1, 3)).hd
    6.0
    """
    found, wanted = surface(mask), surface(reference)
    if not (found.any() and wanted.any()):
        return SurfaceDistances(*(np.full(np.count_nonzero(one), np.inf) for one in (found, wanted)))
    return SurfaceDistances(_distances(found, wanted, spacing), _distances(wanted, found, spacing))


def surface(mask: Mask) -> Mask:
    """The voxels of a mask that touch another voxel, or the array's edge, by a face.

    >>> surface(np.ones((3, 3, 3), bool)).sum()
    np.int64(26)
    """
    inner = mask.copy()
    for axis in range(mask.ndim):
        moved, source = np.moveaxis(inner, axis, 0), np.moveaxis(mask, axis, 0)
        moved[1:] &= source[:-1]
        moved[:-1] &= source[1:]
        moved[0] = moved[-1] = False
    return mask & ~inner


def _distances(points: Mask, others: Mask, spacing: Sequence[float]) -> Distances:
    """Voxels that both surfaces have are 0 apart, so only the rest is looked up."""
    apart = points & ~others
    distances = np.zeros(np.count_nonzero(points))
    if apart.any():
        tree = KDTree(_places(others, spacing), leafsize=_LEAF, balanced_tree=False)
        distances[: np.count_nonzero(apart)] = tree.query(_places(apart, spacing))[0]
    return distances


def _places(mask: Mask, spacing: Sequence[float]) -> Distances:
    """(N, 3) in mm; one axis searched is faster than three."""
    indices = np.unravel_index(np.flatnonzero(mask), mask.shape)
    return np.stack(indices, axis=1) * np.asarray(spacing, float)
