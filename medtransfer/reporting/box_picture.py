"""The boxes of one case as a picture: three planes through the best one, with names and scores."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from ..errors import UsageError
from ..files import text_of
from ..volumes.boxes import Boxes, checked_boxes, draw_boxes, move_boxes
from ..volumes.grid import Grid
from .case_picture import checked_affine, oblique_note, ras_spacing, to_ras
from .figures import write_png
from .overlay import CONVENTIONS, LEGEND_COLUMNS, OUTLINE, draw_planes, dress_picture
from .palette import class_colour
from .planes import PLANES, Convention, Plane
from .window import display_window

#: boxes that are drawn and listed, the best ones; more cover each other
MOST_BOXES = 12
_NAME = 24


def boxes_png(
    scan: np.ndarray,
    affine: np.ndarray,
    boxes: Sequence[Mapping[str, Any]],
    path: str | Path,
    classes: Sequence[str],
    title: str = "",
    *,
    convention: Convention = "radiological",
    overwrite: bool = False,
) -> Path:
    """Draw axial, coronal and sagittal planes through the middle of the best box: the scan, and under it with boxes.

    A plane shows the boxes that it runs through, of the best `MOST_BOXES`, with names and scores; the legend lists them
    with their sizes.

    Args:
        scan: (I, J, K) intensities on the scan's own grid, any orientation; the first channel of several.
        affine: (4, 4), voxel index to world millimetres (RAS+).
        boxes: By descending score, as in ``CASE.json``: ``class``, ``score``, ``box`` and ``size_mm``.
        path: The PNG to write.
        classes: Names by label; ``classes[0]`` is background.
        title: A line over the picture, such as the case's name.
        convention: "radiological" (the patient's right on the left) or "neurological".
        overwrite: Replace an existing picture.

    Raises:
        UsageError: the affine is not invertible, or a box is of another class.
        OutputExistsError: ``path`` exists and ``overwrite`` is false.

    >>> import tempfile
    >>> box = {"class": "cube", "score": 0.9, "box": [2, 2, 2, 5, 5, 5], "size_mm": [3.0, 3.0, 3.0]}
    >>> scan = np.random.default_rng(0).normal(size=(8, 9, 10))
    >>> boxes_png(scan, np.eye(4), [box], Path(tempfile.mkdtemp()) / "a.png", ["background", "cube"]).name
    'a.png'
    """
    affine = checked_affine(affine, path)
    turn = nib.orientations.io_orientation(affine)
    image, shown = to_ras(scan, turn), list(boxes[:MOST_BOXES])
    numbers = [_number(box["class"], classes) for box in shown]
    turned = Grid(image.shape, affine @ nib.orientations.inv_ornt_aff(turn, scan.shape))
    places = move_boxes(checked_boxes([box["box"] for box in shown]), Grid(scan.shape, affine), turned)
    best = draw_boxes(turned.shape, places[:1], numbers[:1], filled=True) if shown else None
    window, centre = display_window(image, best), _centre(places, turned.shape)
    legend = _legend(shown, numbers, len(boxes))
    margin = 0.6 + 0.22 * max(1, -(-len(legend) // LEGEND_COLUMNS))
    rows: dict[str, np.ndarray | None] = {"scan": None, "boxes": None}
    figure, panels = draw_planes(image, window, rows, centre, ras_spacing(affine, turn), convention, margin)
    for panel, plane in zip(panels[1], PLANES, strict=True):
        for index in reversed(range(len(shown))):  # the best one on top
            _draw_box(panel, plane, places[index], centre, turned.shape, convention, shown[index], numbers[index])
    foot = f"{CONVENTIONS[convention]}. {oblique_note(affine)}Shown: {window}. Not for diagnosis."
    dress_picture(figure, legend, title, foot)
    return write_png(figure, path, overwrite)


def _number(name: str, classes: Sequence[str]) -> int:
    if name not in classes[1:]:
        raise UsageError(f"a box is of the class {name!r}, but the classes are {', '.join(classes[1:])}")
    return list(classes).index(name)


def _centre(places: Boxes, shape: Sequence[int]) -> tuple[int, int, int]:
    """Index of the slices through the first box, or through the middle."""
    middle = (places[0, :3] + places[0, 3:]) / 2 if len(places) else np.array(shape) / 2
    first, second, third = np.clip(middle.astype(int), 0, np.array(shape) - 1)
    return int(first), int(second), int(third)


def _draw_box(
    panel: Axes,
    plane: Plane,
    box: Boxes,
    centre: Sequence[int],
    shape: Sequence[int],
    convention: Convention,
    found: Mapping[str, Any],
    number: int,
) -> None:
    """The box's rectangle in a plane, if it runs through it, with name and score at its corner."""
    lower, upper = box[:3], box[3:]
    if not lower[plane.normal] < centre[plane.normal] + 1 or not upper[plane.normal] > centre[plane.normal]:
        return
    # pictures are cut from the upper end down, and from the patient's left for radiologists
    left = shape[plane.across] - upper[plane.across] if convention == "radiological" else lower[plane.across]
    top = shape[plane.up] - upper[plane.up]
    width, height = (upper - lower)[[plane.across, plane.up]]
    colour = class_colour(number)
    panel.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=colour, linewidth=1.4))
    panel.text(
        left - 0.5, top - 0.5, f"{_short(found['class'])} {found['score']:.2f}", color=colour, fontsize=8,
        ha="left", va="bottom", path_effects=OUTLINE, parse_math=False, clip_on=True,
    )  # fmt: skip


def _legend(shown: Sequence[Mapping[str, Any]], numbers: Sequence[int], total: int) -> list[Patch]:
    entries = [
        Patch(facecolor=class_colour(number), label=f"{_short(box['class'])}  {box['score']:.2f}, {_size(box)}")
        for box, number in zip(shown, numbers, strict=True)
    ]
    more = f"{len(shown)} best of {total} boxes" if total > len(shown) else "" if total else "no boxes"
    return entries + [Patch(facecolor="none", label=more)] * bool(more)


def _size(box: Mapping[str, Any]) -> str:
    return " x ".join(f"{mm:.0f}" if mm >= 10 else f"{mm:.1f}" for mm in box["size_mm"]) + " mm"


def _short(name: str) -> str:
    return textwrap.shorten(text_of(name), _NAME)
