"""A checked scan as a network wants it: orientation, spacing, intensity; and results back on the scan's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from ..errors import UsageError
from ..intensity import IntensityRange
from .grid import Grid
from .intensity import Given, normalise
from .ranges import range_warnings
from .read import Volume
from .regrid import Regrid, build_regrid

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass
class Prepared:
    """A scan on the working grid.

    Attributes:
        array: (C, D, H, W) float32, contiguous.
        regrid: The change of grid, for labels and for the way back.
        warnings: The volume's and those of the intensity scheme.
    """

    array: npt.NDArray[np.float32]
    regrid: Regrid
    warnings: list[str] = field(default_factory=list)

    @property
    def grid(self) -> Grid:
        """The working grid."""
        return self.regrid.target

    @property
    def source_grid(self) -> Grid:
        """The scan's own grid."""
        return self.regrid.source

    def restore_logits(self, logits: torch.Tensor) -> npt.NDArray[np.float32]:
        """(K, D, H, W) on the working grid to float32 (K, I, J, K) on the scan's, trilinear."""
        return self.regrid.backward(logits)


def prepare(
    volume: Volume,
    orientation: str = "RAS",
    spacing: Sequence[float] | None = None,
    intensity: Given = None,
    ranges: Sequence[IntensityRange] | None = None,
    channels: Sequence[str] | None = None,
) -> Prepared:
    """Reorient without loss, resample to ``spacing`` (mm; None keeps the scan's), scale intensities.

    What comes out cannot be put in again, so that no scan is normalised twice here.

    Args:
        volume: From `read_volume`.
        orientation: Direction of the working axes.
        spacing: Millimetres along the working axes.
        intensity: See `medtransfer.volumes.intensity.normalise`; None is a z-score per channel.
        ranges: Intensities of the training scans, one a channel: what does not fit becomes a warning.
        channels: Their names, for the warnings.

    Raises:
        UsageError: settings that do not exist, or a scan that was prepared already.

    >>> import nibabel as nib
    >>> from medtransfer.volumes.read import read_volume
    >>> scan = read_volume(nib.Nifti1Image(np.eye(8, dtype=np.float32)[None].repeat(4, 0), np.diag([-1, 1, 2, 1])))
    >>> ready = prepare(scan, spacing=[1, 1, 1])
    >>> ready.array.shape, ready.grid.orientation, ready.regrid.backward_labels(ready.array[0]).shape
    ((1, 4, 8, 16), 'RAS', (4, 8, 8))
    """
    _refuse_prepared(volume)
    regrid = build_regrid(volume.grid, orientation, spacing)
    foreign = range_warnings(volume.array, ranges, channels, intensity)
    array, notes = normalise(regrid.forward(volume.array), intensity)
    return Prepared(np.ascontiguousarray(array), regrid, volume.warnings + foreign + notes)


def _refuse_prepared(given: object) -> None:
    if not isinstance(given, Volume):
        hint = "Prepare what read_volume gave, once"
        raise UsageError(f"prepare takes a Volume, got {type(given).__name__}", hint=hint)


def prepare_labels(
    labels: npt.NDArray[np.integer],
    grid: Grid,
    orientation: str = "RAS",
    spacing: Sequence[float] | None = None,
    method: Literal["nearest", "linear"] = "nearest",
) -> npt.NDArray[np.int32]:
    """Labels (I, J, K) through the same change of grid as `prepare`, int32 (D, H, W).

    ``linear`` resamples each class's mask and takes the largest share, which keeps outlines smoother than ``nearest``.

    Raises:
        UsageError: another ``method``, or an orientation or a spacing that does not exist.
    """
    regrid = build_regrid(grid, orientation, spacing)
    if method == "linear":
        return regrid.forward_labels_smooth(labels)
    if method != "nearest":
        raise UsageError(f"method must be 'nearest' or 'linear', got {method!r}")
    return regrid.forward_labels(labels.astype(np.int32, copy=False))
