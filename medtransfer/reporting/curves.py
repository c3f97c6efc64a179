"""Curves of several runs in one picture: a metric or a loss over steps, told apart by colour, dash and marker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ..errors import UsageError
from .figures import write_png

# dark colours of Okabe and Ito, which stand out on white; dash and marker carry the meaning without colour too
_STYLES = (("#0072b2", "-", "o"), ("#d55e00", "--", "s"), ("#009e73", "-.", "^"), ("#cc79a7", ":", "D"))

Curve = Sequence[tuple[float, float]]


def curves_png(
    curves: Mapping[str, Curve],
    path: str | Path,
    *,
    title: str = "",
    step_label: str = "step",
    value_label: str = "value",
    value_range: tuple[float, float] | None = None,
    overwrite: bool = False,
) -> Path:
    """Draw one line per run over the same axes; each line's last value is written beside its end.

    Args:
        curves: (step, value) pairs by the run's name, in step order.
        path: The PNG to write.
        title: A line over the picture.
        step_label: What the horizontal axis counts.
        value_label: What the vertical axis measures, with its unit.
        value_range: Lowest and highest value drawn; from the data when not given.
        overwrite: Replace an existing picture.

    Raises:
        UsageError: there is no run, or one without points.
        OutputExistsError: ``path`` exists and ``overwrite`` is false.

    >>> import tempfile
    >>> file = curves_png({"a": [(0, 0.1), (1, 0.6)], "b": [(0, 0.2)]}, Path(tempfile.mkdtemp()) / "dice.png")
    >>> file.stat().st_size > 1000
    True
    """
    empty = [name for name, curve in curves.items() if not len(curve)]
    if empty or not curves:
        raise UsageError(f"nothing to draw: {', '.join(empty) or 'no run was given'} has no points")
    figure = _draw(curves)
    axes = figure.axes[0]
    axes.set_xlabel(step_label)
    axes.set_ylabel(value_label)
    axes.set_title(title, fontsize=12, loc="left")
    if value_range is not None:
        axes.set_ylim(*value_range)
    return write_png(figure, path, overwrite)


def _draw(curves: Mapping[str, Curve]) -> Figure:
    figure = Figure(figsize=(8, 4.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    heights = _end_heights([curve[-1][1] for curve in curves.values()])
    for index, (name, curve) in enumerate(curves.items()):
        colour, dash, marker = _STYLES[index % len(_STYLES)]
        steps, values = zip(*curve, strict=True)
        every = max(1, len(curve) // 12)
        axes.plot(steps, values, color=colour, linestyle=dash, marker=marker, markevery=every, label=name, linewidth=2)
        axes.annotate(
            f"{values[-1]:.3f}", (steps[-1], values[-1]), xytext=(6, heights[index]), textcoords="offset points",
            color=colour, va="center", fontsize=9,
        )  # fmt: skip
    axes.grid(color="0.88")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.08)
    axes.legend(frameon=False)
    return figure


def _end_heights(ends: Sequence[float]) -> list[int]:
    """Offsets in points for the end values, from the lowest up, so that close ones do not cover each other.

    >>> _end_heights([0.8, 0.2])
    [5, -5]
    """
    order = sorted(range(len(ends)), key=ends.__getitem__)
    heights = dict(zip(order, range(-5 * (len(ends) - 1), 5 * len(ends), 10), strict=True))
    return [heights[index] for index in range(len(ends))]
