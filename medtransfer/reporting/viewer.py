"""A page with an interactive slice viewer: NiiVue, a few scans and their masks, all in one file."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip
from scipy import ndimage

from ..errors import UsageError, VolumeError
from ..files import refuse_existing, text_of
from ..volumes.grid import same_grid
from ..volumes.read import read_labels, read_volume
from .niivue import read_niivue
from .page import write_html
from .palette import class_rgb
from .planes import count_labels, structure_centre
from .window import display_window

#: cases on one page; a browser holds all of them in memory
MOST_CASES = 20
#: voxels of one case, and of all cases of a page; finer scans are shown at every second voxel, or third ...
MOST_VOXELS, MOST_PAGE_VOXELS = 1 << 24, 1 << 25

_TEMPLATE = Path(__file__).with_name("viewer.html.jinja")
_DRIVER = Path(__file__).with_name("viewer.js")
_SIGNED, _VOX_OFFSET = 32767, 352

Case = tuple[str, "str | Path", "str | Path"]


def write_viewer(
    path: str | Path,
    cases: Sequence[Case],
    classes: Sequence[str],
    overwrite: bool = False,
    *,
    title: str = "medtransfer predict",
    volume: int = 0,
) -> Path:
    """Write a page that shows scans with their masks in a browser, without a server and without a network.

    The page holds the viewer, the volumes, and a policy that forbids loading anything. A scan of more than
    `MOST_VOXELS` is thinned, and the page says so.

    Args:
        path: The HTML file to write, such as ``view.html``.
        cases: (name, scan file, mask file) of each case, at most `MOST_CASES`; a scan is what `read_volume` reads (of
            several channels, the first file), a mask lies on its grid.
        classes: Names by label; ``classes[0]`` is background.
        overwrite: Replace an existing page.
        title: The page's heading.
        volume: Which volume of 4-D scans is shown.

    Raises:
        MissingExtraError: the extra ``view`` is not installed.
        UsageError: no case, or too many.
        VolumeError: a scan or mask cannot be read, they lie on different grids, or a label has no name.
        OutputExistsError: ``path`` exists and ``overwrite`` is false.
    """
    path = refuse_existing(path, overwrite)
    if not 0 < len(cases) <= MOST_CASES:
        raise UsageError(f"a viewer shows 1 to {MOST_CASES} cases, got {len(cases)}", hint="Name some of them")
    niivue = read_niivue()
    limit = min(MOST_VOXELS, MOST_PAGE_VOXELS // len(cases))
    shown = [_read_case(case, classes, limit, volume) for case in cases]
    script = f"{niivue.script}\n{_DRIVER.read_text(encoding='utf-8')}"
    document = {
        "classes": [{"name": name, "colour": class_rgb(label)} for label, name in enumerate(classes)],
        "cases": [case.summary for case in shown],
    }
    words = {"title": title, "niivue": niivue, "cases": shown}
    data = json.dumps(document).replace("<", "\\u003c")
    return write_html(path, _TEMPLATE, overwrite, script=script, document=data, **words)


@dataclass(frozen=True)
class ShownCase:
    """One case as the page holds it: ``scan`` and ``mask`` are NIfTI files, gzipped, in base64."""

    summary: dict[str, Any]
    scan: str
    mask: str


def _read_case(case: Case, classes: Sequence[str], limit: int, volume: int) -> ShownCase:
    name, scan_file, mask_file = case
    scan, mask = read_volume(scan_file, nan=0.0, volume=volume), read_labels(mask_file)
    if not same_grid(scan.grid, mask.grid):
        raise VolumeError(f"lies on another grid than its scan, {scan_file}", path=mask_file)
    if not 0 <= mask.array.min() <= mask.array.max() < len(classes):
        raise VolumeError(f"has labels up to {mask.array.max()}, but {len(classes)} classes are named", path=mask_file)
    steps = thinning(scan.grid.shape, scan.grid.spacing, limit)
    every = tuple(slice(None, None, step) for step in steps)
    affine = scan.grid.affine @ np.diag([*steps, 1])
    image, labels = scan.array[0][every], mask.array[every]
    window = display_window(image, labels)
    volumes = count_labels(mask.array, len(classes)) * scan.grid.voxel_ml
    summary = {
        "name": text_of(name),
        "low": window.low,
        "high": window.high,
        "thinned": "x".join(map(str, steps)) if max(steps) > 1 else "",
        "structures": _structures(labels, affine, volumes),
    }
    small = np.uint8 if len(classes) <= 256 else np.int16
    width = 4 * (window.high - window.low)
    return ShownCase(
        summary,
        _encode(*_as_int16(image, window.low - width, window.high + width), affine),
        _encode(labels.astype(small), 1.0, 0.0, affine, "label"),
    )


def thinning(shape: Sequence[int], spacing: Sequence[float], limit: int) -> tuple[int, int, int]:
    """Every how many voxels to keep along each axis, so that at most ``limit`` remain, as alike in mm as can be.

    >>> thinning((512, 512, 100), (0.7, 0.7, 5.0), 1 << 23), thinning((64, 64, 64), (1, 1, 1), 1 << 23)
    ((2, 2, 1), (1, 1, 1))
    """
    steps = [1, 1, 1]
    while np.prod([-(-size // step) for size, step in zip(shape, steps, strict=True)]) > limit:
        finest = min(range(3), key=lambda axis: (spacing[axis] * steps[axis], -shape[axis]))
        steps[finest] += 1
    return steps[0], steps[1], steps[2]


def _structures(labels: np.ndarray, affine: np.ndarray, volumes: np.ndarray) -> list[dict[str, Any]]:
    """Of each class that occurs: its label, millilitres, and a place in its middle in mm; none is lost by thinning."""
    boxes = dict(enumerate(ndimage.find_objects(labels), 1))
    found = []
    for label in np.flatnonzero(volumes[1:]) + 1:
        box = boxes.get(int(label))
        centre = None
        if box is not None:
            index = np.add(_inside(labels[box] == label), [part.start for part in box])
            centre = nib.affines.apply_affine(affine, index).tolist()
        found.append({"label": int(label), "ml": float(volumes[label]), "centre": centre})
    return found


def _inside(structure: np.ndarray) -> tuple[int, int, int]:
    """The structure's voxel nearest its centre in the slice, along the last axis, through its centre.

    >>> ring = np.ones((5, 5, 1), bool)
    >>> ring[1:4, 1:4] = False
    >>> bool(ring[_inside(ring)])
    True
    """
    centre = structure_centre(structure)
    places = np.argwhere(structure[..., centre[2]])
    first, second = places[np.square(places - centre[:2]).sum(axis=1).argmin()]
    return int(first), int(second), centre[2]


def _as_int16(image: np.ndarray, low: float, high: float) -> tuple[npt.NDArray[np.int16], float, float]:
    """Voxels, slope and intercept; whole numbers that fit stay as they are, others are clipped to ``low`` .. ``high``.

    >>> _as_int16(np.array([-1000.0, 40.0]), -160, 240)[0].tolist()
    [-1000, 40]
    """
    whole = np.round(image)
    if np.abs(image).max() <= _SIGNED and np.array_equal(whole, image):
        return whole.astype(np.int16), 1.0, 0.0
    low, high = max(low, float(image.min())), min(high, float(image.max()))
    slope = (high - low) / (2 * _SIGNED) or 1.0
    middle = (low + high) / 2
    return np.round((np.clip(image, low, high) - middle) / slope).astype(np.int16), slope, middle


def _encode(voxels: np.ndarray, slope: float, intercept: float, affine: np.ndarray, intent: str = "none") -> str:
    """A NIfTI file, gzipped, in base64."""
    image = nib.Nifti1Image(voxels, affine)
    header = image.header
    header.set_xyzt_units("mm")
    header.set_intent(intent)
    header["scl_slope"], header["scl_inter"], header["vox_offset"] = slope, intercept, _VOX_OFFSET
    content = header.binaryblock.ljust(_VOX_OFFSET, b"\0") + voxels.tobytes(order="F")
    return base64.b64encode(igzip.compress(content, compresslevel=2, mtime=0)).decode("ascii")
