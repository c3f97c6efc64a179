"""The text header of NRRD files (teem.sourceforge.net/nrrd/format.html)."""

from __future__ import annotations

import re
from pathlib import Path

from .stream import Packing
from .text_header import Fields, TextHeader, first_bytes, not_one, split_lines

_NAMES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_TYPES = {name: kind for kind, names in _NAMES.items() for name in names}
_PACKING: dict[str, Packing] = {"raw": "none", "gzip": "deflate", "gz": "deflate"}
_WORDS = ("right-anterior-superior", "left-anterior-superior", "left-posterior-superior")
_ANATOMICAL = {*_WORDS, *(f"{words}-time" for words in _WORDS), *["ras", "las", "lps", "rast", "last", "lpst"]}
_IMAGE_KINDS = ("domain", "space", "time", "none", "???")
_UNITS = {"mm": "mm", "millimeter": "mm", "m": "meter", "meter": "meter", "um": "micron", "micron": "micron"}
_LINE = re.compile(r"(?P<key>[^:=#][^:]*?): ?(?P<value>.*)")
_NO_FIELD = re.compile(r"#|[^:]*:=")  # comments, and key/value pairs of programs


def read_nrrd_header(path: Path) -> TextHeader:
    """Read the header of an ``.nrrd`` or ``.nhdr``.

    Raises:
        VolumeError: it is none, contradicts itself, or asks for something that is not read.
    """
    block = first_bytes(path)
    if not re.match(rb"NRRD000[1-5]\r?\n", block):
        raise not_one(path, "an NRRD file: it does not begin with NRRD000")
    end = re.search(rb"\r?\n\r?\n", block)
    lines = split_lines(block[: end.start()] if end else block)[1:]
    fields = Fields(path, [line for line in lines if not _NO_FIELD.match(line)], _LINE)
    sizes = fields.sizes("sizes", "dimension")
    named, packing = fields.text("datafile"), _packing(fields)
    if not named and end is None:
        raise fields.error("its header has no end, or is longer than 1 MiB", "Copy it again")
    skip = _skip(fields, packing)
    return TextHeader(
        path=path,
        sizes=sizes,
        dtype=fields.dtype(_TYPES, "type", fields.text("endian").lower() == "big"),
        channel_axis=_channel_axis(fields, len(sizes)),
        data=fields.data_file(named) if "datafile" in fields.values else path,
        start=0 if named or end is None else end.end(),
        at_end=skip < 0,
        skip=max(0, skip),
        packing=packing,
        oriented=fields.text("space").lower() in _ANATOMICAL and "spacedirections" in fields.values,
        unit=_unit(fields),
    )


def _packing(fields: Fields) -> Packing:
    encoding = fields.text("encoding").lower()
    if encoding not in _PACKING:
        reason = f"its encoding is {encoding or 'missing'!r}, only raw and gzip are read"
        raise fields.error(reason, "Save it again with gzip compression")
    return _PACKING[encoding]


def _skip(fields: Fields, packing: Packing) -> int:
    """Bytes before the voxels; -1 if the voxels are the last bytes of the file."""
    if fields.whole("lineskip", 0):
        raise fields.error("its voxels follow lines of text (line skip)")
    skip = fields.whole("byteskip", 0)
    if skip < -1 or (skip == -1 and packing != "none"):
        raise fields.error(f"cannot skip {skip} bytes")
    return skip


def _channel_axis(fields: Fields, count: int) -> int | None:
    """The axis that has no place in space or time; colours are refused as they are in NIfTI."""
    kinds = fields.text("kinds").lower().split()
    if any(kind.startswith(("rgb", "hsv", "xyz")) for kind in kinds):
        raise fields.error("voxels are RGB colour, not plain numbers of up to 64 bits", "Convert the scan")
    if kinds and len(kinds) != count:
        raise fields.error(f"its header claims {count} axes and the kinds {' '.join(kinds)}")
    found = [axis for axis, kind in enumerate(kinds) if kind not in _IMAGE_KINDS]
    if len(found) > 1:
        raise fields.error(f"two of its axes are no axes of an image ({' '.join(kinds)})", "Split it")
    return found[0] if found else None


def _unit(fields: Fields) -> str:
    named = {unit.lower() for unit in re.findall(r'"([^"]*)"', fields.text("spaceunits"))} - {"", "none", "???"}
    units = {_UNITS.get(unit, unit) for unit in named} or {"mm"}
    if len(units) > 1 or not units <= set(_UNITS.values()):
        raise fields.error(f"its space units are {', '.join(sorted(named))}, not mm, m or um")
    return units.pop()
