"""Lines with intervals in panels."""

from __future__ import annotations

import itertools

import matplotlib.image
import numpy as np
import pytest

from medtransfer.errors import UsageError
from medtransfer.reporting import panels
from medtransfer.reporting.panels import panels_png

TWELVE = ["scratch", *(f"arm {i}" for i in range(11))]
LABELS = {"x_label": "cases", "y_label": "Dice"}


@pytest.fixture
def drawn(monkeypatch):
    """The figure of the last picture."""
    figures = []
    real = panels.Figure

    def keep(*args, **kwargs):
        figures.append(real(*args, **kwargs))
        return figures[-1]

    monkeypatch.setattr(panels, "Figure", keep)
    return lambda: figures[-1]


def lines(names=("scratch", "full"), places=(4, 8)):
    return {name: [(x, 0.5, 0.4, 0.6) for x in places] for name in names}


def test_twelve_lines_are_told_apart_without_colour():
    styles = panels._styles(TWELVE, "scratch")
    assert len({(style["marker"], str(style["linestyle"])) for style in styles.values()}) == 12
    assert len({style["color"] for style in styles.values()}) == 12
    assert styles["scratch"]["color"] == "black"


def test_intervals_at_one_place_do_not_cover_each_other_and_stay_near_it():
    shifts = panels._shifts(TWELVE, "scratch", [4, 8, 16], log_x=True)
    assert shifts["scratch"] == 0
    ordered = sorted(shift for name, shift in shifts.items() if name != "scratch")
    assert min(right - left for left, right in itertools.pairwise(ordered)) > 0.01
    assert max(map(abs, ordered)) < np.log(2) / 4
    alone = panels._shifts(["scratch", "a", "b"], "scratch", [8], log_x=True)
    assert len(set(alone.values())) == 3
    assert set(panels._shifts(TWELVE, "scratch", [], log_x=False).values()) == {0.0}


def test_a_name_looks_alike_in_every_panel_and_stands_in_the_legend_once(tmp_path, drawn):
    both = {"one": lines(), "two": lines(("scratch", "frozen", "full"))}
    panels_png(both, tmp_path / "a.png", baseline="scratch", x_ticks={4: "4", 8: "8"}, log_x=True, **LABELS)
    figure = drawn()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["scratch", "full", "frozen"]
    shown = [[x.get_color() for x in axes.get_lines() if len(x.get_xdata()) and x.get_linestyle() != "None"]
             for axes in figure.axes]  # fmt: skip
    assert shown[0] == shown[1][:2]
    assert shown[0][0] == "black"
    assert len(set(shown[1])) == 3
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["one", "two"]
    assert figure.axes[0].get_xscale() == "log"
    assert [axes.get_ylabel() for axes in figure.axes] == ["Dice", ""]


def test_intervals_are_drawn_where_they_are(tmp_path, drawn):
    panels_png({"": {"scratch": [(4, 0.5, 0.4, 0.6), (8, 0.7, 0.6, 0.8)], "full": [(4, 0.6, 0.55, 0.75)]}},
               tmp_path / "a.png", baseline="scratch", **LABELS)  # fmt: skip
    bands = drawn().axes[0].collections
    corners = [path.vertices for band in bands for path in band.get_paths()]
    assert any(len(points) > 2 and points[:, 1].max() == 0.8 and points[:, 1].min() == 0.4 for points in corners)
    assert any(points.shape == (2, 2) and np.allclose(points, [(4, 0.55), (4, 0.75)]) for points in corners)


@pytest.mark.parametrize("count", [1, 3])
def test_every_lowest_panel_names_its_axis(tmp_path, drawn, count):
    file = panels_png({f"panel {i}": lines() for i in range(count)}, tmp_path / "a.png", **LABELS)
    shown = [axes for axes in drawn().axes if axes.get_visible()]
    assert len(shown) == count
    assert [axes.get_xlabel() for axes in shown] == {1: ["cases"], 3: ["", "cases", "cases"]}[count]
    assert matplotlib.image.imread(file).shape[1] > 900


@pytest.mark.parametrize("given", [{}, {"a": {}}, {"a": {"full": []}}])
def test_nothing_to_draw_is_said(tmp_path, given):
    with pytest.raises(UsageError, match="nothing to draw"):
        panels_png(given, tmp_path / "a.png", **LABELS)
    assert not list(tmp_path.iterdir())
