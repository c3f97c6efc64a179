"""Small pictures of some cases: three planes through the label's centre with its outlines, as tiles of one picture."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from scipy.ndimage import map_coordinates

from ..errors import MedTransferError
from ..files import text_of
from ..reporting.figures import write_png
from ..reporting.palette import class_rgb
from ..reporting.planes import PLANES, Plane, structure_centre
from ..reporting.window import display_window
from ..volumes.grid import Grid
from ..volumes.read import Labels, Volume, read_labels, read_volume
from .facts import CaseFacts

Pixels = npt.NDArray[np.uint8]
COLUMNS = 3
_PLANE, _GAP, _TITLE = 148, 4, 30
_TILE_WIDTH, _TILE_HEIGHT = 3 * _PLANE + 4 * _GAP, _PLANE + _TITLE + 3 * _GAP
_DARK, _LONGEST = 22, 46


@dataclass(frozen=True)
class Shown:
    """A case to draw, and the words that say why; none where nothing is wrong with it."""

    facts: CaseFacts
    why: str = ""


@dataclass(frozen=True)
class _Upright:
    """An array whose axes run right, front and head, as far as turning by right angles allows."""

    array: npt.NDArray[np.generic]
    grid: Grid


def thumbnails_png(shown: Sequence[Shown], path: Path, workers: int) -> Path:
    """Draw the cases, three a line; each is read once more, and one that cannot be read is an empty tile.

    Args:
        shown: The cases, in order.
        path: The PNG to write; what stands there is replaced.
        workers: Cases that are read at the same time.
    """
    with ThreadPoolExecutor(workers) as pool:
        tiles = list(pool.map(_tile, shown))
    rows = -(-len(shown) // COLUMNS)
    columns = min(COLUMNS, len(shown))
    canvas = np.full((rows * _TILE_HEIGHT, columns * _TILE_WIDTH, 3), _DARK, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // COLUMNS * _TILE_HEIGHT + _TITLE, number % COLUMNS * _TILE_WIDTH + _GAP
        canvas[top : top + _PLANE, left : left + tile.shape[1]] = tile
    return write_png(_with_titles(canvas, shown, tiles), path, overwrite=True)


def _tile(shown: Shown) -> Pixels:
    """The planes of a case beside each other; empty if its scan cannot be read."""
    facts = shown.facts
    label = None if shown.why == "label-is-scan" else facts.label
    try:
        volume = read_volume(facts.images[0], channels=None if len(facts.images) > 1 else len(facts.intensities) or 1)
        planes = _planes(volume, _labels(label))
    except (MedTransferError, MemoryError):
        return np.zeros((_PLANE, 0, 3), np.uint8)
    boxes = []
    for plane in planes:
        box = np.zeros((_PLANE, _PLANE + _GAP, 3), np.uint8)
        box[:, _PLANE:] = _DARK
        top, left = (_PLANE - plane.shape[0]) // 2, (_PLANE - plane.shape[1]) // 2
        box[top : top + plane.shape[0], left : left + plane.shape[1]] = plane
        boxes.append(box)
    return np.concatenate(boxes, axis=1)


def _labels(file: Path | None) -> Labels | None:
    try:
        return None if file is None else read_labels(file)
    except (MedTransferError, MemoryError):
        return None


def _planes(volume: Volume, labels: Labels | None) -> list[Pixels]:
    """Three pictures (h, w, 3) of one scale, the patient's right on the left."""
    scan = _upright(volume.array[0], volume.grid)
    mask = None if labels is None else _upright(labels.array, labels.grid)
    same = mask is not None and mask.array.shape == scan.array.shape
    window = display_window(scan.array, mask.array if mask is not None and same else None)
    centre = _centre(scan, mask)
    pictures = []
    for plane in PLANES:
        places = _places(plane, scan.grid, centre)
        grey = 255 * window.grey(map_coordinates(scan.array, places, order=1, mode="nearest"))
        picture = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
        pictures.append(picture if mask is None else _outlined(picture, _labels_at(mask, scan.grid, places)))
    return pictures


