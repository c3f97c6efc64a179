"""The pictures of a comparison's page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..reporting.page import Picture
from ..reporting.panels import Point, panels_png
from .gathered import SCRATCH, Gathered
from .record import stage_means
from .results import RunResult
from .statistics import Analysis
from .wording import cases_counted

Panels = dict[str, dict[str, list[Point]]]


def scores_picture(gathered: Gathered, analysis: Analysis, folder: Path) -> Picture:
    """Scores over labelled cases with their intervals, one panel a source where sources have several policies."""
    path = panels_png(
        {title: _score_lines(analysis, names) for title, names in _panels_of_arms(gathered).items()},
        folder / "scores.png",
        x_label="labelled cases (logarithmic)",
        y_label=f"mean {analysis.measure} over the test cases",
        baseline=SCRATCH,
        x_ticks={float(size): str(size) for size in gathered.sizes},
        log_x=True,
        overwrite=True,
    )
    caption = "Bars, and the grey band around scratch, are 95 % intervals; points are set apart a little to show them."
    return Picture(path, f"Mean {analysis.measure} of every arm over the number of labelled cases", caption)


def _panels_of_arms(gathered: Gathered) -> dict[str, dict[str, str]]:
    """By panel, the arm of each line: a panel a source with a line a policy, where there are several policies."""
    runs = {run.arm: run for run in gathered.all_runs}
    sources = list(dict.fromkeys(run.source for run in runs.values() if run.source))
    policies = {run.policy for run in runs.values() if run.source}
    if len(policies) < 2:
        return {"": {arm: arm for arm in gathered.arms}}
    scratch = {SCRATCH: SCRATCH} if SCRATCH in runs else {}
    return {
        source: {**scratch, **{run.policy: run.arm for run in runs.values() if run.source == source}}
        for source in sources
    }


def _score_lines(analysis: Analysis, names: dict[str, str]) -> dict[str, list[Point]]:
    return {
        name: [(s.training_cases, s.value, s.low, s.high) for s in analysis.scores if s.arm == arm]
        for name, arm in names.items()
    }


def loss_picture(gathered: Gathered, folder: Path) -> Picture | None:
    """Training loss over steps, one panel a number of labelled cases; None if no run kept its losses."""
    panels: Panels = {
        cases_counted(size): {
            arm: mean_curve(list(gathered.runs[arm, size].values()))
            for arm in gathered.arms
            if (arm, size) in gathered.runs
        }
        for size in gathered.sizes
    }
    if not any(points for lines in panels.values() for points in lines.values()):
        return None
    path = panels_png(
        panels, folder / "loss.png", x_label="training step", y_label="training loss", baseline=SCRATCH, overwrite=True
    )
    caption = "Mean over the seeds. A low training loss with few cases is no success by itself: see the test scores."
    return Picture(path, "Training loss of every arm over the steps, a panel a number of labelled cases", caption)


def mean_curve(runs: Sequence[RunResult]) -> list[Point]:
    """Mean loss of several runs at the steps that all of them have; steps without a finite loss are left out."""
    curves = [{step: loss for step, loss in run.curve if loss is not None and np.isfinite(loss)} for run in runs]
    common = sorted(set.intersection(*map(set, curves)))
    return [(step, float(np.mean([curve[step] for curve in curves]))) for step in common]


def features_picture(gathered: Gathered, what: str, folder: Path) -> Picture | None:
    """``drift`` or ``dead`` by stage, in the panels of the scores; None if there is nothing to see."""
    means = {arm: stage_means([run for run in gathered.all_runs if run.arm == arm], what) for arm in gathered.arms}
    values = [value for by_stage in means.values() for value in by_stage.values()]
    if not values or (what == "dead" and max(values) == 0):
        return None
    stages = list(dict.fromkeys(stage for by_stage in means.values() for stage in by_stage))
    top = max(0.1, 1.15 * max(values))
    words, label, value_range = {
        "drift": ("Similarity of the features to those of the start", "linear CKA to the start", (-0.03, 1.06)),
        "dead": ("Share of dead channels", "share of dead channels", (-0.03 * top, top)),
    }[what]
    path = panels_png(
        {
            title: {name: _by_stage(means[arm], stages) for name, arm in names.items()}
            for title, names in _panels_of_arms(gathered).items()
        },
        folder / f"{what}.png",
        x_label="stage of the encoder",
        y_label=label,
        baseline=SCRATCH,
        x_ticks={float(place): stage for place, stage in enumerate(stages)},
        value_range=value_range,
        overwrite=True,
    )
    caption = f"{words} by stage, mean over all seeds and numbers of labelled cases."
    return Picture(path, f"{words} by stage of the encoder, a line an arm", caption)


def _by_stage(means: dict[str, float], stages: Sequence[str]) -> list[Point]:
    return [(place, means[stage]) for place, stage in enumerate(stages) if stage in means]
