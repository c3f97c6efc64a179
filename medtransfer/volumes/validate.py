"""The one gate in front of every scan: what would lead to a plausible but wrong result is refused here.

A check raises, or returns warnings. They run in the order in which a file is read, so that nothing is allocated on the
word of a header that makes no sense.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from ..errors import VolumeError
from .grid import Grid, corner_displacement
from .header import Header
from .memory import require_memory, size_text

GZIP_RATIO = 1100  # deflate cannot do better than 1032 : 1
SPACING_MM = (0.005, 500.0)
FARTHEST_MM = 1e6  # of the origin
MAX_SHEAR = 0.01  # cosine between two axes
SAME_VOXELS, NEAR_VOXELS = 0.05, 0.5  # corners closer than this are the same grid / a warning
SCALED_WARN, SCALED_LIMIT = 1e6, 1e9
ROUND_TOLERANCE = 1e-3
_MANY_FRACTIONS = 20
_LINE_ENDS = ((13, 10, 26, 10), (0, 0, 0, 0))
_LAST_CODE = 5  # of sform and qform: template space
_OTHER_TYPES = {
    0: "of no type (datatype 0)",
    1: "bool (single bits)",
    128: "RGB colour",
    2304: "RGBA colour",
    32: "complex64",
    1536: "float128",
    1792: "complex128",
    2048: "complex256",
}


def check_header(header: Header, path: Path | None) -> list[str]:
    """Dimensions, type, offset, scaling and geometry of a header, before any voxel is read.

    Raises:
        VolumeError: a claim that cannot be true or cannot be used.
    """
    _check_line_ends(header, path)
    _check_dimensions(header, path)
    _check_type(header, path)
    _check_offset(header, path)
    return [*_check_scaling(header, path), *_check_geometry(header, path)]


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
        raise ends_early(size, claimed, size <= offset, path)


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
        hint = "Resample one onto the other first"
        raise VolumeError(f"{names[1]} has shape {b.shape}, {names[0]} has {a.shape}", path=path, hint=hint)
    moved = corner_displacement(a, b)
    if moved > NEAR_VOXELS:
        reason = f"{names[1]} lies up to {moved:.3g} voxels off {names[0]} ({b.orientation} and {a.orientation})"
        raise VolumeError(reason, path=path, hint="Their affines must agree; resample one onto the other")
    return [f"{names[1]} lies up to {moved:.2g} voxels off {names[0]}"] if moved > SAME_VOXELS else []


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


def _check_dimensions(header: Header, path: Path | None) -> None:
    if not 1 <= header.ndim <= 7:
        raise VolumeError(f"the header claims {header.ndim} dimensions, NIfTI has 1 to 7", path=path)
    if min(header.shape) < 1:
        raise VolumeError(f"an axis of size {min(header.shape)} in shape {header.shape}", path=path)
    if len(header.shape) < 3:
        hint = "Give a volume with three axes; stack the slices of a series into one file"
        raise VolumeError(f"is {len(header.shape)}-D, shape {header.shape}", path=path, hint=hint)


def _check_type(header: Header, path: Path | None) -> None:
    dtype, code = header.dtype, int(header.nifti["datatype"])
    if dtype is None:
        name = _OTHER_TYPES.get(code, f"of the unknown datatype {code}")
    elif dtype.kind not in "iuf" or dtype.itemsize > 8:
        name = "RGB colour" if dtype.kind == "V" else str(dtype)
    else:
        return
    raise VolumeError(f"voxels are {name}, not plain numbers of up to 64 bits", path=path, hint="Convert the scan")


def _check_offset(header: Header, path: Path | None) -> None:
    offset = header.offset
    if not np.isfinite(offset) or offset < (0 if header.pair else len(header.nifti.binaryblock)):
        raise VolumeError(f"the header puts the voxels at byte {offset:g}", path=path)


def _check_line_ends(header: Header, path: Path | None) -> None:
    """NIfTI-2 holds the bytes that a transfer as text would change."""
    if isinstance(header.nifti, nib.Nifti2Header) and tuple(header.nifti["eol_check"]) not in _LINE_ENDS:
        hint = "Copy it again, in binary mode"
        raise VolumeError("its line ends were changed, so its voxels may be too", path=path, hint=hint)


def _check_scaling(header: Header, path: Path | None) -> list[str]:
    slope, inter = float(header.nifti["scl_slope"]), float(header.nifti["scl_inter"])
    if slope == 0 or np.isnan(slope):
        # NIfTI: slope 0 means that the stored numbers are the values
        return [f"scl_slope is {slope:g}: the stored numbers are taken as they are"]
    if not (np.isfinite(slope) and np.isfinite(inter)):
        raise VolumeError(f"the intensity scaling is {slope:g} * x + {inter:g}", path=path)
    return []


def check_scaled_range(array: npt.NDArray[Any], slope: float, path: Path | None) -> list[str]:
    """A scaling that blows intensities up is a damaged header.

    Raises:
        VolumeError: the values span more than 1e9.
    """
    span = float(array.max()) - float(array.min())
    if span > SCALED_LIMIT:
        raise VolumeError(f"the slope {slope:g} spreads intensities over {span:.3g}", path=path, hint="Check scl_slope")
    return [f"the slope {slope:g} spreads intensities over {span:.3g}"] if span > SCALED_WARN else []


@np.errstate(over="ignore", invalid="ignore")  # damaged headers hold numbers like 1e300
def _check_geometry(header: Header, path: Path | None) -> list[str]:
    for name in ("sform_code", "qform_code"):
        if not 0 <= header.nifti[name] <= _LAST_CODE:
            reason = f"{name} is {int(header.nifti[name])}, NIfTI has 0 to {_LAST_CODE}"
            raise VolumeError(reason, path=path, hint="Re-export the scan")
    affine = header.affine_mm
    if not np.isfinite(affine).all():
        raise VolumeError("the affine has NaN or infinite entries", path=path, hint="Re-export the scan")
    if np.abs(affine).max() > FARTHEST_MM:
        reason = f"the affine has entries of {np.abs(affine).max():.3g} mm"
        raise VolumeError(reason, path=path, hint="Re-export the scan")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if (spacing == 0).any():
        raise VolumeError("the affine has a zero column, a flat axis", path=path, hint="Re-export the scan")
    low, high = SPACING_MM
    if spacing.min() < low or spacing.max() > high:
        listed = " x ".join(f"{value:.3g}" for value in spacing)
        hint = "If the numbers are metres or micrometres, set xyzt_units to say so"
        raise VolumeError(f"spacing {listed} mm, outside {low} to {high:g} mm", path=path, hint=hint)
    _check_axes(affine[:3, :3] / spacing, path)
    _check_pixdim(header, path)
    return _orientation_warnings(header)


def _check_pixdim(header: Header, path: Path | None) -> None:
    pixdim = np.asarray(header.nifti["pixdim"][1:4], dtype=np.float64)
    if not (np.isfinite(pixdim).all() and (pixdim > 0).all()):
        listed = ", ".join(f"{value:g}" for value in pixdim)
        raise VolumeError(f"pixdim must be positive, got {listed}", path=path, hint="Re-export the scan")


def _check_axes(directions: npt.NDArray[np.float64], path: Path | None) -> None:
    if abs(np.linalg.det(directions)) < 1e-3:
        raise VolumeError("the affine is singular: two axes run the same way", path=path, hint="Re-export the scan")
    cosines = directions.T @ directions
    shear = float(np.abs(cosines - np.diag(np.diag(cosines))).max())
    if shear > MAX_SHEAR:
        reason = f"the affine is sheared (axes {np.degrees(np.arccos(shear)):.1f} degrees apart, not 90)"
        raise VolumeError(reason, path=path, hint="Resample the scan onto a rectangular grid first")


def _orientation_warnings(header: Header) -> list[str]:
    nifti = header.nifti
    if not header.has_orientation:
        return ["no orientation stored (sform and qform codes are 0): axes taken as LAS, left and right may be swapped"]
    if not (nifti["sform_code"] > 0 and nifti["qform_code"] > 0):
        return []
    try:
        qform = np.asarray(nifti.get_qform(), dtype=np.float64)
    except (ValueError, nib.spatialimages.HeaderDataError):
        return ["the qform is damaged; the sform is used"]
    shape = header.shape[:3]
    moved = corner_displacement(Grid(shape, header.affine), Grid(shape, qform))  # type: ignore[arg-type]
    return [f"sform and qform lie up to {moved:.2g} voxels apart; the sform is used"] if moved > 0.1 else []
