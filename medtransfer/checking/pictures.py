"""How the cases of a dataset spread: sizes, spacings, intensities, class volumes; what stands out is orange."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from ..reporting.figures import dress, write_png
from ..reporting.page import Picture
from .checkup import Checkup
from .facts import CaseFacts
from .outliers import BODY_AXES, upright

_USUAL, _FAR = "#0072b2", "#d55e00"
MOST_CHANNELS, MOST_CLASSES = 4, 30
_LOG_FROM = 20.0  # a wider range of values is drawn on a logarithmic axis

Cases = Sequence[CaseFacts]


def spread_pictures(checkup: Checkup, folder: Path) -> list[Picture]:
    """The pictures that there is something to draw for, written to ``folder``."""
    read = [facts for facts in checkup.cases if facts.grid is not None]
    if not read:
        return []
    pictures = [_grids(checkup, read, folder), _intensities(checkup, read, folder)]
    having = [name for name in checkup.classes if any(_ml(facts, name) > 0 for facts in read)]
    return [*pictures, _volumes(checkup, read, having, folder)] if having else pictures


def _grids(checkup: Checkup, cases: Cases, folder: Path) -> Picture:
    figure = Figure(figsize=(8.6, 2.9), dpi=120, layout="constrained")
    spacing, field = figure.subplots(1, 2)
    grids = [facts.grid for facts in cases if facts.grid is not None]
    spacings = np.array([upright(grid.spacing, grid.orientation) for grid in grids])
    extents = np.array([upright(np.multiply(grid.shape, grid.spacing).tolist(), grid.orientation) for grid in grids])
    far = {rule: [facts.case in _named(checkup, rule) for facts in cases] for rule in ("spacing", "size")}
    _strips(spacing, spacings, far["spacing"], "spacing, mm")
    _strips(field, extents, far["size"], "field of view, mm")
    path = write_png(figure, folder / "grids.png", overwrite=True)
    text = "Spacing and field of view of every case along the three axes of the patient"
    return Picture(path, text, f"{text}: a dot a case, the bar is the median.")


def _strips(axes: Axes, values: np.ndarray, far: Sequence[bool], label: str) -> None:
    """Columns of dots, one a column of ``values``, set apart by the same small amounts in every picture."""
    apart = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else np.zeros(1)
    colours = [_FAR if one else _USUAL for one in far]
    for column in range(values.shape[1]):
        axes.scatter(column + apart, values[:, column], s=12, c=colours, alpha=0.7, linewidths=0)
        middle = float(np.median(values[:, column]))
        axes.plot([column - 0.3, column + 0.3], [middle, middle], color="black", linewidth=1)
    axes.set_xticks(range(len(BODY_AXES)), BODY_AXES)
    _label(axes, label)
    _from_zero(axes, values)


def _from_zero(axes: Axes, values: np.ndarray) -> None:
    if values.max() > _LOG_FROM * values.min():
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.08 * float(values.max()))


def _intensities(checkup: Checkup, cases: Cases, folder: Path) -> Picture:
    channels = checkup.channels[:MOST_CHANNELS]
    figure = Figure(figsize=(8.6, 0.6 + 2.2 * len(channels)), dpi=120, layout="constrained")
    for axes, channel in zip(figure.subplots(len(channels), 1, squeeze=False)[:, 0], channels, strict=True):
        _channel(axes, channel, [facts for facts in cases if channel in facts.intensities], checkup)
    path = write_png(figure, folder / "intensities.png", overwrite=True)
    more = f" The first {MOST_CHANNELS} channels are shown." if len(checkup.channels) > MOST_CHANNELS else ""
    text = "Intensities of every case from the 0.5 % to the 99.5 % percentile, with the median"
    return Picture(path, text, f"{text}; cases in the order of their medians.{more}")


def _channel(axes: Axes, channel: str, cases: Cases, checkup: Checkup) -> None:
    ordered = sorted(cases, key=lambda facts: facts.intensities[channel].median)
    measured = [facts.intensities[channel] for facts in ordered]
    far = _named(checkup, "intensity")
    colours = [_FAR if facts.case in far else _USUAL for facts in ordered]
    places = np.arange(len(ordered))
    axes.vlines(places, [m.low for m in measured], [m.high for m in measured], colors=colours, linewidth=1.6)
    axes.scatter(places, [m.median for m in measured], s=9, c="black", zorder=3, linewidths=0)
    axes.set_xticks([])
    axes.margins(x=0.01)
    highs = [abs(m.high) for m in measured if m.high]
    if highs and max(highs) > _LOG_FROM * float(np.median(highs)):
        axes.set_yscale("symlog", linthresh=max(float(np.median(highs)) / 10, 1e-6))
    _label(axes, channel)


def _volumes(checkup: Checkup, cases: Cases, classes: Sequence[str], folder: Path) -> Picture:
    """Class volumes on a logarithmic axis, a line a class; of many classes the first ones."""
    shown = classes[:MOST_CLASSES]
    figure = Figure(figsize=(8.6, 0.9 + 0.28 * len(shown)), dpi=120, layout="constrained")
    axes = figure.subplots()
    far = _named(checkup, "volume")
    for line, name in enumerate(shown):
        having = [(facts.case, _ml(facts, name)) for facts in cases if _ml(facts, name) > 0]
        values = np.array([ml for _, ml in having])
        apart = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(1)
        colours = [_FAR if case in far else _USUAL for case, _ in having]
        axes.scatter(values, line + apart, s=10, c=colours, alpha=0.7, linewidths=0)
        axes.plot([np.median(values)] * 2, [line - 0.3, line + 0.3], color="black", linewidth=1)
    axes.set_yticks(range(len(shown)), [name.replace("$", r"\$")[:40] for name in shown])
    axes.invert_yaxis()
    _label(axes, "")
    sizes = [_ml(facts, name) for facts in cases for name in shown if _ml(facts, name) > 0]
    wide = max(sizes) > _LOG_FROM * min(sizes)
    axes.set_xlabel("ml (logarithmic)" if wide else "ml")
    if wide:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        axes.set_xlim(0, 1.05 * max(sizes))
    path = write_png(figure, folder / "volumes.png", overwrite=True)
    more = f" The first {MOST_CLASSES} of {len(classes)} classes are shown." if len(classes) > MOST_CLASSES else ""
    text = "Volume of every class in every case that has it"
    return Picture(path, text, f"{text}: a dot a case, the bar is the median.{more}")


def _ml(facts: CaseFacts, name: str) -> float:
    size = (facts.labels or {}).get(name)
    return size.ml if size else 0.0


def _named(checkup: Checkup, rule: str) -> Collection[str]:
    return {problem.case for problem in checkup.problems if problem.rule == rule}


def _label(axes: Axes, label: str) -> None:
    axes.set_ylabel(label.replace("$", r"\$"))
    dress(axes)
