"""Charts of an evaluation: scores of all cases by class, volumes by Bland and Altman, curves of a classification."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..reporting.figures import dress, write_png

Floats = npt.NDArray[np.float64]
Curve = tuple[Floats, Floats]

# dark colours of Okabe and Ito (2008), which stand out on white; marker and dash tell lines apart in grey too
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b88600", "#332288", "#882255", "#117733")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
_MARKERS = "osD^vPX*"
WIDTH = 8.6
MOST_PANELS = 9
_HEADROOM = 0.12  # of the height of a panel, for a line of words over what is drawn


@dataclass(frozen=True)
class Bar:
    """A difference with its interval."""

    name: str
    value: float
    low: float
    high: float


def strips_png(
    values: Mapping[str, Mapping[str, Floats]], path: Path, label: str, unit_range: bool, overwrite: bool
) -> Path:
    """A box with all its cases a class and model, classes from top to bottom.

    Args:
        values: By model, by class, the scores of the cases; only finite ones are drawn.
        path: The PNG to write.
        label: Name of the score.
        unit_range: The score runs from 0 to 1.
        overwrite: Replace an existing picture.
    """
    classes = list(next(iter(values.values())))
    figure = Figure(figsize=(WIDTH, 1.3 + len(classes) * (0.16 + 0.2 * len(values))), dpi=110, layout="constrained")
    axes = figure.subplots()
    step = 0.8 / len(values)
    for number, (model, by_class) in enumerate(values.items()):
        places = [row - 0.4 + step * (number + 0.5) for row in range(len(classes))]
        finite = [by_class[name][np.isfinite(by_class[name])] for name in classes]
        _boxes(axes, finite, places, step, COLOURS[number])
        axes.plot([], [], "s", color=COLOURS[number], label=model)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_ylim(len(classes) - 0.4, -0.6)
    axes.set_xlabel(label)
    if unit_range:
        axes.set_xlim(-0.03, 1.03)
    dress(axes)
    if len(values) > 1:
        figure.legend(loc="outside upper right", ncols=2, frameon=False)
    return write_png(figure, path, overwrite)


def _boxes(axes: Axes, values: Sequence[Floats], places: Sequence[float], step: float, colour: str) -> None:
    shake = np.random.default_rng(0)
    line = {"color": colour, "linewidth": 1.1}
    axes.boxplot(
        values,
        positions=places,
        orientation="horizontal",
        widths=step * 0.75,
        showfliers=False,
        manage_ticks=False,
        boxprops=line,
        whiskerprops=line,
        capprops=line,
        medianprops={"color": "black", "linewidth": 1.5},
    )
    for place, points in zip(places, values, strict=True):
        y = place + shake.uniform(-0.22, 0.22, len(points)) * step
        axes.plot(points, y, "o", color=colour, markersize=2.8, alpha=0.45, markeredgewidth=0)


def bland_altman_png(volumes: Mapping[str, tuple[Floats, Floats]], path: Path, title: str, overwrite: bool) -> Path:
    """Volume errors over volumes: a panel a class, or for many classes one panel with errors in percent.

    Source: Bland and Altman 1986, Statistical methods for assessing agreement.

    Args:
        volumes: By class, predicted and true ml of the cases.
        path: The PNG to write.
        title: A line over the picture.
        overwrite: Replace an existing picture.
    """
    if len(volumes) > MOST_PANELS:
        figure = Figure(figsize=(WIDTH, 4.8), dpi=110, layout="constrained")
        _relative_panel(figure.subplots(), *(np.concatenate(side) for side in zip(*volumes.values(), strict=True)))
    else:
        columns = min(3, len(volumes))
        rows = math.ceil(len(volumes) / columns)
        figure = Figure(figsize=(WIDTH, 0.8 + 2.9 * rows), dpi=110, layout="constrained")
        grid = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, (name, (found, wanted)) in zip(grid, volumes.items(), strict=False):
            _volume_panel(axes, name, found, wanted)
        for axes in grid[len(volumes) :]:
            axes.set_visible(False)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return write_png(figure, path, overwrite)


def _volume_panel(axes: Axes, name: str, found: Floats, wanted: Floats) -> None:
    error = found - wanted
    axes.plot((found + wanted) / 2, error, "o", color=COLOURS[0], markersize=3.5, alpha=0.6, markeredgewidth=0)
    _limits(axes, error, "ml")
    axes.set_title(name, fontsize=10, loc="left")
    axes.set_xlabel("mean of both volumes (ml)")
    axes.set_ylabel("predicted less true (ml)")


def _relative_panel(axes: Axes, found: Floats, wanted: Floats) -> None:
    mean = (found + wanted) / 2
    percent = 100 * (found - wanted) / mean
    axes.plot(mean, percent, "o", color=COLOURS[0], markersize=3.5, alpha=0.5, markeredgewidth=0)
    axes.set_xscale("log")
    _limits(axes, percent, "%")
    axes.set_xlabel("mean of both volumes (ml, logarithmic); one point a class and case")
    axes.set_ylabel("predicted less true (% of the mean)")


def _limits(axes: Axes, error: Floats, unit: str) -> None:
    """Mean error, and the limits that hold 95 % of single errors if they are normal."""
    mean = float(error.mean())
    spread = 1.96 * float(error.std(ddof=1)) if len(error) > 1 else 0.0
    axes.axhline(0, color="0.75", linewidth=0.9)
    axes.axhline(mean, color=COLOURS[1], linewidth=1.4)
    for end in (mean - spread, mean + spread) if spread else ():
        axes.axhline(end, color=COLOURS[1], linewidth=1.1, linestyle="--")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + _HEADROOM * (high - low))  # the upper limit would run through the words
    axes.annotate(
        f"{mean:+.3g} {unit} ± {spread:.3g}", (0.99, 0.98), xycoords="axes fraction", ha="right", va="top", fontsize=8
    )
    dress(axes)


def differences_png(bars: Sequence[Bar], path: Path, label: str, overwrite: bool) -> Path:
    """Differences with their intervals from top to bottom, and a line at zero."""
    figure = Figure(figsize=(WIDTH, 1.1 + 0.27 * len(bars)), dpi=110, layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(bars))
    values = np.array([bar.value for bar in bars])
    ends = np.array([[bar.value - bar.low, bar.high - bar.value] for bar in bars]).T
    axes.errorbar(values, places, xerr=np.maximum(ends, 0), fmt="o", color=COLOURS[0], markersize=5, capsize=3)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(places, [bar.name for bar in bars])
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlabel(label)
    dress(axes)
    return write_png(figure, path, overwrite)


def curves_png(panels: Mapping[str, Mapping[str, Curve]], path: Path, overwrite: bool) -> Path:
    """ROC, precision-recall and reliability side by side, a line a class.

    Args:
        panels: By title, which is ``x axis | y axis``, the lines by name.
        path: The PNG to write.
        overwrite: Replace an existing picture.
    """
    figure = Figure(figsize=(WIDTH * 1.3, 4.4), dpi=110, layout="constrained")
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    for axes, (title, lines) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        _curve_panel(axes, title, lines, names)
    handles = [_line(figure.axes[0], ([], []), number, name) for number, name in enumerate(names)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(names)), frameon=False)
    return write_png(figure, path, overwrite)


def _curve_panel(axes: Axes, title: str, lines: Mapping[str, Curve], names: Sequence[str]) -> None:
    x_label, _, y_label = title.partition(" | ")
    for name, curve in lines.items():
        _line(axes, curve, names.index(name), name)
    if x_label != "recall":  # by chance a ROC curve and by calibration a reliability curve lie on the diagonal
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, zorder=0)
    axes.set(xlabel=x_label, ylabel=y_label, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    dress(axes)


def _line(axes: Axes, curve: tuple[object, object], number: int, name: str) -> object:
    style = {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}
    few = len(np.atleast_1d(np.asarray(curve[0]))) <= 20
    marker = _MARKERS[number % len(_MARKERS)] if few else None
    return axes.plot(*curve, label=name, marker=marker, markersize=4, linewidth=1.6, **style)[0]  # type: ignore[arg-type]
