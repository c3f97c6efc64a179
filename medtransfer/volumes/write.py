"""Masks and maps as NIfTI on a scan's own grid: smallest type, only geometry inherited, read back before they count."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeAlias

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip

from ..errors import ResourceError, UsageError, VolumeError
from ..files import atomic_file
from .grid import Grid
from .header import Header, geometry_header, header_of_image
from .read import Labels, Volume
from .sources import read_source

#: What says on which grid something lies that is written.
Reference: TypeAlias = Volume | Labels | Grid
_LABEL_TYPES = (np.uint8, np.uint16, np.int32)
_SUFFIXES = (".nii", ".nii.gz")


def labels_image(array: npt.NDArray[Any], reference: Reference) -> nib.Nifti1Image:
    """Labels (I, J, K) as a nibabel image on the reference's grid, affine equal bit for bit.

    Raises:
        VolumeError: another shape than the reference, or numbers that are not whole or beyond 32 bits.

    >>> grid = Grid((2, 3, 4), np.diag([1.0, 2.0, 3.0, 1.0]))
    >>> labels_image(np.full((2, 3, 4), 300), grid).get_data_dtype()
    dtype('<u2')
    """
    return _image(smallest_labels(array), reference)


def write_labels(
    array: npt.NDArray[Any], reference: Reference, path: str | os.PathLike[str], overwrite: bool = False
) -> Path:
    """Write labels (I, J, K) to ``.nii`` or ``.nii.gz`` on the reference's grid; atomic, read back before the rename.

    Raises:
        VolumeError: see `labels_image`.
        OutputExistsError: the output exists and ``overwrite`` is false.
        ResourceError: the disk is full, the folder cannot be written, or the file did not read back equal.
    """
    target = _checked_name(path)
    image = labels_image(array, reference)
    with atomic_file(target, overwrite) as part:
        _write_bytes(image, part)
        _read_back(part, image, target)
    return target


def write_image(
    array: npt.NDArray[Any], reference: Reference, path: str | os.PathLike[str], overwrite: bool = False
) -> Path:
    """Write values (I, J, K), or (C, I, J, K) with the channels as the file's fourth axis, as float32.

    Raises:
        OutputExistsError: the output exists and ``overwrite`` is false.
        ResourceError: the disk is full or the folder cannot be written.
    """
    target = _checked_name(path)
    values = np.asarray(array, dtype=np.float32)
    image = _image(np.moveaxis(values, 0, 3) if values.ndim == 4 else values, reference)
    with atomic_file(target, overwrite) as part:
        _write_bytes(image, part)
    return target


def _image(array: npt.NDArray[Any], reference: Reference) -> nib.Nifti1Image:
    source = _header_of(reference)
    if array.shape[:3] != source.shape[:3]:
        raise VolumeError(f"the array has shape {array.shape}, its reference grid {source.shape[:3]}")
    header = geometry_header(source, array.shape, array.dtype)
    header["scl_slope"], header["scl_inter"] = 1, 0
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    return kind(array, source.affine, header)


def _header_of(reference: Reference) -> Header:
    if not isinstance(reference, Grid):
        return reference.header
    blank = nib.Nifti1Image(np.broadcast_to(np.uint8(0), reference.shape), reference.affine)
    return header_of_image(blank)


def smallest_labels(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Labels in the smallest type that holds them: uint8, uint16 or int32.

    Raises:
        VolumeError: numbers that are not whole or beyond 32 bits.
    """
    values = np.asarray(array)
    if values.dtype.kind not in "iub":
        raise VolumeError(f"labels must be whole numbers, got {values.dtype}")
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for dtype in _LABEL_TYPES:
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return values.astype(dtype, order="F")  # as it lies in the file
    raise VolumeError(f"labels run from {low} to {high}, beyond 32 bits")


def _checked_name(path: str | os.PathLike[str]) -> Path:
    target = Path(path)
    if not target.name.lower().endswith(_SUFFIXES):
        raise UsageError(f"the name must end in {' or '.join(_SUFFIXES)}", path=target)
    return target


def _write_bytes(image: nib.Nifti1Image, path: Path) -> None:
    header = image.header.copy()
    header["scl_slope"], header["scl_inter"] = 1, 0
    array = np.asanyarray(image.dataobj)
    write_planes(header, (array[..., index] for index in range(array.shape[-1])), path)


def write_planes(header: nib.Nifti1Header, planes: Iterable[npt.NDArray[Any]], path: Path) -> None:
    """Header, no extensions, and voxels in parts along the slowest axis.

    Written here since nibabel would scale again and chooses by suffix. Equal content gives equal files.
    """
    header["vox_offset"] = len(header.binaryblock) + 4
    with _open_for_writing(path) as file:
        file.write(header.binaryblock + bytes(4))
        for plane in planes:
            file.write(plane.tobytes(order="F"))


@contextmanager
def _open_for_writing(path: Path) -> Iterator[IO[bytes]]:
    with path.open("wb") as raw:
        if not path.name.lower().endswith(".gz"):
            yield raw
            return
        # no name and no time inside: equal masks are equal files
        with igzip.IGzipFile(filename="", mode="wb", compresslevel=2, fileobj=raw, mtime=0) as packed:
            yield packed  # type: ignore[misc]


def _read_back(part: Path, image: nib.Nifti1Image, path: Path) -> None:
    stored = header_of_image(image).nifti.get_best_affine()
    check_reads_back(part, np.asanyarray(image.dataobj), stored, path, tolerance=0)


def check_reads_back(
    part: Path, labels: npt.NDArray[Any], affine: npt.NDArray[np.float64], path: Path, tolerance: float
) -> None:
    """Compare a mask that was just written with what was to be written.

    Args:
        part: Where it stands for now.
        labels: (I, J, K).
        affine: 4 x 4, as the file should hold it.
        path: Where the mask will stand, for the message.
        tolerance: Of the affine's entries.

    Raises:
        ResourceError: they differ, or it cannot be read.
    """
    try:
        written = read_source(part)
    except VolumeError as error:
        raise ResourceError(f"did not read back: {error.reason}", path=path) from error
    same = np.allclose(written.header.affine, affine, rtol=0, atol=tolerance)
    if not (np.array_equal(written.array, labels) and same):
        raise ResourceError("did not read back equal to what was written", path=path, hint="Check the disk")
