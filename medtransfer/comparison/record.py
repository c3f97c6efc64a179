"""The figures of a comparison as files for other programs: one row a run, and everything in one JSON document."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_json
from ..reporting import spreadsheet
from .gathered import Gathered
from .measures import MEASURES, class_dice
from .results import RunResult
from .statistics import Analysis
from .wording import worth_words


def write_table(gathered: Gathered, path: Path) -> Path:
    """Write a CSV with one row a run: what it was, its scores, losses, features and time; gaps are empty."""
    rows = [_row(run, gathered.test_cases) for run in gathered.all_runs]
    header = list(dict.fromkeys(name for row in rows for name in row))
    return spreadsheet.write_table(path, header, ([row.get(name) for name in header] for row in rows), overwrite=True)


def write_summary(gathered: Gathered, analyses: Sequence[Analysis], path: Path, **words: str) -> Path:
    """Write all figures as JSON, with the given words first; NaN and what lies outside the measured sizes are null."""
    document = {
        **words,
        "task": gathered.first.task,
        "arms": gathered.arms,
        "training_cases": gathered.sizes,
        "seeds": gathered.seeds,
        "test_cases": gathered.test_cases,
        "steps": sorted({run.steps for run in gathered.all_runs}),
        "missing": [dict(zip(("arm", "training_cases", "seed"), run, strict=True)) for run in gathered.missing],
        "measures": [_measure(analysis) for analysis in analyses],
        "drift": _features(gathered, "drift"),
        "dead": _features(gathered, "dead"),
        "seconds": sum(run.seconds for run in gathered.all_runs),
    }
    write_json(path, document)
    return path


def stage_means(runs: Sequence[RunResult], what: str) -> dict[str, float]:
    """Mean of ``drift`` or ``dead`` by stage over the runs that have it."""
    found: dict[str, list[float]] = {}
    for run in runs:
        for stage, value in (getattr(run, what) or {}).items():
            found.setdefault(stage, []).append(value)
    return {stage: float(np.mean(values)) for stage, values in found.items()}


def _row(run: RunResult, test_cases: Sequence[str]) -> dict[str, Any]:
    equal = np.ones((1, len(test_cases)))
    losses = [loss for _, loss in run.curve if loss is not None]
    row: dict[str, Any] = {
        **{name: getattr(run, name) for name in ("arm", "source", "policy", "training_cases", "seed", "steps")},
        **{measure.name.lower(): float(measure.scores(run, test_cases, equal)[0]) for measure in MEASURES[run.task]},
        **({f"dice_{name}": dice for name, dice in class_dice(run).items()} if run.task == "segmentation" else {}),
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        **{f"drift_{stage}": value for stage, value in (run.drift or {}).items()},
        **{f"dead_{stage}": value for stage, value in run.dead.items()},
        "seconds": run.seconds,
    }
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def _measure(analysis: Analysis) -> dict[str, Any]:
    worths = [{**asdict(worth), "words": worth_words(worth)} for worth in analysis.worths]
    return {
        "name": analysis.measure,
        "scores": [asdict(score) for score in analysis.scores],
        "differences": [asdict(difference) for difference in analysis.differences],
        "worths": worths,
    }


def _features(gathered: Gathered, what: str) -> list[dict[str, Any]]:
    cells = [(cell, stage_means(list(gathered.runs[cell].values()), what)) for cell in gathered.cells]
    return [{"arm": arm, "training_cases": size, "stages": means} for (arm, size), means in cells if means]
