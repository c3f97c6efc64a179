"""Scans and label volumes of every kind that `sources` names, through the gate of `validate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import VolumeError
from . import validate
from .grid import Grid
from .header import Header
from .sources import OneSource, Source, case_name, channel_sources, read_source
from .stored import Stored

__all__ = ["Labels", "OneSource", "Source", "Volume", "case_name", "read_labels", "read_volume"]


@dataclass
class Volume:
    """A scan whose claims were checked.

    Attributes:
        array: (C, I, J, K) float32, axes as stored; in memory as in the file, so not C-contiguous.
        grid: Where the voxels lie, in millimetres.
        header: What was stored, for writing a mask on the very same grid.
        paths: The files or series folders, one per channel file; empty for what is in memory.
        warnings: What the gate let pass, but the user should know.
    """

    array: npt.NDArray[np.float32]
    grid: Grid
    header: Header
    paths: tuple[Path, ...] = ()
    warnings: list[str] = field(default_factory=list)

    @property
    def path(self) -> Path | None:
        """The first file."""
        return self.paths[0] if self.paths else None

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """The affine as stored, in the file's own unit."""
        return self.header.affine


@dataclass
class Labels:
    """A label volume: ``array`` is (I, J, K) int32, the rest as in `Volume`."""

    array: npt.NDArray[np.int32]
    grid: Grid
    header: Header
    path: Path | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """The affine as stored, in the file's own unit."""
        return self.header.affine


def read_volume(
    source: Source, channels: int | Sequence[str] | None = None, nan: float | None = None, volume: int | None = None
) -> Volume:
    """Read a scan.

    Args:
        source: A path (NIfTI, NRRD, MetaImage, a folder with a DICOM series, or ``FOLDER#UID``), a nibabel image, a
            tuple ``(array, affine)``, a MetaTensor, or a list of them: the channels of one case, on one grid.
        channels: How many channels there must be, or their names; a 4-D file is read only if its fourth axis fits.
        nan: Value for NaN and infinite voxels, which are refused otherwise.
        volume: Which volume of a 4-D file to take.

    Raises:
        VolumeError: the scan was refused; the reason says why and the hint what to do.
        ResourceError: it needs more memory than there is.
        MissingExtraError: its format needs an extra that is not installed.

    >>> import nibabel as nib
    >>> image = nib.Nifti1Image(np.ones((4, 5, 6), np.float32), np.diag([2, 2, 3, 1]))
    >>> scan = read_volume(image)
    >>> scan.array.shape, scan.grid.spacing
    ((1, 4, 5, 6), (2.0, 2.0, 3.0))
    """
    sources = channel_sources(source)
    wanted = channels if channels is None or isinstance(channels, int) else len(channels)
    stored = [read_source(one) for one in sources]
    arrays = [_channels(one, 1 if len(sources) > 1 else wanted, nan, volume) for one in stored]
    warnings = [*dict.fromkeys(text for one in stored for text in one.warnings), *_check_channel_grids(stored)]
    array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    _check_count(len(array), channels, stored[0].path)
    paths = tuple(one.path for one in stored if one.path is not None)
    return Volume(array, stored[0].grid, stored[0].header, paths, warnings + _repeated(paths))


def read_labels(
    source: OneSource, grid: Grid | None = None, num_classes: int | None = None, ignore_index: int | None = None
) -> Labels:
    """Read a label volume as whole numbers.

    Args:
        source: One scan's worth of any kind that `read_volume` takes.
        grid: The scan's grid, which the labels must lie on.
        num_classes: Labels must be 0 to ``num_classes - 1``.
        ignore_index: A further label that is allowed.

    Raises:
        VolumeError: fractions, foreign values, another grid, or anything that a scan is refused for.

    >>> import nibabel as nib
    >>> read_labels(nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.eye(4)), num_classes=2).array.max()
    np.int32(1)
    """
    stored = read_source(source)
    if len(_squeezed(stored).shape) > 3:
        hint = "Give one volume of class numbers; take the argmax of a one-hot file"
        raise VolumeError(f"labels of shape {stored.header.shape}, not three axes", path=stored.path, hint=hint)
    array = _squeezed(stored)
    if (stored.slope, stored.inter) != (1.0, 0.0):
        array = array.astype(np.float64) * stored.slope + stored.inter
    labels, notes = validate.whole_labels(array, stored.path)
    if grid is not None:
        notes += validate.check_grids(grid, stored.grid, ("the scan", "the label file"), stored.path)
    if num_classes is not None:
        validate.check_classes(labels, num_classes, ignore_index, stored.path)
    return Labels(labels, stored.grid, stored.header, stored.path, stored.warnings + notes)


