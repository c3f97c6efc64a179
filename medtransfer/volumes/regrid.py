"""The change from a scan's own grid to the one a network works on, and its exact way back.

Axes are flipped and permuted without loss; then spacing changes by the map that takes voxel ``j`` of ``n_out`` to
``(j + 0.5) * n_in / n_out - 0.5`` of ``n_in``, so that both grids cover the same box and the way back is the same map
with the two sizes exchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from ..errors import UsageError
from .grid import Grid

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Regrid:
    """From ``source`` to ``target`` and back; built by `build_regrid`.

    Attributes:
        source: The scan's grid.
        oriented: The same voxels after flips and permutation.
        target: The working grid, with other spacing if one was asked for.
        axes: Working axis ``a`` is source axis ``axes[a]``.
        flips: Working axes that run against the source's.
    """

    source: Grid
    oriented: Grid
    target: Grid
    axes: tuple[int, int, int]
    flips: tuple[int, ...]

    @property
    def resamples(self) -> bool:
        """Whether voxels change at all, beyond their order."""
        return self.oriented.shape != self.target.shape

    def orient(self, array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """(..., I, J, K) in the working order of axes, not resampled; a view, which torch cannot take."""
        lead = array.ndim - 3
        moved = array.transpose(*range(lead), *(lead + axis for axis in self.axes))
        return np.flip(moved, tuple(lead + axis for axis in self.flips))

    def unorient(self, array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """The inverse of `orient`; a view."""
        lead = array.ndim - 3
        moved = np.flip(array, tuple(lead + axis for axis in self.flips))
        return moved.transpose(*range(lead), *(lead + int(axis) for axis in np.argsort(self.axes)))

    def forward(self, array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Intensities (C, I, J, K) to the working grid (C, D, H, W), trilinear."""
        moved = self.orient(array).copy()
        return resample(torch.from_numpy(moved), self.target.shape).numpy() if self.resamples else moved

    def backward(self, logits: torch.Tensor) -> npt.NDArray[np.float32]:
        """Logits (K, D, H, W) to the scan's grid (K, I, J, K), trilinear, as float32."""
        moved = resample(logits.detach().float().cpu(), self.oriented.shape)
        return self.unorient(moved.numpy()).copy()

    def forward_labels(self, labels: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """Labels (I, J, K) to the working grid, nearest neighbour."""
        return nearest(self.orient(labels), self.target.shape).copy()

    def backward_labels(self, labels: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """Labels (D, H, W) to the scan's grid, nearest neighbour."""
        return self.unorient(nearest(labels, self.oriented.shape)).copy()

    def forward_labels_smooth(self, labels: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        """Labels (I, J, K) to the working grid: each class's mask resampled linearly, the largest share wins."""
        if not self.resamples:
            return self.forward_labels(labels).astype(np.int32)
        moved = self.orient(labels).copy()
        values = np.unique(moved)
        shares = (torch.from_numpy((moved == value).astype(np.float32))[None] for value in values)
        winners = _running_argmax((resample(share, self.target.shape)[0] for share in shares), self.target.shape)
        return values.astype(np.int32)[winners]


def build_regrid(grid: Grid, orientation: str = "RAS", spacing: Sequence[float] | None = None) -> Regrid:
    """The change from ``grid`` to ``orientation`` (three letters) and ``spacing`` (mm, along the new axes).

    No spacing keeps the scan's. The working box is the scan's own, so the spacing reached is the asked one up to a
    fraction of a voxel over the box.

    Raises:
        UsageError: an orientation or a spacing that does not exist.

    >>> build_regrid(Grid((10, 20, 30), np.diag([-1.0, 1.0, 3.0, 1.0])), "RAS", [1, 2, 1]).target.shape
    (10, 10, 90)
    """
    start = nib.orientations.io_orientation(grid.affine)
    change = nib.orientations.ornt_transform(start, _orientation(orientation))
    axes = tuple(int(axis) for axis in np.argsort(change[:, 0]))
    flips = tuple(axis for axis in range(3) if change[axes[axis], 1] < 0)
    affine = grid.affine @ nib.orientations.inv_ornt_aff(change, grid.shape)
    oriented = Grid(_three(grid.shape[axis] for axis in axes), affine)
    return Regrid(grid, oriented, _respaced(oriented, spacing), _three(axes), flips)


def resample(tensor: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Trilinear resampling of (C, D, H, W) floats to ``shape`` over the same box; itself if nothing changes."""
    if tuple(tensor.shape[1:]) == tuple(shape):
        return tensor
    return F.interpolate(tensor[None], size=tuple(shape), mode="trilinear", align_corners=False)[0]


def nearest(array: npt.NDArray[Scalar], shape: Sequence[int]) -> npt.NDArray[Scalar]:
    """Nearest-neighbour resampling of (D, H, W) to ``shape`` over the same box, in whole numbers, of any type.

    >>> nearest(np.arange(4).reshape(4, 1, 1), (2, 1, 1)).ravel()
    array([1, 3])
    """
    for axis, (size, wanted) in enumerate(zip(array.shape, shape, strict=True)):
        if size != wanted:
            index = (2 * np.arange(wanted) + 1) * size // (2 * wanted)
            array = array.take(index, axis=axis)
    return array


def _running_argmax(scores: Iterable[torch.Tensor], shape: Sequence[int]) -> npt.NDArray[np.int64]:
    winners = torch.zeros(tuple(shape), dtype=torch.int64)
    best: torch.Tensor | None = None
    for index, score in enumerate(scores):
        if best is None:
            best = score.clone()
            continue
        winners[score > best] = index
        torch.maximum(best, score, out=best)
    return winners.numpy()


def _respaced(grid: Grid, spacing: Sequence[float] | None) -> Grid:
    if spacing is None:
        return grid
    wanted = np.asarray(spacing, dtype=np.float64)
    if wanted.shape != (3,) or not (np.isfinite(wanted).all() and (wanted > 0).all()):
        raise UsageError(f"spacing must be three positive millimetres, got {list(spacing)}")
    sizes = np.maximum(1, np.rint(np.array(grid.shape) * grid.spacing / wanted)).astype(int)
    ratio = np.array(grid.shape) / sizes
    change = np.diag([*ratio, 1.0])
    change[:3, 3] = 0.5 * ratio - 0.5
    return Grid(_three(sizes.tolist()), grid.affine @ change)


def _orientation(letters: str) -> npt.NDArray[np.float64]:
    try:
        found = nib.orientations.axcodes2ornt(letters)
    except (ValueError, TypeError):
        found = np.full((3, 2), np.nan)
    if found.shape != (3, 2) or not np.isfinite(found).all() or len(set(found[:, 0])) < 3:
        raise UsageError(f"orientation must be three letters, one of R/L, A/P and S/I each, got {letters!r}")
    return found


def _three(values: Iterable[int]) -> tuple[int, int, int]:
    first, second, third = values
    return int(first), int(second), int(third)
