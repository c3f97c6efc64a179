"""The part of an evaluation's page that is of estimated quantities: pictures, and the largest errors."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..reporting.figures import dress, write_png
from ..reporting.page import Picture, Section, Table
from .charts import COLOURS, MOST_PANELS, WIDTH, Floats
from .findings import Findings, Model
from .regressed import Regressed

WORST = 15


def value_sections(findings: Findings, folder: Path, overwrite: bool) -> list[Section]:
    """All sections between the scores and what is missing."""
    pictures = [_picture(model, number, folder, overwrite) for number, model in enumerate(findings.models, 1)]
    return [
        Section("All cases", "", (), pictures),
        Section("Where to look first", "", [_worst(model) for model in findings.models]),
    ]


def value_rules(findings: Findings) -> str:
    """How errors were counted, in words."""
    return (
        "Errors are predicted less true values, in the unit of each quantity, so that several quantities have no mean "
        "error. R2 is 1 less the mean squared error over the variance of the true values, and negative where their "
        "mean would be the better guess. Cases without a true value count nowhere."
    )


def _results(model: Model) -> Regressed:
    assert isinstance(model.drawn.results, Regressed)
    return model.drawn.results


def _picture(model: Model, number: int, folder: Path, overwrite: bool) -> Picture:
    path = _values_png(_results(model), folder / f"values_{number}.png", model.name, overwrite)
    return Picture(path, f"Predicted over true values of {model.name}", "On the grey line both are equal.")


def _values_png(results: Regressed, path: Path, name: str, overwrite: bool) -> Path:
    count = min(len(results.names), MOST_PANELS)
    columns = min(3, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(min(WIDTH, 4.6 * columns), 0.5 + 3.6 * rows), dpi=110, layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for place, (axes, quantity) in enumerate(zip(grid, results.names.values(), strict=False)):
        _panel(axes, quantity, results.found[:, place], results.wanted[:, place])
    for axes in grid[count:]:
        axes.set_visible(False)
    figure.suptitle(name, fontsize=10, x=0.01, ha="left")
    return write_png(figure, path, overwrite)


def _panel(axes: Axes, quantity: str, found: Floats, wanted: Floats) -> None:
    known = np.isfinite(wanted)
    axes.plot(wanted[known], found[known], "o", color=COLOURS[0], markersize=3.5, alpha=0.6, markeredgewidth=0)
    if known.any():
        ends = [min(found[known].min(), wanted[known].min()), max(found[known].max(), wanted[known].max())]
        axes.plot(ends, ends, color="0.7", linewidth=1, zorder=0)
    axes.set_title(quantity, fontsize=10, loc="left")
    axes.set(xlabel="true", ylabel="predicted")
    dress(axes)


def _worst(model: Model) -> Table:
    rows = sorted(_results(model).rows(), key=lambda row: -abs(row["error"]))[:WORST]
    header = ["case", "quantity", "true", "predicted", "error"]
    cells = [[row["case"], *(row[key] for key in ("quantity", "reference", "predicted", "error"))] for row in rows]
    return Table(header, cells, f"{model.name}: the largest errors.", sortable=True)
