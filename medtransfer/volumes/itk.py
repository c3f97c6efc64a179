"""NRRD and MetaImage scans: ITK says where their voxels lie, their bytes pass the same gate as NIfTI's.

ITK itself takes a MetaImage whose packed voxels are damaged, and does not compare NRRD's checksum.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import VolumeError
from . import validate
from .extras import itk_reason, quiet_itk
from .grid import LPS_TO_RAS
from .header import Header, header_of_affine
from .metaimage_header import read_metaimage_header
from .nrrd_header import read_nrrd_header
from .stored import Stored, read_voxels
from .stream import open_scan
from .text_header import TextHeader

#: Ending to the reader of its text header, and the part of ITK that knows its geometry.
ITK_FORMATS = {
    ".nrrd": (read_nrrd_header, "NrrdImageIO"),
    ".nhdr": (read_nrrd_header, "NrrdImageIO"),
    ".mha": (read_metaimage_header, "MetaImageIO"),
    ".mhd": (read_metaimage_header, "MetaImageIO"),
}
_NO_ORIENTATION = "no orientation stored: axes taken as LPS, left and right may be swapped"


def read_itk(path: Path) -> Stored:
    """Read an ``.nrrd``, ``.nhdr``, ``.mha`` or ``.mhd``.

    Raises:
        VolumeError: it is none, or was refused by the gate.
        ResourceError: it needs more memory than there is.
        MissingExtraError: SimpleITK is not installed.
    """
    read_header, reader_name = ITK_FORMATS[path.suffix.lower()]
    claims = read_header(path)
    geometry = _geometry(path, reader_name, claims)
    sizes = [size for axis, size in enumerate(claims.sizes) if axis != claims.channel_axis]
    channels = [] if claims.channel_axis is None else [claims.sizes[claims.channel_axis]]
    header = header_of_affine((*sizes, *channels), claims.dtype, geometry, code="scanner", unit=claims.unit)
    warnings = validate.check_header(header, path)
    header.nifti["vox_offset"] = claims.skip
    array, notes = _read_array(claims, header)
    if claims.channel_axis is not None:
        array = np.moveaxis(array, claims.channel_axis, -1)
    return Stored(array, header, path, [*warnings, *notes, *([] if claims.oriented else [_NO_ORIENTATION])])


def _read_array(claims: TextHeader, header: Header) -> tuple[npt.NDArray[Any], list[str]]:
    """The voxels, axes as in the file."""
    with open_scan(claims.data, claims.first_byte, claims.packing) as source:
        array, notes = read_voxels(source, header)
    return array.ravel(order="F").reshape(claims.sizes, order="F"), notes


def _geometry(path: Path, reader_name: str, claims: TextHeader) -> npt.NDArray[np.float64]:
    """The affine, RAS+, as ITK reads it; ITK must also see the very image that the header was taken to claim."""
    with quiet_itk(path) as sitk:
        reader = sitk.ImageFileReader()
        reader.SetImageIO(reader_name)
        reader.SetFileName(str(path))
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise VolumeError(f"ITK cannot read it: {itk_reason(error)}", path=path) from error
        channels = reader.GetNumberOfComponents()
        seen = sorted([*reader.GetSize(), *([channels] if channels > 1 else [])])
        if [size for size in seen if size > 1] != sorted(size for size in claims.sizes if size > 1):
            reason = f"ITK reads the sizes {list(reader.GetSize())} with {channels} channels, its header says "
            raise VolumeError(reason + f"{list(claims.sizes)}", path=path)
        if min(reader.GetSpacing()[:3]) < 0:
            raise VolumeError(f"spacing must be positive, got {reader.GetSpacing()[:3]}", path=path)
        return affine_of_itk(reader)


def affine_of_itk(image: Any) -> npt.NDArray[np.float64]:
    """The RAS+ affine of an image or reader of SimpleITK, whose world axes are LPS+; the first three axes of more."""
    count = image.GetDimension()
    if count < 3:
        return np.eye(4)  # the gate refuses a picture by its shape
    direction = np.reshape(image.GetDirection(), (count, count))[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = direction * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return LPS_TO_RAS @ affine + 0.0  # no negative zeros
