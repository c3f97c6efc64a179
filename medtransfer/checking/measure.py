"""What is measured of one volume, without a second copy of it: intensities, a hash of its voxels, voxels by label."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from ..volumes.grid import Grid

_CHUNK = 1 << 20
PERCENTILE_VOXELS = 1_000_000  # the percentiles of larger volumes are those of about so many voxels, evenly spread
_MOST_BINS = 1 << 16


@dataclass(frozen=True)
class Intensities:
    """The intensities of one channel; ``low`` and ``high`` are the 0.5 % and the 99.5 % percentile."""

    min: float
    low: float
    median: float
    high: float
    max: float
    mean: float
    std: float

    @property
    def width(self) -> float:
        """From ``low`` to ``high``; of a scan that is nearly all background, from the least to the largest value."""
        return self.high - self.low or self.max - self.min

    @property
    def is_constant(self) -> bool:
        """Whether all voxels are equal."""
        return self.min == self.max


def intensities(channel: npt.NDArray[np.float32]) -> Intensities:
    """Measure one channel (I, J, K) of finite numbers; sums in double precision.

    >>> measured = intensities(np.arange(1001, dtype=np.float32).reshape(7, 11, 13))
    >>> measured.low, measured.median, measured.high, measured.mean
    (5.0, 500.0, 995.0, 500.0)
    """
    flat = channel.ravel(order="K")
    mean = sum(float(chunk.sum(dtype=np.float64)) for chunk in _chunks(flat)) / flat.size
    squares = sum(float(np.square(chunk - np.float64(mean)).sum(dtype=np.float64)) for chunk in _chunks(flat))
    # an odd step does not fall on the same columns of a volume again and again
    step = flat.size // PERCENTILE_VOXELS | 1
    low, median, high = (float(value) for value in np.percentile(flat[::step], (0.5, 50, 99.5)))
    deviation = (squares / flat.size) ** 0.5
    return Intensities(float(flat.min()), low, median, high, float(flat.max()), mean, deviation)


def voxel_hash(array: npt.NDArray[Any], grid: Grid) -> str:
    """A hash of the voxels' values, the same however the file is packed and in whichever order its axes are stored.

    >>> values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    >>> turned = Grid((2, 3, 4), np.diag([-1.0, 1.0, 1.0, 1.0]))
    >>> voxel_hash(values, Grid((2, 3, 4), np.eye(4))) == voxel_hash(values[::-1], turned)
    True
    """
    upright = nib.orientations.apply_orientation(array, nib.orientations.io_orientation(grid.affine))
    digest = hashlib.sha256(repr((upright.shape, upright.dtype.str)).encode())
    for index in range(upright.shape[2]):
        digest.update(np.ascontiguousarray(upright[:, :, index].T).data)
    return digest.hexdigest()[:32]


def label_counts(labels: npt.NDArray[np.int32]) -> dict[int, int]:
    """Voxels by label, of those labels that occur.

    >>> label_counts(np.array([[[0, 2, 2, -1]]], np.int32))
    {-1: 1, 0: 1, 2: 2}
    """
    counts: Counter[int] = Counter()
    for chunk in _chunks(labels.ravel(order="K")):
        if chunk.min() >= 0 and chunk.max() < _MOST_BINS:
            found = np.bincount(chunk)
            counts.update({int(value): int(found[value]) for value in np.flatnonzero(found)})
        else:
            values, times = np.unique(chunk, return_counts=True)
            counts.update(dict(zip(values.tolist(), times.tolist(), strict=True)))
    return dict(sorted(counts.items()))


def _chunks(flat: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    return (flat[start : start + _CHUNK] for start in range(0, flat.size, _CHUNK))
