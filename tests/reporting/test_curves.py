"""Curves of several runs."""

from __future__ import annotations

import pytest

from medtransfer.errors import UsageError
from medtransfer.reporting import curves
from medtransfer.reporting.curves import curves_png

RUNS = {"with transfer": [(0, 0.2), (10, 0.8)], "from scratch": [(0, 0.1), (10, 0.79)]}


def test_runs_differ_in_dash_and_marker_not_only_in_colour():
    lines = curves._draw(RUNS).axes[0].get_lines()
    assert [line.get_label() for line in lines] == list(RUNS)
    assert len({line.get_linestyle() for line in lines}) == len({line.get_marker() for line in lines}) == 2


def test_last_values_are_written_and_kept_apart():
    notes = curves._draw(RUNS).axes[0].texts
    assert [note.get_text() for note in notes] == ["0.800", "0.790"]
    assert notes[0].xyann[1] > notes[1].xyann[1]


def test_the_picture_is_written(tmp_path):
    file = curves_png(RUNS, tmp_path / "a.png", title="Dice", value_range=(0, 1))
    assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("runs, words", [({}, "no run was given"), ({"a": [(0, 1)], "b": []}, "b has no points")])
def test_nothing_to_draw_is_said(tmp_path, runs, words):
    with pytest.raises(UsageError, match=words):
        curves_png(runs, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
