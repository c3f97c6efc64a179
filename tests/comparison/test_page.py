"""The page of a comparison: its answer, its figures, and reports of any part of the runs."""

from __future__ import annotations

import csv
import json
import math
import re
from functools import partial

import msgspec
import numpy as np
import pytest

from medtransfer.comparison import page, pictures
from medtransfer.comparison.gathered import gather
from medtransfer.comparison.measures import MEASURES
from medtransfer.comparison.page import write_report
from medtransfer.comparison.pictures import mean_curve
from medtransfer.comparison.results import read_result, write_result
from medtransfer.comparison.statistics import analyse
from medtransfer.comparison.wording import answer
from medtransfer.errors import DatasetError, UsageError
from medtransfer.reporting.curves import curves_png
from tests.comparison.synthetic import full_comparison, made_run

NAMES = ["report.html", "summary.json", "table.csv"]


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch):
    monkeypatch.setattr(page, "analyse", partial(analyse, draws=200))


@pytest.fixture
def _undrawn(monkeypatch, tmp_path_factory):
    """One small picture in place of all, where pictures do not matter."""
    one = curves_png({"a": [(0, 0)]}, tmp_path_factory.mktemp("drawn") / "a.png")

    def copy(panels, path, **labels):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(one.read_bytes())
        return path

    monkeypatch.setattr(pictures, "panels_png", copy)


def flat(arm, size, value, seeds=3, **fields):
    """Seeds with nearly the same score on every test case."""
    return [made_run(arm, size, seed, [value + 0.001 * seed] * 3, **fields) for seed in range(seeds)]


def spoken(runs):
    gathered = gather(runs)
    return answer(analyse(gathered, MEASURES[runs[0].task][0], 300), gathered)


SCRATCH = [run for size, value in ((4, 0.4), (8, 0.5), (16, 0.6)) for run in flat("scratch", size, value)]


# --- the answer ----------------------------------------------------------------------------------------------------
def test_help_is_said_with_its_worth():
    words = spoken([*SCRATCH, *flat("a/full", 4, 0.5), *flat("a/full", 8, 0.6), *flat("a/frozen", 4, 0.3)])
    assert words.startswith("Yes: a/full scored higher than scratch with 4 and 8 labelled cases, by 0.100 and 0.100")
    assert "Scratch needs about 8 and 16 labelled cases for these scores" in words
    assert "Of 3 comparisons with scratch 2 help, 1 hurts; in 0 no difference was shown." in words


def test_a_single_help_is_said_to_be_possibly_chance():
    words = spoken([*SCRATCH, *flat("a/full", 4, 0.7)])
    assert "Scratch needs about >16 labelled cases for that score" in words
    assert words.endswith("So few can be chance: about 0.0 would seem to help if none did.")


def test_harm_is_said():
    words = spoken([*SCRATCH, *flat("a/frozen", 8, 0.3)])
    assert words.startswith("No, it hurt: no arm scored higher than scratch beyond chance.")
    assert "less than scratch reached with 4" in words


def test_nothing_shown_is_not_called_equal():
    unsure = [made_run("a/full", 8, seed, [value] * 3) for seed, value in enumerate((0.4, 0.5, 0.63))]
    words = spoken([*SCRATCH, *unsure])
    assert words.startswith("It was not shown to help")
    assert "can hide here" in words


@pytest.mark.parametrize("seeds, be", [(1, "there is 1 seed"), (2, "there are 2 seeds")])
def test_too_few_seeds_are_said(seeds, be):
    words = spoken([*flat("scratch", 8, 0.5, seeds), *flat("a/full", 8, 0.7, seeds)])
    assert words.startswith(f"Too few seeds to say whether it helped: {be}, and 3 are the least.")
    assert "a/full did best" in words


@pytest.mark.parametrize(
    "runs, words",
    [
        (flat("a/full", 8, 0.5), "No run from scratch is finished"),
        (SCRATCH, "No transfer has finished where scratch has too"),
        ([*flat("scratch", 4, 0.5), *flat("a/full", 8, 0.5)], "No transfer has finished where scratch has too"),
    ],
)
def test_what_cannot_be_said_yet(runs, words):
    assert spoken(runs).startswith(words)


# --- the files -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A report of 2 sources x 3 policies x 4 sizes x 3 seeds, less two runs."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "analyse", partial(analyse, draws=300))
        write_report(full_comparison()[:-2], folder, "Hippocampus <40>")
    return folder


def test_the_page_has_answer_tables_pictures_and_what_is_missing(full):
    html = (full / "report.html").read_text(encoding="utf-8")
    summary = json.loads((full / "summary.json").read_text(encoding="utf-8"))
    assert "Hippocampus &lt;40&gt;" in html
    assert f'<p class="lead">{summary["answer"]}</p>' in html
    assert html.count("data:image/png;base64,") == 4
    assert "2 runs of 84 have not finished, or failed" in html
    assert "Every run had 500 steps" in html
    for title in ("Did it help?", "Differences to scratch", "Training", "How it was done", "What this does not show"):
        assert f"<h2>{title}</h2>" in html
    assert "ct_organ/full" in html
    assert "1 seed" in html


