"""Lines with intervals in panels that share their axes: scores over cases, losses over steps, features by stage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ..errors import UsageError
from .figures import dress, write_png

#: (x, y), or (x, y, low, high) with the ends of an interval.
Point = tuple[float, ...]

# dark colours of Okabe and Ito (2008), then of Tol's muted set (2021); marker and dash tell lines apart in grey too
_COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b88600", "#332288",
    "#56b4e9", "#882255", "#117733", "#aa4499", "#999933", "#cc6677",
)  # fmt: skip
_MARKERS = "osD^vPX<>*ph"
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
_BASELINE: dict[str, Any] = {"color": "black", "marker": ".", "linestyle": "-", "linewidth": 2.2, "markersize": 9}
_MOST_POINTS = 12


def panels_png(
    panels: Mapping[str, Mapping[str, Sequence[Point]]],
    path: str | Path,
    *,
    x_label: str,
    y_label: str,
    baseline: str = "",
    x_ticks: Mapping[float, str] | None = None,
    log_x: bool = False,
    value_range: tuple[float, float] | None = None,
    overwrite: bool = False,
) -> Path:
    """Draw one panel a group, with one line a name; a name looks alike in all panels, and stands in one legend.

    Args:
        panels: By the panel's title, points by the line's name, with rising x; a line without points is left out.
        path: The PNG to write.
        x_label: What the horizontal axis counts.
        y_label: What the vertical axis measures, with its unit.
        baseline: Name of the line that the others are compared with; it is black, its intervals are a grey band.
        x_ticks: Where the horizontal axis is marked, and how; lines with intervals are set apart a little around
            these places. From the data when not given.
        log_x: A logarithmic horizontal axis.
        value_range: Lowest and highest value drawn; from the data when not given.
        overwrite: Replace an existing picture.

    Raises:
        UsageError: there is nothing to draw.
        OutputExistsError: ``path`` exists and ``overwrite`` is false.

    >>> import tempfile
    >>> lines = {"scratch": [(4, 0.5, 0.4, 0.6), (8, 0.7, 0.6, 0.8)], "full": [(4, 0.6, 0.5, 0.7)]}
    >>> file = panels_png({"": lines}, Path(tempfile.mkdtemp()) / "a.png", x_label="cases", y_label="Dice", log_x=True)
    >>> file.stat().st_size > 1000
    True
    """
    names = list(dict.fromkeys(name for lines in panels.values() for name, points in lines.items() if len(points)))
    if not names:
        raise UsageError("nothing to draw: there is no line with points", path=path)
    styles = _styles(names, baseline)
    shifts = _shifts(names, baseline, list(x_ticks or {}), log_x)
    columns = _legend_columns(names)
    figure, grid = _grid(len(panels), math.ceil(len(names) / columns))
    for axes, (title, lines) in zip(grid, panels.items(), strict=False):
        _set_up(axes, title, x_ticks, log_x)
        for name in (name for name in names if len(lines.get(name, ()))):
            _line(axes, lines[name], styles[name], shifts[name], name == baseline)
    if value_range is not None:
        grid[0].set_ylim(*value_range)
    _label(grid, len(panels), x_label, y_label)
    handles = [grid[0].plot([], [], label=name, **style)[0] for name, style in styles.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, handlelength=3.4)
    return write_png(figure, path, overwrite)


def _styles(names: Sequence[str], baseline: str) -> dict[str, dict[str, Any]]:
    styles = {}
    for index, name in enumerate(name for name in names if name != baseline):
        styles[name] = {
            "color": _COLOURS[index % len(_COLOURS)],
            "marker": _MARKERS[index % len(_MARKERS)],
            "linestyle": _DASHES[index % len(_DASHES)],
            "linewidth": 1.6,
            "markersize": 5,
        }
    return {name: styles.get(name, _BASELINE) for name in names}


def _shifts(names: Sequence[str], baseline: str, places: Sequence[float], log_x: bool) -> dict[str, float]:
    """How far each line is moved aside, so that intervals at one place do not cover each other.

    Added to x, or with ``log_x`` to its logarithm. All lines together take up to a third of the narrowest gap. The
    baseline stays in its place, where its intervals are a band; at a single place they are a bar like the others.
    """
    others = [name for name in names if name != baseline or len(places) == 1]
    marks = [math.log(place) if log_x else place for place in places]
    gaps = [right - left for left, right in pairwise(marks)]
    width = min([*gaps, math.log(2) if log_x else 1.0]) * min(0.34, 0.06 * len(others)) if places else 0.0
    offsets = np.linspace(-width / 2, width / 2, len(others)) if len(others) > 1 else [0.0]
    return {baseline: 0.0, **dict(zip(others, map(float, offsets), strict=False))}


def _grid(count: int, legend_rows: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, 2)
    rows = math.ceil(count / columns)
    height = (4.2 if rows == 1 else 3.1 * rows) + 0.4 + 0.22 * legend_rows
    figure = Figure(figsize=(8.6, height), dpi=120, layout="constrained")
    grid = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, grid


def _label(grid: Sequence[Axes], count: int, x_label: str, y_label: str) -> None:
    """Name the axes at the left, and under the lowest panel of each column, which may have no panel below it."""
    columns = min(count, 2)
    for axes in grid[:count:columns]:
        axes.set_ylabel(y_label)
    for axes in grid[max(0, count - columns) : count]:
        axes.set_xlabel(x_label)
        axes.tick_params(labelbottom=True)


def _line(axes: Axes, points: Sequence[Point], style: dict[str, Any], shift: float, is_baseline: bool) -> None:
    x, y, *ends = np.array(points, dtype=float).T
    x = x * math.exp(shift) if axes.get_xscale() == "log" else x + shift
    axes.plot(x, y, markevery=max(1, len(x) // _MOST_POINTS), zorder=3 if is_baseline else 2, **style)
    if not ends:
        return
    if is_baseline and len(x) > 1:
        axes.fill_between(x, *ends, color="0.87", linewidth=0, zorder=0)
        return
    bars = np.abs(np.array(ends) - y)
    axes.errorbar(x, y, yerr=bars, fmt="none", ecolor=style["color"], elinewidth=1.1, capsize=2.5, zorder=1)


def _set_up(axes: Axes, title: str, x_ticks: Mapping[float, str] | None, log_x: bool) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    dress(axes)
    axes.margins(x=0.05 if x_ticks is None or len(x_ticks) > 1 else 0.4)
    if log_x:
        axes.set_xscale("log")
    if x_ticks:
        axes.set_xticks(list(x_ticks), list(x_ticks.values()))
        axes.xaxis.set_minor_locator(NullLocator())


def _legend_columns(names: Sequence[str]) -> int:
    """As many as fit the picture's width, by the longest name.

    >>> _legend_columns(["scratch", "full"]), _legend_columns(["a" * 40] * 12)
    (2, 1)
    """
    return max(1, min(len(names), 84 // (max(map(len, names)) + 8)))
