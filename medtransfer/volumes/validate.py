"""The one gate in front of every scan: what would lead to a plausible but wrong result is refused here.

A check raises, or returns warnings. They run in the order in which a file is read, so that nothing is allocated on the
word of a header that makes no sense.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import VolumeError
from .grid import Grid, corner_displacement
from .header import Header
from .memory import require_memory, size_text
from .validate_header import check_header

__all__ = [
    "check_header",
    "check_size",
    "ends_early",
    "check_values",
    "check_scaled_range",
    "check_grids",
    "whole_labels",
    "check_classes",
    "check_not_scan",
    "constant_note",
]

GZIP_RATIO = 1100  # deflate cannot do better than 1032 : 1
SAME_VOXELS, NEAR_VOXELS = 0.05, 0.5  # corners closer than this are the same grid / a warning
SCALED_WARN, SCALED_LIMIT = 1e6, 1e9
ROUND_TOLERANCE = 1e-3
_MANY_FRACTIONS = 20


def check_size(header: Header, size: int, gzipped: bool, path: Path) -> None:
    """Whether the claimed voxels fit the memory and can be in a file of ``size`` bytes.

    Raises:
        ResourceError: more memory is needed than there is.
        VolumeError: the file cannot hold that many voxels.
    """
    offset = int(header.offset)
    claimed = offset + header.data_bytes
    sizes = "x".join(str(length) for length in header.shape)
    voxels = header.data_bytes // max(1, header.dtype.itemsize if header.dtype else 1)
    require_memory(header.data_bytes + 4 * voxels, f"a volume of {sizes} voxels ({header.dtype})", path)
    if gzipped and claimed > GZIP_RATIO * size:
        reason = f"claims {size_text(claimed)} in a gzip file of {size_text(size)}, more than gzip can pack"
        raise VolumeError(reason, path=path, hint="The file is damaged or was made to exhaust memory")
    if not gzipped and size < claimed:
        raise ends_early(size, claimed, size <= offset and offset > 0, path)


def ends_early(got: int, claimed: int, header_only: bool, path: Path) -> VolumeError:
    """The error for a file that stops before its voxels do."""
    lead = "not a NIfTI file with voxels, only a header: it " if header_only else ""
    return VolumeError(f"{lead}ends early: {got} of {claimed} bytes", path=path, hint="Copy or download it again")


def check_values(array: npt.NDArray[Any], path: Path | None) -> None:
    """Refuse NaN and infinite voxels: one of them makes a normalised volume NaN and its mask empty.

    Raises:
        VolumeError: says how many and where the first is.
    """
    if array.dtype.kind != "f" or np.isfinite(array.sum(dtype=np.float64)):
        return
    bad = ~np.isfinite(array)
    if not bad.any():  # finite values whose sum overflowed
        return
    where = tuple(int(index) for index in np.unravel_index(int(np.argmax(bad)), bad.shape))
    raise VolumeError(
        f"{int(bad.sum())} of {array.size} voxels are NaN or infinite, the first at {where}",
        path=path,
        hint="Mend the scan, or give a value to fill them with (nan=0)",
    )


def check_grids(a: Grid, b: Grid, names: tuple[str, str], path: Path | None) -> list[str]:
    """Whether two volumes lie on one grid: a small offset is a warning.

    Raises:
        VolumeError: another shape, or corners further apart than half a voxel.
    """
    if a.shape != b.shape:
        turned = ", the same sizes in another order" if sorted(a.shape) == sorted(b.shape) else ""
        reason = f"{names[1]} has shape {b.shape}, {names[0]} has {a.shape}{turned}"
        raise VolumeError(reason, path=path, hint="Resample one onto the other first")
    moved = corner_displacement(a, b)
    if moved > NEAR_VOXELS:
        reason = f"{names[1]} lies up to {moved:.3g} voxels off {names[0]} ({_difference(a, b)})"
        raise VolumeError(reason, path=path, hint="Their affines must agree; resample one onto the other")
    return [f"{names[1]} lies up to {moved:.2g} voxels off {names[0]}"] if moved > SAME_VOXELS else []


def _difference(a: Grid, b: Grid) -> str:
    """Why two grids of one shape do not agree: the first that differs of orientation, spacing and place."""
    if a.orientation != b.orientation:
        return f"the axes run {b.orientation} and {a.orientation}"
    if not np.allclose(a.spacing, b.spacing, rtol=1e-3):
        ours, theirs = (" x ".join(f"{size:.4g}" for size in grid.spacing) for grid in (a, b))
        return f"the spacings are {theirs} and {ours} mm"
    shift = b.corners().mean(axis=0) - a.corners().mean(axis=0)
    return f"shifted by {', '.join(f'{mm:.3g}' for mm in np.round(shift, 3) + 0.0)} mm, or turned"


def whole_labels(array: npt.NDArray[Any], path: Path | None) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Labels as int32; floating-point ones within 1e-3 of a whole number are rounded, with a note.

    Raises:
        VolumeError: fractions, NaN, or numbers beyond 32 bits.
    """
    notes: list[str] = []
    check_values(array, path)
    if array.dtype.kind == "f":
        rounded = np.rint(array)
        _check_fractions(array, rounded, path)
        if not np.array_equal(rounded, array):
            notes.append("labels are not whole numbers, but within 0.001 of one: rounded")
        array = rounded
    limits = np.iinfo(np.int32)
    if array.size and (array.max() > limits.max or array.min() < limits.min):
        raise VolumeError(f"labels run from {array.min()} to {array.max()}, beyond 32 bits", path=path)
    return array.astype(np.int32), notes


