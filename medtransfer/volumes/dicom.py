"""A series of DICOM files, one slice each, as one scan: only if they are one box without gaps.

pydicom reads the tags, GDCM (in SimpleITK) the pixels, with each slice's own rescaling. Where the slices lie is worked
out here, from Image Position and Image Orientation (DICOM PS3.3 C.7.6.2): names and slice numbers mean nothing.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import VolumeError
from . import validate
from .dicom_slices import Slice, read_slices
from .extras import itk_reason, quiet_itk
from .grid import LPS_TO_RAS
from .header import header_of_affine
from .memory import require_memory
from .stored import Stored

#: Between a folder and the UID of one of its series.
CHOICE = "#"

SAME_DIRECTION = 1e-3  # of cosines
SAME_SIZE = 1e-3  # of spacings, relative
GAP = 1.5  # of the usual distance between slices
OFF_LINE, NEAR_LINE = 0.5, 0.05  # voxels from where a slice should lie: refused, a warning
TILT = 0.01  # of the cosine between slices' shift and their planes, as the gate's shear
_SHOWN = 8


def split_series(source: str | os.PathLike[str]) -> tuple[Path, str] | None:
    """Folder and series UID (empty: the only one) of a source that is a folder; None of any other.

    >>> split_series("no/such/folder#1.2.3") is None, split_series(".")
    (True, (PosixPath('.'), ''))
    """
    path = Path(source)
    if path.is_dir():
        return path, ""
    folder, mark, series = os.fspath(source).rpartition(CHOICE)
    return (Path(folder), series) if mark and folder and not path.exists() and Path(folder).is_dir() else None


def read_series(source: Path, folder: Path, series: str = "") -> Stored:
    """Read the slices of one series in a folder.

    Args:
        source: What the user named, for messages.
        folder: The folder.
        series: UID of the series; empty if there is but one.

    Raises:
        VolumeError: several series, a file that is no slice, missing or doubled slices, tags that do not fit together,
            or pixels that cannot be decoded; lists the files.
        ResourceError: it needs more memory than there is.
        MissingExtraError: pydicom or SimpleITK is not installed.
    """
    slices, affine, warnings = find_series(source, folder, series)
    columns, rows = slices[0].size
    shape = (columns, rows, len(slices))
    header = header_of_affine(shape, np.dtype(np.float32), affine, code="scanner")
    warnings += validate.check_header(header, source)
    # one slice is decoded as 64-bit numbers
    require_memory(header.data_bytes + 16 * columns * rows, f"a series of {len(slices)} slices", source)
    array = np.empty(shape, dtype=np.float32, order="F")
    for index, one in enumerate(slices):
        array[..., index] = _read_pixels(one).T
    return Stored(array, header, source, warnings)


def find_series(source: Path, folder: Path, series: str) -> tuple[list[Slice], npt.NDArray[np.float64], list[str]]:
    """The slices of one series in their order along the patient, the RAS+ affine of the box, and warnings.

    Raises:
        VolumeError: see `read_series`.
    """
    slices = _choose(read_slices(folder), series, source)
    hint = "Keep only the slices of one scan in the folder"
    _refuse(source, "no slice of a scan", [(one, f"{one.fault} ({one.kind})") for one in slices if one.fault], hint)
    _check_tags(slices, source)
    _check_alike(slices, source)
    ordered = sorted(slices, key=_along_normal)
    warnings = _check_places(ordered, source)
    return ordered, _affine(ordered), warnings


def _choose(slices: Sequence[Slice], series: str, source: Path) -> list[Slice]:
    """The slices of the series that is meant."""
    groups: dict[str, list[Slice]] = {}
    for one in slices:
        groups.setdefault(one.series, []).append(one)
    listed = "; ".join(_describe(uid, group) for uid, group in list(groups.items())[:_SHOWN])
    if series and series not in groups:
        raise VolumeError(f"there is no series {series}, only {listed}", path=source, hint="Name one of them")
    if not series and len(groups) > 1:
        hint = f"Name one as FOLDER{CHOICE}UID, or put each into a folder of its own"
        raise VolumeError(f"holds {len(groups)} series: {listed}", path=source, hint=hint)
    return groups[series] if series else list(slices)


def _describe(uid: str, group: Sequence[Slice]) -> str:
    files = f"{len(group)} files" if len(group) > 1 else group[0].path.name
    return f"{uid or 'no UID'} ({group[0].modality}, {group[0].kind}, {files})"


def _refuse(source: Path, what: str, found: Sequence[tuple[Slice, str]], hint: str) -> None:
    """Raise if any slice was found wanting, with the list of them."""
    if found:
        listed = ", ".join(f"{one.path.name} {why}".strip() for one, why in found[:_SHOWN])
        rest = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise VolumeError(f"{what}: {listed}{rest}", path=source, hint=hint)


def _check_tags(slices: Sequence[Slice], source: Path) -> None:
    """Every slice must say where it lies."""
    needed = {
        "Image Position (Patient)": lambda one: one.position,
        "Image Orientation (Patient)": lambda one: one.orientation,
        "Pixel Spacing": lambda one: one.spacing,
        "Rows and Columns": lambda one: min(one.size) > 0 or None,
    }
    for name, value in needed.items():
        missing = [(one, "") for one in slices if value(one) is None]
        _refuse(
            source, f"{name} is missing or no finite number", missing, "Export the series again, as CT or MR images"
        )
    flat = [(one, "") for one in slices if not _is_plane(one)]
    _refuse(source, "Image Orientation is not two unit vectors at right angles", flat, "Export the series again")


def _is_plane(one: Slice) -> bool:
    row, column = _directions(one)
    lengths = np.linalg.norm([row, column], axis=1)
    return bool(np.abs(lengths - 1).max() < SAME_DIRECTION * 10 and abs(row @ column) < SAME_DIRECTION * 10)


def _check_alike(slices: Sequence[Slice], source: Path) -> None:
    """All slices must have one size, spacing and orientation: a localiser among them has not."""
    first = slices[0]
    sizes = [(one, "x".join(map(str, one.size))) for one in slices if one.size != first.size]
    _refuse(source, f"slices of other sizes than {'x'.join(map(str, first.size))}", sizes, "Keep one stack of slices")
    spacings = [(one, str(one.spacing)) for one in slices if not np.allclose(_spacing(one), _spacing(first), SAME_SIZE)]
    _refuse(source, f"slices of another pixel spacing than {first.spacing}", spacings, "Keep one stack of slices")
    turned = [(one, "") for one in slices if not _parallel(one, first)]
    _refuse(source, f"slices of another orientation than {first.path.name}", turned, "Keep one stack of slices")


def _check_places(ordered: Sequence[Slice], source: Path) -> list[str]:
    """Slices must follow each other at one distance along one line at right angles to their planes."""
    if len(ordered) == 1:
        return ["one slice only: the distance between slices is taken from its tags"]
    distances = np.diff([_along_normal(one) for one in ordered])
    usual = float(np.median(distances))
    pairs = list(itertools.pairwise(ordered))
    doubled = [
        (one, f"and {other.path.name}")
        for (one, other), distance in zip(pairs, distances, strict=True)
        if distance < 1e-3 or distance < usual * 0.1
    ]
    _refuse(source, "two slices at one position", doubled, "Keep one stack of slices: one time point, one echo")
    gaps = [
        (one, f"to {other.path.name} ({distance:.4g} mm)")
        for (one, other), distance in zip(pairs, distances, strict=True)
        if distance > GAP * usual
    ]
    _refuse(source, f"slices are missing where others are {usual:.4g} mm apart", gaps, "Copy the whole series")
    _check_tilt(ordered, source)
    return _check_line(ordered, source)


def _check_tilt(ordered: Sequence[Slice], source: Path) -> None:
    step = _position(ordered[-1]) - _position(ordered[0])
    row, column = _directions(ordered[0])
    tilt = float(np.linalg.norm([row @ step, column @ step]) / np.linalg.norm(step))
    if tilt > TILT:
        reason = (
            f"its slices are shifted against each other by a gantry tilt of {np.degrees(np.arcsin(tilt)):.1f} degrees"
        )
        ends = f"{reason} (from {ordered[0].path.name} to {ordered[-1].path.name})"
        raise VolumeError(ends, path=source, hint="Resample it onto a rectangular grid first, as dcm2niix does")


def _check_line(ordered: Sequence[Slice], source: Path) -> list[str]:
    """How far slices lie from where even steps between the first and the last would put them, in voxels."""
    places = np.array([_position(one) for one in ordered])
    even = np.linspace(places[0], places[-1], len(places))
    sizes = np.array([*_spacing(ordered[0])[::-1], np.linalg.norm(even[1] - even[0])])
    axes = np.array([*_directions(ordered[0]), _normal(ordered[0])])
    off = np.linalg.norm((places - even) @ axes.T / sizes, axis=1)
    wrong = [(one, f"by {far:.2g} voxels") for one, far in zip(ordered, off, strict=True) if far > OFF_LINE]
    _refuse(source, "slices off their even places", wrong, "Resample the series onto even steps first")
    return [f"slices lie up to {off.max():.2g} voxels off even steps"] if off.max() > NEAR_LINE else []


def _affine(ordered: Sequence[Slice]) -> npt.NDArray[np.float64]:
    """The RAS+ affine: the first index runs along a row, the second down the columns, the third from slice to slice."""
    row, column = _directions(ordered[0])
    between_rows, between_columns = _spacing(ordered[0])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * between_columns, column * between_rows
    affine[:3, 3] = _position(ordered[0])
    if len(ordered) > 1:
        affine[:3, 2] = (_position(ordered[-1]) - _position(ordered[0])) / (len(ordered) - 1)
    else:
        affine[:3, 2] = _normal(ordered[0]) * (ordered[0].thickness or 1.0)
    return LPS_TO_RAS @ affine + 0.0  # no negative zeros


def _read_pixels(one: Slice) -> npt.NDArray[np.float32]:
    """(rows, columns), rescaled by the slice's own slope and intercept."""
    with quiet_itk(one.path, "itk") as sitk:
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(one.path))
        try:
            array = sitk.GetArrayFromImage(reader.Execute())
        except RuntimeError as error:
            reason = f"its pixels cannot be decoded (transfer syntax {one.syntax}): {itk_reason(error)}"
            raise VolumeError(reason, path=one.path, hint="Decompress the series first") from error
    if array.squeeze().size != one.size[0] * one.size[1]:
        raise VolumeError(f"its pixels have the shape {array.shape}, its tags say {one.size}", path=one.path)
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which the gate refuses
        return array.reshape(one.size[::-1]).astype(np.float32)


def _along_normal(one: Slice) -> float:
    return float(_position(one) @ _normal(one))


def _normal(one: Slice) -> npt.NDArray[np.float64]:
    return np.cross(*_directions(one))


def _directions(one: Slice) -> npt.NDArray[np.float64]:
    """(2, 3): along a row, and down a column."""
    return np.reshape(one.orientation or (0.0,) * 6, (2, 3))


def _position(one: Slice) -> npt.NDArray[np.float64]:
    return np.asarray(one.position or (0.0,) * 3)


def _spacing(one: Slice) -> npt.NDArray[np.float64]:
    return np.asarray(one.spacing or (0.0,) * 2)


def _parallel(one: Slice, other: Slice) -> bool:
    return bool(np.abs(_directions(one) - _directions(other)).max() < SAME_DIRECTION)
