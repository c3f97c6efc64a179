"""Detection of lesions: connected components of the prediction against those of the reference."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching

Mask = npt.NDArray[np.bool_]
_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)  # faces, edges and corners: 26 of them


@dataclass(frozen=True)
class Lesions:
    """How many lesions there were, and how many were found.

    Attributes:
        wanted: Lesions of the reference.
        detected: Those of them that the prediction found.
        found: Lesions of the prediction.
        right: Those of them that are lesions of the reference.

    >>> lesions = Lesions(wanted=4, detected=3, found=4, right=2)
    >>> lesions.sensitivity, lesions.precision, lesions.f1
    (0.75, 0.5, 0.6)
    >>> Lesions(2, 0, 0, 0).f1, Lesions(0, 0, 0, 0).f1
    (0.0, nan)
    """

    wanted: int
    detected: int
    found: int
    right: int

    @property
    def sensitivity(self) -> float:
        """Share of the reference's lesions that were found; NaN if there is none."""
        return self.detected / self.wanted if self.wanted else math.nan

    @property
    def precision(self) -> float:
        """Share of the prediction's lesions that are right; NaN if there is none."""
        return self.right / self.found if self.found else math.nan

    @property
    def f1(self) -> float:
        """Harmonic mean of the two; 0 where one side has no lesion, NaN where neither has."""
        if not self.wanted and not self.found:
            return math.nan
        if not self.detected or not self.right:
            return 0.0
        return 2 * self.sensitivity * self.precision / (self.sensitivity + self.precision)


def match_lesions(mask: Mask, reference: Mask, min_iou: float = 0.0) -> Lesions:
    """Match the connected components (26 neighbours) of two masks.

    Args:
        mask: (I, J, K) the prediction.
        reference: (I, J, K).
        min_iou: 0: a lesion counts as found if it shares a voxel with the other mask, so that one component may find
            two lesions. Above 0: lesions are paired one to one, as many as can be, and a pair needs an intersection
            over union of at least this.

    Source: Maier-Hein et al. 2024, Metrics reloaded (per-object detection).

    >>> mask, reference = np.zeros((2, 1, 1, 9), bool)
    >>> mask[0, 0, 0:5], reference[0, 0, [0, 1, 4, 8]] = True, True
    >>> match_lesions(mask, reference)
    Lesions(wanted=3, detected=2, found=1, right=1)
    >>> match_lesions(mask, reference, min_iou=0.5)
    Lesions(wanted=3, detected=0, found=1, right=0)
    """
    found, num_found = ndimage.label(mask, _NEIGHBOURS)
    wanted, num_wanted = ndimage.label(reference, _NEIGHBOURS)
    pairs, shared = _pairs(found, wanted)
    if min_iou == 0:
        detected, right = (len(np.unique(side)) for side in (pairs[:, 1], pairs[:, 0]))
    else:
        sizes = np.bincount(found.ravel())[pairs[:, 0]] + np.bincount(wanted.ravel())[pairs[:, 1]]
        detected = right = _most_pairs(pairs[shared / (sizes - shared) >= min_iou], num_found, num_wanted)
    return Lesions(num_wanted, detected, num_found, right)


def _pairs(
    found: npt.NDArray[np.int32], wanted: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(N, 2) numbers of components that share voxels, and (N,) how many they share."""
    both = (found > 0) & (wanted > 0)
    base = int(wanted.max(initial=0)) + 1
    keys, shared = np.unique(found[both].astype(np.int64) * base + wanted[both], return_counts=True)
    return np.stack(np.divmod(keys, base), axis=1), shared


def _most_pairs(pairs: npt.NDArray[np.int64], num_found: int, num_wanted: int) -> int:
    """How many of the pairs can be chosen so that no component is in two of them."""
    if not len(pairs):
        return 0
    rows, columns = pairs.T - 1
    graph = coo_array((np.ones(len(pairs), dtype=bool), (rows, columns)), shape=(num_found, num_wanted)).tocsr()
    return int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())