def test_the_summary_has_all_figures(full):
    summary = json.loads((full / "summary.json").read_text(encoding="utf-8"))
    (measure,) = summary["measures"]
    assert [len(measure[part]) for part in ("scores", "differences", "worths")] == [28, 24, 24]
    assert len(summary["missing"]) == 2
    assert summary["steps"] == [500]
    words = {worth["words"].split(" ")[0] for worth in measure["worths"] if worth["value"] is None}
    assert words <= {"<4", ">32"}
    assert len(summary["drift"]) == 24


def test_the_table_has_one_row_a_run(full):
    with (full / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 82
    first = full_comparison()[0]
    expected = np.mean([case["organ"] for case in first.cases.values()])
    assert (rows[0]["arm"], rows[0]["source"], rows[0]["drift_stem"]) == ("scratch", "", "")
    assert float(rows[0]["dice"]) == float(rows[0]["dice_organ"]) == pytest.approx(expected)


@pytest.mark.parametrize(
    "runs",
    [
        flat("scratch", 8, 0.5, seeds=1),
        flat("a/full", 8, 0.5, seeds=1, curve=[], dead={}, drift={}, versions={}),
        [*flat("scratch", 8, 0.5, seeds=1), *flat("a/full", 16, 0.5, seeds=2)],
        [made_run("scratch", 8, 0, {"x": {"organ": 0.5, "other": None}}, curve=[(0, None), (9, None)])],
        [made_run("scratch", 8, 0, {"x": {"organ": None}}), made_run("a/full", 8, 0, {"x": {"organ": 0.5}})],
    ],
    ids=["one run", "bare", "no common size", "no loss", "no score"],
)
def test_any_part_gives_a_report(tmp_path, runs):
    write_report(runs, tmp_path / "new", "Part")
    assert {file.name for file in (tmp_path / "new").iterdir()} >= set(NAMES)
    text = (tmp_path / "new" / "summary.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    html = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    assert "nan" not in re.sub('src="[^"]*"', "", html)


@pytest.mark.usefixtures("_undrawn")
def test_a_classification_is_judged_by_auroc_and_shows_accuracy(tmp_path):
    generator, runs = np.random.default_rng(0), []
    for arm, strength in (("scratch", 0.3), ("a/full", 1.5)):
        for seed in range(3):
            shift = generator.normal(size=12) + strength * np.repeat([1, -1], 6)
            chance = (1 / (1 + np.exp(-shift))).tolist()
            cases = {f"c{i}": {"probabilities": [p, 1 - p], "label": i // 6} for i, p in enumerate(chance)}
            runs.append(made_run(arm, 8, seed, cases, task="classification", classes=["a", "b"]))
    html = write_report(runs, tmp_path, "Organs").read_text(encoding="utf-8")
    assert "<h2>AUROC of every arm</h2>" in html
    assert "<h2>The same by accuracy</h2>" in html
    assert "somewhat too narrow" in html
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert [measure["name"] for measure in summary["measures"]] == ["AUROC", "accuracy"]


@pytest.mark.usefixtures("_undrawn")
def test_unequal_budgets_are_pointed_out(tmp_path):
    runs = [*flat("scratch", 8, 0.5, seeds=1), *flat("a/full", 8, 0.5, seeds=1, steps=900)]
    html = write_report(runs, tmp_path, "t").read_text(encoding="utf-8")
    assert "different numbers of steps, from 500 to 900" in html


@pytest.mark.usefixtures("_undrawn")
def test_an_older_report_is_replaced_and_stays_if_the_new_one_fails(tmp_path):
    write_report(flat("scratch", 8, 0.5), tmp_path, "first")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(UsageError, match="no finished run"):
        write_report([], tmp_path, "second")
    with pytest.raises(DatasetError, match="two results"):
        write_report(flat("scratch", 8, 0.5) * 2, tmp_path, "second")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert "third" in write_report(flat("scratch", 8, 0.6), tmp_path, "third").read_text(encoding="utf-8")
    assert not list(tmp_path.glob("*.part*"))


def test_results_that_went_through_files_give_the_same_report(tmp_path):
    run = made_run("scratch", 8, 0, {"x": {"organ": 0.1 + 0.2, "other": None}})
    write_result(run, tmp_path / "a.json")
    assert msgspec.to_builtins(read_result(tmp_path / "a.json")) == msgspec.to_builtins(run)


def test_the_mean_curve_is_over_steps_that_all_seeds_have():
    curves = [[(0, 1.0), (10, 0.5), (20, None)], [(0, 2.0), (10, 1.5), (20, 0.1), (30, math.nan)]]
    runs = [made_run("scratch", 8, seed, [0.5], curve=curve) for seed, curve in enumerate(curves)]
    assert mean_curve(runs) == [(0, 1.5), (10, 1.0)]
