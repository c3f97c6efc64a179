"""What a scan may be given as, and which reader takes it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import nibabel as nib

from ..errors import VolumeError
from .arrays import (
    ArrayWithAffine,
    MetaTensorLike,
    file_of,
    is_array,
    is_array_with_affine,
    read_array,
    read_meta_tensor,
)
from .dicom import CHOICE, read_series, split_series
from .dicom_slices import is_dicom
from .itk import ITK_FORMATS, read_itk
from .nifti import read_image, read_nifti
from .stored import Stored
from .stream import require_regular

#: One scan, or one channel of it:
#:
#: - a path: NIfTI (``.nii``, ``.nii.gz``, either half of a pair), NRRD (``.nrrd``, ``.nhdr``), MetaImage (``.mha``,
#:   ``.mhd``), a folder with one series of DICOM files, or ``FOLDER#UID`` for one of several series in it;
#: - an image of nibabel;
#: - a tuple ``(array, affine)``: numpy or torch, (I, J, K) or (C, I, J, K), with the RAS+ affine in millimetres;
#: - a MetaTensor of MONAI, (C, I, J, K) or (I, J, K).
OneSource: TypeAlias = "str | os.PathLike[str] | nib.spatialimages.SpatialImage | ArrayWithAffine | MetaTensorLike"

#: One scan as `OneSource` says, or a list of them: the channels of one case. A tuple is a list too, unless its first
#: entry is an array: ``(array, affine)`` is one scan, ``[(array, affine), (array, affine)]`` are two channels.
Source: TypeAlias = "OneSource | Sequence[OneSource]"

_NAME_END = re.compile(r"\.(nii|hdr|img)(\.gz)?$|(\.seg)?\.nrrd$|\.(nhdr|mha|mhd)$", re.IGNORECASE)


def channel_sources(source: Source) -> list[OneSource]:
    """The sources of one case: one, or one per channel.

    Raises:
        VolumeError: an empty list.
    """
    if isinstance(source, str) or is_array_with_affine(source) or not isinstance(source, Sequence):
        return [source]  # type: ignore[list-item]
    if not source:
        raise VolumeError("an empty list of channel files", hint="Give at least one scan")
    return list(source)


def read_source(source: OneSource) -> Stored:
    """Read one scan, of whatever kind, through the gate.

    Raises:
        VolumeError: no kind of scan, or one that was refused.
        ResourceError: it needs more memory than there is.
        MissingExtraError: its format needs an extra that is not installed.
    """
    if isinstance(source, nib.spatialimages.SpatialImage):
        return read_image(source)
    if is_array_with_affine(source):
        return read_array(source)  # type: ignore[arg-type]
    if isinstance(source, MetaTensorLike):
        return read_meta_tensor(source)
    try:
        path = Path(source)  # type: ignore[arg-type]
    except TypeError:
        raise _no_source(source) from None
    return _read_path(path)


def case_name(source: Source) -> str:
    """The name of a case: the file name without its suffixes; of a list, without nnU-Net's ``_0000`` too.

    A DICOM series is named by its folder, with its UID where one is named; what is only in memory is ``case``.

    >>> case_name("a/scan.v2.NII.GZ"), case_name(["BRATS_001_0000.nii.gz", "BRATS_001_0001.nii.gz"])
    ('scan.v2', 'BRATS_001')
    >>> case_name("a/b.nrrd"), case_name("ct/anna#1.2.3")
    ('b', 'anna_1.2.3')
    """
    sources = channel_sources(source) if source != [] else ["case"]
    name = _one_name(sources[0])
    listed = isinstance(source, Sequence) and not isinstance(source, str) and not is_array_with_affine(source)
    return re.sub(r"_\d{4}$", "", name) if listed else name


def _one_name(source: OneSource) -> str:
    path = _path_of(source)
    if not path:
        return "case"
    name = Path(path).name or Path(path).resolve().name
    return _NAME_END.sub("", name) if _NAME_END.search(name) else name.replace(CHOICE, "_")


def _path_of(source: OneSource) -> str | os.PathLike[str] | None:
    """The file or folder behind a source, if there is one."""
    if isinstance(source, nib.spatialimages.SpatialImage):
        return source.get_filename()
    if isinstance(source, MetaTensorLike):
        return file_of(source)
    return None if isinstance(source, tuple) else source


def _read_path(path: Path) -> Stored:
    found = split_series(path)
    if found:
        return read_series(path, *found)
    if path.suffix.lower() in ITK_FORMATS:
        return read_itk(path)
    if not _NAME_END.search(path.name):
        require_regular(path)
        if is_dicom(path):
            hint = f"Give its folder, {path.parent}"
            raise VolumeError("is one file of a DICOM series, not a scan", path=path, hint=hint)
    return read_nifti(path)


def _no_source(source: object) -> VolumeError:
    if is_array(source):
        return VolumeError("an array alone says not where its voxels lie", hint="Give a tuple of it and its affine")
    return VolumeError(f"a scan is a path or a nibabel image, got {type(source).__name__}")