def _upright(array: npt.NDArray[np.generic], grid: Grid) -> _Upright:
    turn = nib.orientations.io_orientation(grid.affine)
    affine = grid.affine @ nib.orientations.inv_ornt_aff(turn, grid.shape)
    turned = nib.orientations.apply_orientation(array, turn)
    first, second, third = turned.shape
    return _Upright(turned, Grid((first, second, third), affine))


def _centre(scan: _Upright, mask: _Upright | None) -> npt.NDArray[np.float64]:
    """The voxel of the scan, which may be a fraction, that the planes pass through."""
    middle = (np.array(scan.grid.shape) - 1) / 2
    if mask is None or not mask.array.any():
        return middle
    world = nib.affines.apply_affine(mask.grid.affine, structure_centre(mask.array))
    place = nib.affines.apply_affine(np.linalg.inv(scan.grid.affine), world)
    return np.clip(place, 0, np.array(scan.grid.shape) - 1)


def _places(plane: Plane, grid: Grid, centre: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Voxel coordinates (3, h, w) of the picture's pixels, rows from top to bottom, columns from left to right."""
    extent = np.array(grid.shape) * grid.spacing
    sizes = {axis: max(1, round(_PLANE * extent[axis] / extent.max())) for axis in (plane.up, plane.across)}
    along = {
        axis: ((np.arange(size) + 0.5) / size * grid.shape[axis] - 0.5)[::-1] for axis, size in sizes.items()
    }  # both axes run against the picture's: up, and to the patient's left
    places = np.empty((3, sizes[plane.up], sizes[plane.across]))
    places[plane.up] = along[plane.up][:, None]
    places[plane.across] = along[plane.across][None, :]
    places[plane.normal] = round(float(centre[plane.normal]))
    return places


def _labels_at(mask: _Upright, grid: Grid, places: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """The label where the pixels lie in the patient, which shows a label that lies beside its scan as it is."""
    to_mask = np.linalg.inv(mask.grid.affine) @ grid.affine
    moved = np.einsum("ij,j...->i...", to_mask[:3, :3], places) + to_mask[:3, 3, None, None]
    # a pixel between two voxels takes the upper one, whatever the rounding of the affines
    nearest = np.floor(moved + 0.5 + 1e-6).astype(np.int64)
    inside = np.all((nearest >= 0) & (nearest < np.array(mask.array.shape)[:, None, None]), axis=0)
    return np.where(inside, mask.array[tuple(np.where(inside, nearest, 0))], 0).astype(np.int32)


def _outlined(picture: Pixels, labels: npt.NDArray[np.int32]) -> Pixels:
    """The picture with the border pixels of every class in its colour."""
    wide = np.pad(labels, 1, mode="edge")
    around = [wide[1:-1, :-2], wide[1:-1, 2:], wide[:-2, 1:-1], wide[2:, 1:-1]]
    border = (labels != 0) & np.any([labels != other for other in around], axis=0)
    for value in np.unique(labels[border]):
        picture[border & (labels == value)] = class_rgb(int(value)) if value > 0 else (255, 0, 0)
    return picture


def _with_titles(canvas: Pixels, shown: Sequence[Shown], tiles: Sequence[Pixels]) -> Figure:
    height, width = canvas.shape[:2]
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    for number, one in enumerate(shown):
        left, top = number % COLUMNS * _TILE_WIDTH + 2 * _GAP, number // COLUMNS * _TILE_HEIGHT + _TITLE / 2 + 2
        name = _short(text_of(one.facts.case), _LONGEST - len(one.why) - 2)
        text = axes.text(left, top, name, color="white", fontsize=10, va="center", parse_math=False)
        if one.why:
            axes.annotate(
                one.why, (1, 0.5), xycoords=text, xytext=(8, 0), textcoords="offset points", color="#ffa64d",
                fontsize=10, va="center",
            )  # fmt: skip
        if not tiles[number].shape[1]:
            axes.text(left, top + _TITLE, "the scan cannot be read", color="0.6", fontsize=10, va="center")
    return figure


def _short(name: str, longest: int) -> str:
    """A name with its middle left out where it is long.

    >>> _short("hippocampus_001", 20), _short("a" * 30 + "_001", 12)
    ('hippocampus_001', 'aaaaa...a_001')
    """
    keep = max(longest, 9)
    return name if len(name) <= keep else f"{name[: keep // 2 - 1]}...{name[-(keep // 2 - 1) :]}"
