"""FROC and precision-recall curves of found boxes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..reporting.figures import dress, write_png
from ..scoring.detection import RATES, Curve, Ranked
from .charts import COLOURS, DASHES, WIDTH

_TICKS = ("1/8", "1/4", "1/2", "1", "2", "4", "8")


def box_curves_png(classes: Mapping[str, Ranked], path: Path, overwrite: bool) -> Path:
    """Sensitivity over false positives a scan beside precision over recall, a line a class.

    Args:
        classes: By name, those with a reference box at least.
        path: The PNG to write.
        overwrite: Replace an existing picture.
    """
    figure = Figure(figsize=(WIDTH, 4.4), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    lines = [
        _lines(left, right, number, name, ranked.froc_curve(), ranked.precision_recall_curve())
        for number, (name, ranked) in enumerate(classes.items())
    ]
    left.set_xscale("log", base=2)
    left.set_xticks(RATES, _TICKS)
    left.minorticks_off()
    left.set(xlabel="false positives a scan", ylabel="sensitivity", xlim=(RATES[0] / 1.15, RATES[-1] * 1.15))
    right.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02))
    for axes in (left, right):
        axes.set_ylim(-0.02, 1.04)
        dress(axes)
    figure.legend(handles=lines, loc="outside lower center", ncols=min(5, len(lines)), frameon=False)
    return write_png(figure, path, overwrite)


def _lines(left: Axes, right: Axes, number: int, name: str, froc: Curve, precision: Curve) -> object:
    style = {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}
    # beyond the last box the sensitivity stays what it is, as it is also read
    end = [max(RATES[-1] * 1.15, froc.x[-1])], [froc.y[-1]]
    left.plot([*froc.x, *end[0]], [*froc.y, *end[1]], linewidth=1.6, **style)  # type: ignore[arg-type]
    return right.plot(*precision, label=name, linewidth=1.6, **style)[0]  # type: ignore[arg-type]
