"""What is written in a chart can be read."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medtransfer.evaluation import charts


@pytest.mark.parametrize("noise", [0.01, 3.0])
def test_no_line_runs_through_the_words_of_a_volume_panel(noise: float) -> None:
    figure = Figure(figsize=(2.9, 2.9), dpi=110, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    true = np.linspace(1, 9, 20)
    charts._volume_panel(axes, "liver", true + noise * np.tile([-1.0, 1.0], 10), true)
    canvas.draw()
    (words,) = axes.texts
    places = [axes.transData.transform((0, line.get_ydata()[0]))[1] for line in axes.lines[1:]]
    box = words.get_window_extent()
    assert len(places) == 4
    assert all(not box.y0 <= place <= box.y1 for place in places)