def check_classes(labels: npt.NDArray[np.int32], num_classes: int, ignore_index: int | None, path: Path | None) -> None:
    """Every label must be one of ``0 .. num_classes - 1`` or ``ignore_index``.

    Raises:
        VolumeError: lists the others with their counts of voxels.
    """
    if labels.size and labels.min() >= 0 and labels.max() < num_classes:
        return
    values, counts = np.unique(labels, return_counts=True)
    found = dict(zip(values.tolist(), counts.tolist(), strict=True))
    wrong = {value: count for value, count in found.items() if not 0 <= value < num_classes and value != ignore_index}
    if wrong:
        listed = ", ".join(f"{value} ({count} voxels)" for value, count in list(wrong.items())[:8])
        reason = f"labels outside 0 to {num_classes - 1}: {listed}{', ...' if len(wrong) > 8 else ''}"
        raise VolumeError(reason, path=path, hint="Remap them, raise the number of classes, or name an ignore_index")


def check_not_scan(labels: npt.NDArray[np.int32], channel: npt.NDArray[np.float32], path: Path | None) -> None:
    """Labels that equal a channel of the scan voxel by voxel are that scan, packed anew.

    Raises:
        VolumeError: they do.
    """
    if labels.any() and np.array_equal(labels, channel):
        raise VolumeError("the label holds the very voxels of its scan", path=path, hint="Name the label file")


def constant_note(channels: Sequence[str]) -> list[str]:
    """The warning for channels whose voxels are all equal."""
    return [f"channel {', '.join(channels)} is constant: nothing can be seen in it"] if channels else []


def _check_fractions(array: npt.NDArray[Any], rounded: npt.NDArray[Any], path: Path | None) -> None:
    off = np.abs(array - rounded) > ROUND_TOLERANCE
    if not off.any():
        return
    values = np.unique(array[off])
    if len(values) > _MANY_FRACTIONS:
        reason = f"looks interpolated: {len(values)} different fractional labels in {int(off.sum())} voxels"
        raise VolumeError(reason, path=path, hint="Resample labels with nearest neighbour, never linearly")
    listed = ", ".join(f"{value:.4g}" for value in values[:8].tolist())
    raise VolumeError(f"labels must be whole numbers, got {listed}", path=path, hint="Round them on purpose first")


def check_scaled_range(array: npt.NDArray[Any], slope: float, path: Path | None) -> list[str]:
    """A scaling that blows intensities up is a damaged header.

    Raises:
        VolumeError: the values span more than 1e9.
    """
    span = float(array.max()) - float(array.min())
    if span > SCALED_LIMIT:
        raise VolumeError(f"the slope {slope:g} spreads intensities over {span:.3g}", path=path, hint="Check scl_slope")
    return [f"the slope {slope:g} spreads intensities over {span:.3g}"] if span > SCALED_WARN else []