def _squeezed(stored: Stored) -> npt.NDArray[Any]:
    """(I, J, K), or (I, J, K, C) when exactly one further axis is longer than 1."""
    extra = [size for size in stored.array.shape[3:] if size > 1]
    if len(extra) > 1:
        hint = "Split it into 3-D volumes"
        raise VolumeError(f"has {stored.array.ndim} axes, shape {stored.array.shape}", path=stored.path, hint=hint)
    return stored.array.reshape(stored.array.shape[:3] + tuple(extra), order="F")


def _channels(stored: Stored, wanted: int | None, nan: float | None, volume: int | None) -> npt.NDArray[np.float32]:
    """(C, I, J, K) float32 of one source."""
    array = _squeezed(stored)
    if array.ndim == 4 and volume is not None:
        if not 0 <= volume < array.shape[3]:
            raise VolumeError(f"there is no volume {volume} among {array.shape[3]}", path=stored.path)
        array = array[..., volume]
    if array.ndim == 4 and array.shape[3] != wanted and not stored.holds_channels:
        reason = f"holds {array.shape[3]} volumes (channels or time points), {wanted or 1} wanted"
        raise VolumeError(reason, path=stored.path, hint="Choose one of them, or split the file")
    values = _to_float(stored, array)
    values = _fill(values, nan, stored) if nan is not None else values
    validate.check_values(values, stored.path)
    if stored.slope != 1.0:
        stored.warnings += validate.check_scaled_range(values, stored.slope, stored.path)
    return values[None] if values.ndim == 3 else np.moveaxis(values, 3, 0)


def _to_float(stored: Stored, array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which the gate refuses next
        if (stored.slope, stored.inter) == (1.0, 0.0):
            return array.astype(np.float32, copy=False)
        values = np.empty(array.shape, dtype=np.float32, order="F")
        for index in range(array.shape[-1]):  # in double precision, but not all of it at once
            values[..., index] = array[..., index].astype(np.float64) * stored.slope + stored.inter
    return values


def _fill(values: npt.NDArray[np.float32], nan: float, stored: Stored) -> npt.NDArray[np.float32]:
    bad = ~np.isfinite(values)
    if not bad.any():
        return values
    stored.warnings.append(f"{int(bad.sum())} NaN or infinite voxels were set to {nan:g}")
    return np.where(bad, np.float32(nan), values)


def _check_channel_grids(stored: list[Stored]) -> list[str]:
    """All channels must lie on the grid of the first; the error lists every file with its grid."""
    try:
        named = [(one, f"channel {index} ({one.path or 'in memory'})") for index, one in enumerate(stored)]
        checks = [validate.check_grids(stored[0].grid, one.grid, (named[0][1], name), None) for one, name in named[1:]]
    except VolumeError as error:
        listed = "; ".join(f"{one.path or 'in memory'}: {one.grid}" for one in stored)
        reason = f"the channels do not lie on one grid: {error.reason}. All: {listed}"
        raise VolumeError(reason, path=stored[0].path, hint=error.hint) from error
    return [text for check in checks for text in check]


def _check_count(count: int, channels: int | Sequence[str] | None, path: Path | None) -> None:
    wanted = count if channels is None else channels if isinstance(channels, int) else len(channels)
    if count == wanted:
        return
    names = "" if channels is None or isinstance(channels, int) else f" ({', '.join(channels)})"
    reason = f"model needs {wanted} channel{'s' if wanted != 1 else ''}{names}, got {count}"
    raise VolumeError(reason, path=path, hint="Give one file per channel in that order, or a 4-D file")


def _repeated(paths: tuple[Path, ...]) -> list[str]:
    seen = {path.resolve() for path in paths}
    return ["the same file is given for two channels"] if len(seen) < len(paths) else []
