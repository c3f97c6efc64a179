"""What a NIfTI header says, as plain numbers; nothing here touches voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt

from ..errors import VolumeError

# code of xyzt_units -> millimetres; 0 is "not said", which every tool takes as millimetres
UNIT_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
# the header fields that make up the geometry, copied as they are so that a mask's affine is equal bit for bit
GEOMETRY_FIELDS = (
    *("qform_code", "sform_code", "xyzt_units"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z"),
)
NUMBER_TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_NIFTI1, _NIFTI2 = (348, slice(344, 348)), (540, slice(4, 8))
_SINGLE, _PAIR = {348: b"n+1\0", 540: b"n+2\0"}, {348: b"ni1\0", 540: b"ni2\0"}
HEADER_BYTES = 540
# offset in the file, bytes there, what it is
_OTHERS = (
    (128, b"DICM", "a DICOM file: give the folder of its series"),
    (0, b"NRRD", "an NRRD file: its name must end in .nrrd or .nhdr"),
    (0, b"ObjectType", "a MetaImage file: its name must end in .mha or .mhd"),
    (0, b"PK\x03\x04", "a zip archive: unpack it first"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"version https://git-lfs", "a git-lfs pointer: run git lfs pull"),
    (0, b"<", "a web page or XML: download failed?"),
)


@dataclass(frozen=True)
class Header:
    """The claims of a header.

    Attributes:
        nifti: nibabel's header object, fields as stored.
        shape: Sizes along all axes that it names.
        dtype: Type of the stored voxels, byte order included; None if they are not plain numbers.
        affine: 4 x 4 float64 as nibabel reports it, in the file's own unit.
        ndim: How many axes the header claims, which a damaged one may put outside 1 to 7.
        pair: Whether the voxels are in an ``.img`` beside it.
    """

    nifti: nib.Nifti1Header
    shape: tuple[int, ...]
    dtype: np.dtype | None
    affine: npt.NDArray[np.float64]
    ndim: int
    pair: bool = False

    @property
    def unit_mm(self) -> float:
        """Millimetres per unit of the affine."""
        return UNIT_MM.get(int(self.nifti["xyzt_units"]) & 7, 1.0)

    @property
    def affine_mm(self) -> npt.NDArray[np.float64]:
        """The affine with its translations and spacings in millimetres."""
        return np.diag([self.unit_mm] * 3 + [1.0]) @ self.affine if self.unit_mm != 1.0 else self.affine.copy()

    @property
    def offset(self) -> float:
        """Byte at which the voxels begin; 0 in a single file stands for the first possible one."""
        stored = float(self.nifti["vox_offset"])
        return float(len(self.nifti.binaryblock) + 4) if stored == 0 and not self.pair else stored

    @property
    def has_orientation(self) -> bool:
        """Whether either of the two affines that NIfTI knows is set."""
        return bool(self.nifti["sform_code"] > 0 or self.nifti["qform_code"] > 0)

    @property
    def data_bytes(self) -> int:
        """Bytes that the voxels take."""
        return math.prod(self.shape) * (self.dtype.itemsize if self.dtype else 1)


def parse_header(block: bytes, path: Path | None) -> Header:
    """Read the first bytes of a file as a NIfTI-1 or NIfTI-2 header of either byte order.

    Raises:
        VolumeError: they are not one; names what it looks like instead.
    """
    for length, magic_at in (_NIFTI1, _NIFTI2):
        order = _byte_order(block, length)
        magic = block[magic_at]
        if order and len(block) >= length and magic in (_SINGLE[length], _PAIR[length]):
            kind = nib.Nifti1Header if length == 348 else nib.Nifti2Header
            nifti = kind(block[:length], endianness=order, check=False)
            return _header(nifti, pair=magic == _PAIR[length])
    raise VolumeError(f"not a NIfTI file: {_looks_like(block)}", path=path, hint="Check that it was copied whole")


def _header(nifti: nib.Nifti1Header, pair: bool) -> Header:
    ndim = int(nifti["dim"][0])
    shape = tuple(int(size) for size in nifti["dim"][1 : 1 + max(0, min(ndim, 7))])
    return Header(nifti, shape, _dtype(nifti), _affine(nifti), ndim, pair)


@np.errstate(over="ignore", invalid="ignore")
def _affine(nifti: nib.Nifti1Header) -> npt.NDArray[np.float64]:
    try:
        return np.asarray(nifti.get_best_affine(), dtype=np.float64)
    except (ValueError, ArithmeticError, nib.spatialimages.HeaderDataError):
        return np.full((4, 4), np.nan)  # a broken quaternion: the gate refuses it as an affine that is not finite


def _dtype(nifti: nib.Nifti1Header) -> np.dtype | None:
    name = NUMBER_TYPES.get(int(nifti["datatype"]))
    return None if name is None else np.dtype(name).newbyteorder(nifti.endianness)


def _byte_order(block: bytes, length: int) -> str | None:
    orders = {length.to_bytes(4, "little"): "<", length.to_bytes(4, "big"): ">"}
    return orders.get(block[:4])


def _looks_like(block: bytes) -> str:
    if not block:
        return "the file is empty"
    for offset, mark, name in _OTHERS:
        if block[offset : offset + len(mark)] == mark:
            return f"looks like {name}"
    if _byte_order(block, 348) and len(block) >= 348:
        return f"its magic is {block[344:348]!r}, which should be b'n+1\\x00' (Analyze files are not read)"
    return "its first bytes are not a NIfTI header"


def header_of_image(image: nib.spatialimages.SpatialImage) -> Header:
    """The header of an image in memory, brought in line with its affine and array as nibabel does when it saves."""
    source = image.header
    shape = tuple(int(size) for size in image.shape)
    dtype = np.dtype(getattr(image.dataobj, "dtype", np.float64))
    if not isinstance(source, nib.Nifti1Header):
        return header_of_affine(shape, dtype, image.affine)
    nifti = source.copy()
    affine = image.affine
    if affine is None:
        affine = nifti.get_best_affine()
    elif not np.allclose(affine, _affine(nifti)):
        _set_affine(nifti, affine, "aligned")
    nifti["scl_slope"], nifti["scl_inter"] = 1, 0  # the array in memory is scaled already
    nifti["vox_offset"] = 0
    return Header(nifti, shape, dtype, np.asarray(affine, dtype=np.float64), len(shape))


def header_of_affine(
    shape: tuple[int, ...], dtype: np.dtype, affine: npt.NDArray[np.float64], code: str = "aligned", unit: str = "mm"
) -> Header:
    """A header for voxels that come without one, from another format or from memory.

    Args:
        shape: (I, J, K), or (I, J, K, C).
        dtype: Type of the voxels as they are stored.
        affine: 4 x 4, RAS+, in ``unit``.
        code: What the world axes are: ``scanner`` or ``aligned``.
        unit: ``mm``, ``meter`` or ``micron``.

    >>> header_of_affine((3, 4, 5), np.dtype("i2"), np.diag([2.0, 2.0, 3.0, 1.0])).data_bytes
    120
    """
    # the sizes of NIfTI-1 have 16 bits
    nifti = nib.Nifti2Header() if max(shape, default=0) > np.iinfo(np.int16).max else nib.Nifti1Header()
    _set_affine(nifti, affine, code)
    nifti.set_xyzt_units(unit)
    nifti["scl_slope"], nifti["scl_inter"] = 1, 0
    # the voxels do not follow these 348 bytes, as little as those of a pair
    return Header(nifti, shape, dtype, np.asarray(affine, dtype=np.float64), len(shape), pair=True)


@np.errstate(over="ignore", invalid="ignore")  # what does not fit 32 bits is refused by the gate
def _set_affine(nifti: nib.Nifti1Header, affine: npt.NDArray[np.float64], code: str) -> None:
    nifti.set_sform(affine, code=code)
    nifti["qform_code"] = 0
    nifti["pixdim"][1:4] = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)


def geometry_header(source: Header, shape: tuple[int, ...], dtype: np.dtype) -> nib.Nifti1Header:
    """A fresh header of ``shape`` and ``dtype`` with the geometry of ``source`` and nothing else of it.

    A NIfTI-2 source stays NIfTI-2, since its affine may not fit the 32-bit fields of NIfTI-1.
    """
    kind = nib.Nifti2Header if isinstance(source.nifti, nib.Nifti2Header) else nib.Nifti1Header
    fresh = kind()
    fresh.set_data_shape(shape)
    fresh.set_data_dtype(dtype)
    for field in GEOMETRY_FIELDS:
        fresh[field] = source.nifti[field]
    fresh["pixdim"][:4] = source.nifti["pixdim"][:4]
    return fresh
