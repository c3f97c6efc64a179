"""The whole demo on a small brain for a few steps: every file is there, and says what was found."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import medtransfer as mt
from medtransfer.cli.main import run as command_line
from medtransfer.demo import run as demo
from medtransfer.demo.result import DemoResult
from medtransfer.demo.template import CLASSES
from medtransfer.errors import OutputExistsError
from medtransfer.scoring.overlap import overlap

QUICK = {
    "train_cfg.max_epochs": 1,
    "model.network.stem_channels": 4,
    "model.network.base_channels": 4,
    "train_dataloader.sampler.samples_per_epoch": 64,
}


@pytest.fixture(scope="module")
def finished(small_template, tmp_path_factory):
    """A demo's folder, its result and what it logged."""
    folder, lines = tmp_path_factory.mktemp("demo") / "out", []
    result = demo.run_demo(folder, log=lines.append, template=small_template, patches=40, cfg_options=QUICK)
    return folder, result, lines


def test_every_file_that_is_listed_is_there(finished):
    folder, result, _ = finished
    assert all((folder / name).exists() for name in result.files)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["out"]


def test_the_mask_lies_on_the_scans_own_grid(finished):
    folder, _, _ = finished
    scan, mask = (nib.load(folder / name / "template_t1.nii.gz") for name in ("data", "prediction"))
    assert scan.shape == mask.shape
    np.testing.assert_array_equal(scan.affine, mask.affine)


def test_the_scores_are_those_of_the_written_masks(finished, small_template):
    folder, result, _ = finished
    for name, scores in (("prediction", result.transfer), ("prediction_scratch", result.scratch)):
        mask = np.asanyarray(nib.load(folder / name / "template_t1.nii.gz").dataobj)[:, :, 106:]
        wanted = small_template.labels[:, :, 106:]
        dice = {name: overlap(mask == n, wanted == n).dice for n, name in enumerate(CLASSES) if n}
        assert scores == pytest.approx(dice, nan_ok=True)


def test_the_encoder_came_whole_from_the_classifier(finished):
    folder, result, _ = finished
    assert "100.0% of the encoder's parameters" in result.report
    assert json.loads((folder / "transfer" / "transfer.json").read_text())["coverage"] == 1.0
    assert not (folder / "scratch" / "transfer.json").exists()
    assert mt.load(folder / "transfer" / "best").card.spacing == [2.0, 2.0, 2.0]


def test_both_segmenters_had_the_same_budget_and_seed(finished):
    folder, _, _ = finished
    reports = [json.loads((folder / name / "report.json").read_text()) for name in ("transfer", "scratch")]
    for key in ("steps", "seed", "training_cases"):
        assert reports[0][key] == reports[1][key]


def test_the_page_is_self_contained_and_honest(finished):
    folder, result, _ = finished
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)
    assert html.count("<img ") == 4
    assert result.verdict() in html.replace("&#39;", "'")
    assert "does not show how well a model does on new patients" in html


def test_nothing_speaks_of_the_temporary_folder(finished):
    folder, _, _ = finished
    texts = [path for path in folder.rglob("*") if path.suffix in (".json", ".html", ".py", ".log", ".csv", ".md")]
    assert not [path for path in texts if "out.part" in path.read_text(encoding="utf-8")]
    inputs = json.loads((folder / "prediction" / "template_t1.json").read_text())["inputs"]
    assert all(Path(path).is_file() for path in inputs)


def test_the_log_counts_the_parts(finished):
    _, result, lines = finished
    assert [line.split("/")[0] for line in lines] == ["1", "2", "3", "4", "5", "6"]
    assert len(result.seconds) == 6


def test_an_interrupted_demo_leaves_nothing_and_an_older_one_stays(small_template, tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "demo.json").write_text("older")
    with pytest.raises(OutputExistsError):
        demo.run_demo(tmp_path / "out", template=small_template)
    monkeypatch.setattr(demo, "train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        demo.run_demo(tmp_path / "out", overwrite=True, template=small_template, patches=8)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "demo.json").read_text() == "older"


@pytest.mark.parametrize("scratch, word", [(0.5, "helped"), (0.9, "harmed"), (0.79, "less than another seed")])
def test_the_verdict_follows_the_numbers(scratch, word):
    result = DemoResult("out", {"a": 0.8}, {"a": scratch}, "", {}, {"a.txt": "a file"})
    assert word in result.verdict()
    assert "out" in str(result)


def test_the_command_prints_the_result(monkeypatch, tmp_path, capsys):
    result = DemoResult("out", {"a": 0.8}, {"a": 0.7}, "the report", {"all": 1.0}, {"report.html": "the page"})
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setattr(demo, "run_demo", lambda folder, overwrite, log: result)
    assert command_line(["demo", "-o", str(tmp_path / "new")]) == 0
    out = capsys.readouterr().out
    assert "the report" in out
    assert "report.html  the page" in out
    assert command_line(["demo", "-o", str(tmp_path / "new"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scratch"] == {"a": 0.7}


def test_a03_the_command_refuses_a_folder_before_any_work(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(demo, "run_demo", lambda *arguments, **options: pytest.fail("must not run"))
    (tmp_path / "thesis.tex").touch()
    assert command_line(["demo", "-o", str(tmp_path)]) == 2
    assert command_line(["demo", "-o", str(tmp_path), "--overwrite"]) == 2
    assert "without demo.json" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").exists()
