"""How every chart looks and is written."""

from __future__ import annotations

import warnings
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..files import atomic_file


def dress(axes: Axes) -> None:
    """A light grid behind what is drawn, and no frame above and to the right."""
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def write_png(figure: Figure, path: str | Path, overwrite: bool = False) -> Path:
    """Write a figure, whole or not at all; a letter that the font lacks becomes a box.

    Raises:
        OutputExistsError: ``path`` exists and ``overwrite`` is false.
        ResourceError: the disk is full or the folder cannot be written.
    """
    with atomic_file(path, overwrite) as part, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        FigureCanvasAgg(figure).print_png(str(part))
    return Path(path)
