"""What the gate asks of a header, before any voxel is read; the other half of `validate`."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt

from ..errors import VolumeError
from .grid import Grid, corner_displacement
from .header import Header

SPACING_MM = (0.005, 500.0)
FARTHEST_MM = 1e6  # of the origin
MAX_SHEAR = 0.01  # cosine between two axes
FORMS_VOXELS = 0.1  # sform and qform further apart than this are a warning
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
    return [f"sform and qform lie up to {moved:.2g} voxels apart; the sform is used"] if moved > FORMS_VOXELS else []
