"""The text header of MetaImage files (ITK's documentation of MetaIO)."""

from __future__ import annotations

import re
from pathlib import Path

from .text_header import Fields, TextHeader, first_bytes, not_one, split_lines

_TYPES = {
    "met_char": "i1",
    "met_uchar": "u1",
    "met_short": "i2",
    "met_ushort": "u2",
    "met_int": "i4",
    "met_uint": "u4",
    "met_long": "i4",  # of 32 bits wherever it was written
    "met_ulong": "u4",
    "met_long_long": "i8",
    "met_ulong_long": "u8",
    "met_float": "f4",
    "met_double": "f8",
}
_BIG_ENDIAN = ("binarydatabyteordermsb", "elementbyteordermsb")
_MATRICES = {"transformmatrix", "orientation", "rotation"}
_VECTORS = {"offset", "origin", "position", "elementspacing", "elementsize"}
_LINE = re.compile(r"\s*(?P<key>[^\s=:]+)\s*[=:]\s*(?P<value>.*)")
_END = re.compile(rb"^\s*ElementDataFile\b[^\n]*(\n|\Z)", re.MULTILINE)


def read_metaimage_header(path: Path) -> TextHeader:
    """Read the header of an ``.mha`` or ``.mhd``.

    Raises:
        VolumeError: it is none, contradicts itself, or asks for something that is not read.
    """
    block = first_bytes(path)
    if not re.match(rb"\s*(ObjectType|NDims|Comment)\s*=", block):
        raise not_one(path, "a MetaImage file: it does not begin with ObjectType")
    end = _END.search(block)
    if end is None:
        raise not_one(path, "a whole MetaImage file: its header names no ElementDataFile")
    fields = Fields(path, split_lines(block[: end.end()]), _LINE)
    sizes = fields.sizes("dimsize", "ndims")
    _check_numbers(fields, len(sizes))
    if not fields.flag("binarydata"):
        raise fields.error("its voxels are text", "Save it again as binary data")
    channels = fields.whole("elementnumberofchannels", 1)
    named, packed = fields.text("elementdatafile"), fields.flag("compresseddata")
    local = named.upper() == "LOCAL"
    skip = _skip(fields, plain_file=not (local or packed))
    return TextHeader(
        path=path,
        sizes=(channels, *sizes) if channels > 1 else sizes,
        dtype=fields.dtype(_TYPES, "elementtype", any(map(fields.flag, _BIG_ENDIAN))),
        channel_axis=0 if channels > 1 else None,
        data=path if local else fields.data_file(named),
        start=end.end() if local else max(0, skip),
        at_end=skip < 0,
        skip=0,
        packing="deflate" if packed else "none",
        oriented=bool(_MATRICES & fields.values.keys()),
    )


def _skip(fields: Fields, plain_file: bool) -> int:
    """Bytes before the voxels; -1 if the voxels are the last bytes of the file."""
    skip = fields.whole("headersize", 0)
    if skip < -1 or (skip and not plain_file):
        raise fields.error(f"cannot skip {skip} bytes")
    return skip


def _check_numbers(fields: Fields, count: int) -> None:
    """ITK takes what is no number as 0."""
    for key in sorted((_MATRICES | _VECTORS) & fields.values.keys()):
        words = fields.text(key).split()
        if len(words) != (count * count if key in _MATRICES else count) or not all(map(_is_number, words)):
            raise fields.error(f"{key!r} does not fit {count} axes: {fields.text(key)[:60]!r}")


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
