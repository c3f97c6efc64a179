"""A labelled scan on three planes, with a legend of classes and volumes, drawn to be checked by a reader."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import Stroke, withStroke

from ..errors import UsageError
from ..files import text_of
from .figures import write_png
from .palette import class_colour, class_rgb
from .planes import PLANES, Convention, Plane, count_labels, structure_centre
from .tables import volume_text
from .window import Window, display_window

_OPACITY = 0.55
_LEGEND_CLASSES, LEGEND_COLUMNS = 15, 3
_WIDTH_INCHES, _MOST_PANEL_INCHES = 10.5, 9.0
_SCALE_BARS_MM = (1, 2, 5, 10, 20, 50, 100)
# white letters stay readable on a bright scan
OUTLINE: list[Stroke] = [withStroke(linewidth=2.5, foreground="black")]
CONVENTIONS = {
    "radiological": "Radiological convention: the patient's right is on the left",
    "neurological": "Neurological convention: the patient's right is on the right",
}
_SIDES = {"left": (0.02, 0.5), "right": (0.98, 0.5), "top": (0.5, 0.98), "bottom": (0.5, 0.02)}


def overlay_png(
    image: np.ndarray,
    labels: np.ndarray,
    path: str | Path,
    spacing: Sequence[float],
    classes: Sequence[str],
    *,
    title: str = "",
    reference: np.ndarray | None = None,
    centre: tuple[int, int, int] | None = None,
    convention: Convention = "radiological",
    most_classes: int = _LEGEND_CLASSES,
    note: str = "",
    overwrite: bool = False,
) -> Path:
    """Draw axial, coronal and sagittal planes: the scan alone, and under it the scan with its labels.

    Every panel keeps the true proportions, carries orientation letters and a scale bar; the convention is written
    on the picture. The legend gives each class's volume over the whole array.

    Args:
        image: (I, J, K) intensities, in RAS order; shown as `display_window` says.
        labels: (I, J, K) integers, 0 is background.
        path: The PNG to write.
        spacing: Voxel size along I, J, K in mm.
        classes: Names by label; ``classes[0]`` is background.
        title: A line over the picture.
        reference: (I, J, K) integers drawn as a third row, "reference", with the same colours.
        centre: Voxel index that the planes pass through; the structure's centre when not given.
        convention: "radiological" (the patient's right on the left) or "neurological".
        most_classes: With more, the legend names that many of those that occur, the largest.
        note: A sentence that is written at the foot.
        overwrite: Replace an existing picture.

    Raises:
        UsageError: shapes differ, spacing is not three positive numbers, or a label has no name.
        OutputExistsError: ``path`` exists and ``overwrite`` is false.

    >>> import tempfile
    >>> labels = np.zeros((8, 8, 8), np.uint8)
    >>> labels[2:5, 2:5, 2:5] = 1
    >>> file = overlay_png(labels * 9.0, labels, Path(tempfile.mkdtemp()) / "a.png", (1, 1, 2), ["background", "cube"])
    >>> file.read_bytes()[1:4]
    b'PNG'
    """
    rows = {"scan": None, "labels": labels} | ({} if reference is None else {"reference": reference})
    _refuse_misfits(image, [row for row in rows.values() if row is not None], spacing, classes)
    legend = _legend(labels, reference, spacing, classes, most_classes)
    window = display_window(image, labels)
    margin = 0.6 + 0.22 * _lines(legend)
    figure, _ = draw_planes(image, window, rows, centre or structure_centre(labels), spacing, convention, margin)
    dress_picture(figure, legend, title, f"{CONVENTIONS[convention]}. {note}Shown: {window}. Not for diagnosis.")
    return write_png(figure, path, overwrite)


def dress_picture(figure: Figure, legend: list[Patch], title: str, foot: str) -> None:
    """Write the legend, a line over the picture and one at its foot."""
    _write_legend(figure, legend)
    figure.suptitle(text_of(title), fontsize=12, color="white", parse_math=False)
    figure.text(0.5, 0.008, foot, ha="center", va="bottom", fontsize=8, color="0.75")


def _write_legend(figure: Figure, entries: list[Patch]) -> None:
    legend = figure.legend(
        handles=entries, loc="lower center", ncols=LEGEND_COLUMNS, fontsize=10, frameon=False,
        labelcolor="white", bbox_to_anchor=(0.5, 0.2 / figure.get_figheight()),
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)  # a name may hold dollar signs


def _refuse_misfits(
    image: np.ndarray, labellings: Sequence[np.ndarray], spacing: Sequence[float], classes: Sequence[str]
) -> None:
    if image.ndim != 3:
        raise UsageError(f"a picture needs an (I, J, K) array, got shape {image.shape}")
    if len(spacing) != 3 or not all(np.isfinite(mm) and mm > 0 for mm in spacing):
        raise UsageError(f"spacing must be three positive numbers in mm, got {tuple(spacing)}")
    for labels in labellings:
        if labels.shape != image.shape:
            raise UsageError(f"labels of shape {labels.shape} do not lie on an image of shape {image.shape}")
        if labels.size and not 0 <= labels.min() <= labels.max() < len(classes):
            raise UsageError(f"labels run from {labels.min()} to {labels.max()}, but {len(classes)} classes are named")


def draw_planes(
    image: np.ndarray,
    window: Window,
    rows: dict[str, np.ndarray | None],
    centre: tuple[int, int, int],
    spacing: Sequence[float],
    convention: Convention,
    margin: float,
) -> tuple[Figure, list[list[Axes]]]:
    """A black figure with one row of three panels per labelling, over a ``margin`` in inches for the legend.

    Returns:
        The figure, and its panels: those of each row in the order of `PLANES`.
    """
    extent = [size * mm for size, mm in zip(image.shape, spacing, strict=True)]
    widths = [extent[plane.across] for plane in PLANES]
    height = max(extent[plane.up] for plane in PLANES)
    inches = min(_WIDTH_INCHES / sum(widths), _MOST_PANEL_INCHES / height)
    figure = Figure(figsize=(11, len(rows) * height * inches + 0.75 + margin), dpi=110, facecolor="black")
    top, bottom = 1 - 0.75 / figure.get_figheight(), margin / figure.get_figheight()
    panels = figure.subplots(
        len(rows), 3, squeeze=False,
        gridspec_kw={"width_ratios": widths, "wspace": 0.03, "hspace": 0.03,
                     "left": 0.035, "right": 0.995, "top": top, "bottom": bottom},
    )  # fmt: skip
    for (name, labels), line in zip(rows.items(), panels, strict=True):
        for panel, plane in zip(line, PLANES, strict=True):
            _draw_panel(panel, plane, image, window, labels, centre[plane.normal], spacing, convention)
        line[0].text(-0.03, 0.5, name, transform=line[0].transAxes, rotation=90, ha="right", va="center", color="white")
    for panel, plane in zip(panels[0], PLANES, strict=True):
        shown, count = centre[plane.normal] + 1, image.shape[plane.normal]
        panel.set_title(f"{plane.name}, slice {shown} of {count}", fontsize=9, color="white", pad=4)
    return figure, [list(line) for line in panels]


def _draw_panel(
    panel: Axes,
    plane: Plane,
    image: np.ndarray,
    window: Window,
    labels: np.ndarray | None,
    index: int,
    spacing: Sequence[float],
    convention: Convention,
) -> None:
    picture = np.repeat(window.grey(plane.cut(image, index, convention))[..., None], 3, axis=-1)
    if labels is not None:
        picture = _tint(picture, plane.cut(labels, index, convention))
    panel.imshow(picture, aspect=spacing[plane.up] / spacing[plane.across], interpolation="antialiased")
    panel.set_axis_off()
    for side, letter in plane.letters(convention).items():
        x, y = _SIDES[side]
        panel.text(
            x, y, letter, transform=panel.transAxes, color="white", fontsize=9, fontweight="bold",
            path_effects=OUTLINE,
            ha=side if side in ("left", "right") else "center", va=side if side in ("top", "bottom") else "center",
        )  # fmt: skip
    _draw_scale_bar(panel, picture.shape, spacing[plane.across])


def _tint(picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Blend each label's colour over the grey picture; (R, C, 3) in and out."""
    colours = np.array([class_rgb(label) for label in range(int(labels.max()) + 1)]) / 255
    where = labels > 0
    tinted = picture.copy()
    tinted[where] = (1 - _OPACITY) * tinted[where] + _OPACITY * colours[labels[where]]
    return tinted


def _draw_scale_bar(panel: Axes, shape: tuple[int, ...], across_mm: float) -> None:
    fitting = [mm for mm in _SCALE_BARS_MM if mm <= shape[1] * across_mm / 3]
    if not fitting:
        return
    length, start, y = fitting[-1] / across_mm, shape[1] * 0.04, shape[0] * 0.96
    panel.plot([start, start + length], [y, y], color="white", linewidth=2, solid_capstyle="butt", path_effects=OUTLINE)
    panel.text(
        start, y - 0.02 * shape[0], f"{fitting[-1]} mm", color="white", fontsize=8, va="bottom", path_effects=OUTLINE
    )


def _legend(
    labels: np.ndarray, reference: np.ndarray | None, spacing: Sequence[float], classes: Sequence[str], most: int
) -> list[Patch]:
    """A patch per class with its volume; of more than ``most`` classes, the largest ones that occur."""
    ml = float(np.prod(spacing)) / 1000
    counts = count_labels(labels, len(classes))
    wanted = np.zeros_like(counts) if reference is None else count_labels(reference, len(classes))
    named = list(range(1, len(classes)))
    shown = named if len(named) <= min(most, _LEGEND_CLASSES) else _largest(counts + wanted, most)
    entries = []
    for label in shown:
        beside = "" if reference is None else f" (reference {volume_text(wanted[label] * ml)})"
        text = f"{textwrap.shorten(text_of(classes[label]), 40)}  {volume_text(counts[label] * ml)}{beside}"
        entries.append(Patch(facecolor=class_colour(label), label=text))
    occurring = int(np.count_nonzero((counts + wanted)[1:]))
    if len(shown) < len(named):
        which = f"{len(shown)} largest" if len(shown) < occurring else "all that occur" if occurring else "none"
        entries.append(Patch(facecolor="none", label=f"{which} of {len(named)} classes"))
    return entries


def _largest(counts: np.ndarray, number: int) -> list[int]:
    """The labels with most voxels, background aside, in label order."""
    order = [int(label) for label in np.argsort(-counts, kind="stable") if label > 0 and counts[label] > 0]
    return sorted(order[:number])


def _lines(legend: Sequence[Patch]) -> int:
    return max(1, -(-len(legend) // LEGEND_COLUMNS))
