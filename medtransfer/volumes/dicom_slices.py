"""The tags of the DICOM files of a folder that say which slice of which series each is; no pixel is read here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import VolumeError
from .extras import require_extra

MARK = b"DICM"
MARK_AT = 128
_DIRECTORY = "1.2.840.10008.1.3.10"  # a DICOMDIR
_TAGS = (
    *("SOPClassUID", "Modality", "SeriesInstanceUID", "Rows", "Columns", "SamplesPerPixel", "NumberOfFrames"),
    *("BitsAllocated", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("SliceThickness", "SpacingBetweenSlices", "PixelData"),
)
_PIXELS = 0x7FE00010
_LONG = 4096  # bytes; a longer value, as the pixels have, is not read
_PACKED_LENGTH = 0xFFFFFFFF


@dataclass(frozen=True)
class Slice:
    """One file.

    Attributes:
        path: The file.
        kind: Name of its SOP class, such as ``CT Image Storage``.
        modality: Two letters or more, such as ``CT``.
        series: UID of its series; empty if it has none.
        syntax: Name of its transfer syntax.
        size: Columns and rows; zeros if it has none.
        position: Centre of the first pixel, LPS mm; None if it is missing or no three finite numbers.
        orientation: Direction of the rows and of the columns, six numbers; None likewise.
        spacing: Millimetres between rows and between columns; None likewise.
        thickness: Millimetres to the next slice as the file claims them; None if it does not.
        fault: Why it is no slice of an image that can be read; empty if it may be one.
    """

    path: Path
    kind: str
    modality: str
    series: str
    syntax: str
    size: tuple[int, int]
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float | None
    fault: str


def is_dicom(path: Path) -> bool:
    """Whether this is a regular file that begins as DICOM files do."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(MARK_AT + len(MARK))[MARK_AT:] == MARK
    except OSError:  # may not be read, or is a loop of links
        return False


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files directly in a folder, by name; hidden ones are passed over."""
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and is_dicom(path)]


def read_slices(folder: Path) -> list[Slice]:
    """The slices of all series in a folder, by name of their files.

    Raises:
        VolumeError: a file is damaged, or there is no DICOM file.
        MissingExtraError: pydicom is not installed.
    """
    files = dicom_files(folder)
    if files:
        require_extra("pydicom", "itk", "a series of DICOM files", folder)
    slices = [one for one in map(_read_slice, files) if one is not None]
    if not slices:
        inner = sorted(path.name for path in folder.iterdir() if path.is_dir())
        hint = f"Name a folder in it: {', '.join(inner[:5])}" if inner else "Name the file, or the series' folder"
        raise VolumeError("is a folder without DICOM files, not a scan", path=folder, hint=hint)
    return slices


def _read_slice(path: Path) -> Slice | None:
    """The tags of one file; None for a directory of files."""
    from pydicom.filereader import dcmread, read_file_meta_info

    with _readable(path):
        syntax = read_file_meta_info(path).get("TransferSyntaxUID", "")
        deflated = getattr(syntax, "is_deflated", False)  # would be unpacked whole, however far it grows
        tags = dcmread(path, specific_tags=list(_TAGS), defer_size=_LONG) if not deflated else None
    if tags is None:
        return Slice(path, "", "", "", syntax.name, (0, 0), None, None, None, None, "is deflated as a whole")
    kind = tags.get("SOPClassUID", "")
    if kind == _DIRECTORY:
        return None
    return Slice(
        path,
        getattr(kind, "name", "") or "no kind",
        str(tags.get("Modality", "") or "no modality"),
        str(tags.get("SeriesInstanceUID", "") or ""),
        getattr(syntax, "name", "") or "none named",
        (_count(tags, "Columns"), _count(tags, "Rows")),
        _numbers(tags, "ImagePositionPatient", 3),
        _numbers(tags, "ImageOrientationPatient", 6),
        _numbers(tags, "PixelSpacing", 2),
        (_numbers(tags, "SpacingBetweenSlices", 1) or _numbers(tags, "SliceThickness", 1) or (None,))[0],
        _fault(tags, path),
    )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """pydicom reads damaged files as far as it can and raises whatever comes up."""
    from pydicom import config

    try:
        with config.disable_value_validation():
            yield
    except MemoryError:
        raise
    except Exception as error:
        reason = f"its DICOM tags cannot be read: {' '.join(str(error).split())[:200] or type(error).__name__}"
        raise VolumeError(reason, path=path, hint="Copy it again") from error


def _fault(tags: Any, path: Path) -> str:
    """Why a file is not one slice of grey values, all of them there."""
    pixels = next((value for value in tags.values() if value.tag == _PIXELS), None)
    if pixels is None:
        return "has no pixels"
    if _count(tags, "NumberOfFrames") > 1:
        return f"holds {_count(tags, 'NumberOfFrames')} frames (enhanced DICOM)"
    if _count(tags, "SamplesPerPixel") != 1:
        return f"has {_count(tags, 'SamplesPerPixel')} samples a pixel (colour)"
    length = getattr(pixels, "length", None)
    if length is None or length == _PACKED_LENGTH:
        return ""
    claimed = _count(tags, "Rows") * _count(tags, "Columns") * _count(tags, "BitsAllocated") // 8
    there = min(length, path.stat().st_size - (pixels.value_tell or 0))
    return f"ends early: {there} of {claimed} bytes of pixels" if there < claimed else ""


def _count(tags: Any, name: str) -> int:
    numbers = _numbers(tags, name, 1)
    return int(numbers[0]) if numbers else 0


def _numbers(tags: Any, name: str, count: int) -> tuple[float, ...] | None:
    """The finite numbers of a tag; None if it is missing or anything else."""
    try:
        with _readable(Path(name)):
            value = tags.get(name)
            several = value if hasattr(value, "__len__") and not isinstance(value, str) else [value]
            numbers = tuple(float(number) for number in several)
    except VolumeError:
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None
