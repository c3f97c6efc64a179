"""NIfTI-1 and NIfTI-2, packed or not, in one file or a pair; and nibabel's images in memory."""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np

from ..errors import VolumeError
from . import validate
from .header import Header, header_of_image, parse_header
from .memory import require_memory
from .stored import Stored, read_voxels
from .stream import ByteSource, open_scan

_PARTNER = re.compile(r"\.(hdr|img)(\.gz)?$", re.IGNORECASE)


def read_nifti(path: Path) -> Stored:
    """Read a file, or a pair of which either half is named.

    Raises:
        VolumeError: it is no NIfTI file, or was refused by the gate.
        ResourceError: it needs more memory than there is.
    """
    header_path = _header_path(path)
    with open_scan(header_path) as source:
        header = _read_header(source)
        warnings = validate.check_header(header, path) + _name_notes(source)
        if not header.pair:
            _check_extensions(source, header)
            return _stored(source, header, warnings)
    with open_scan(_partner(header_path, "img")) as source:
        return _stored(source, header, warnings)


def read_image(image: nib.spatialimages.SpatialImage) -> Stored:
    """Read an image of nibabel, of any of its formats.

    Raises:
        VolumeError: it was refused by the gate, or its file is damaged.
        ResourceError: it needs more memory than there is.
    """
    name = image.get_filename()
    path = Path(name) if name else None
    header = header_of_image(image)
    warnings = validate.check_header(header, path)
    require_memory(2 * header.data_bytes, f"a volume of shape {header.shape}", path)
    try:
        array = np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise VolumeError(f"its voxels cannot be read: {error}", path=path) from error
    return Stored(array, header, path, warnings)


def _read_header(source: ByteSource) -> Header:
    block = source.read(348)
    if block[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c"):  # 540: NIfTI-2
        block += source.read(540 - 348)
    return parse_header(block, source.path)


def _check_extensions(source: ByteSource, header: Header) -> None:
    """The blocks between header and voxels are passed over, but they must be as long as they say."""
    order: Literal["little", "big"] = "little" if header.nifti.endianness == "<" else "big"
    if not any(source.read(4)[:1]):  # the first byte says whether there are any
        return
    while source.position + 8 <= header.offset and len(block := source.read(4)) == 4:
        size, room = int.from_bytes(block, order, signed=True), int(header.offset) - source.position + 4
        if size == 0:  # padding
            return
        if not 8 <= size <= room:
            reason = f"an extension of the header claims {size} bytes, {room} are left before the voxels"
            raise VolumeError(reason, path=source.path, hint="Copy it again, or write it anew with another program")
        source.skip(size - 4)


def _stored(source: ByteSource, header: Header, warnings: list[str]) -> Stored:
    array, notes = read_voxels(source, header)
    slope, inter = float(header.nifti["scl_slope"]), float(header.nifti["scl_inter"])
    if slope == 0 or np.isnan(slope):
        slope, inter = 1.0, 0.0
    return Stored(array, header, source.path, warnings + notes, slope, inter)


def _header_path(path: Path) -> Path:
    found = _PARTNER.search(path.name)
    return _partner(path, "hdr") if found and found[1].lower() == "img" else path


def _partner(path: Path, kind: str) -> Path:
    """The other file of a ``.hdr``/``.img`` pair, in the case of letters and compression that exists."""
    stem = _PARTNER.sub("", path.name)
    names = [f"{stem}.{form}{end}" for end in ("", ".gz") for form in (kind, kind.upper())]
    found = [path.with_name(name) for name in names if os.path.lexists(path.with_name(name))]
    if not found:
        what = "voxels are" if kind == "img" else "header is"
        reason = f"the {what} missing: there is no {stem}.{kind} beside it"
        raise VolumeError(reason, path=path, hint="Copy both files of the pair")
    return found[0]


def _name_notes(source: ByteSource) -> list[str]:
    named = source.path.name.lower().endswith(".gz")
    if named == source.packed:
        return []
    return [f"the content is {'' if source.packed else 'not '}gzip although the name says otherwise: read by content"]
