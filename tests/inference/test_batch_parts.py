"""Processes that share a batch: every scan once, one report, the right ending."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medtransfer.errors import UsageError
from medtransfer.inference.batch import Batch, device_of_process, predict_batch
from medtransfer.inference.parts import Part
from medtransfer.inference.predictor import Predictor

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "x"}


@pytest.fixture
def predictor(networks: Any) -> Predictor:
    return Predictor(networks["threshold"](), device="cpu", card={"intensity": {"scheme": "none"}})


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in "abcde":
        values = np.random.default_rng(0).normal(size=(4, 4, 4)).astype(np.float32)
        nib.save(nib.Nifti1Image(values, np.eye(4)), folder / f"{name}.nii")
    (folder / "c.nii").write_text("not a scan")
    return folder


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_parts_take_every_case_once_in_whatever_order_they_are_listed(count: int) -> None:
    cases = [f"case{number}" for number in range(11)]
    taken = [Part(number, count).take(cases, str) for number in range(count)]
    assert sorted(case for part in taken for case in part) == sorted(cases)
    assert taken == [Part(number, count).take(cases if count == 1 else cases[::-1], str) for number in range(count)]
    assert max(map(len, taken)) - min(map(len, taken)) <= 1


@pytest.mark.parametrize("number, count", [(2, 2), (-1, 2), (0, 0)])
def test_a_part_that_is_none_is_refused(number: int, count: int) -> None:
    with pytest.raises(UsageError, match="numbered from 0"):
        Part(number, count)


def test_the_part_comes_from_options_or_torchrun() -> None:
    assert Part.of_process(environment={}).count == 1
    rank = Part.of_process(environment=TORCHRUN)
    assert (rank.number, rank.count, rank.run, rank.local, rank.leads) == (1, 2, "x:0", 1, False)
    assert Part.of_process(environment={**TORCHRUN, "TORCHELASTIC_RESTART_COUNT": "3"}).run == "x:3"
    # one process, or variables that something else has set, are no batch of several
    assert Part.of_process(environment={**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"}).count == 1
    assert Part.of_process(environment={"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}).count == 1
    for arguments in ((1, None), (None, 2)):
        with pytest.raises(UsageError, match="belong together"):
            Part.of_process(*arguments, environment={})
    with pytest.raises(UsageError, match="torchrun's processes are the parts already"):
        Part.of_process(0, 2, TORCHRUN)


def test_each_process_of_torchrun_takes_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    rank = Part.of_process(environment=TORCHRUN)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert [device_of_process(name, rank) for name in ("auto", "cuda", "cuda:0", "cpu")] == [
        *("cuda:1", "cuda:1", "cuda:0", "cpu")
    ]
    assert device_of_process("auto", Part(1, 2)) == "auto"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device_of_process("auto", rank) == "auto"


def test_the_part_that_ends_last_merges_the_reports(predictor: Predictor, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    last = predict_batch(predictor, scans, out, part=(1, 2))
    assert [case["case"] for case in last.report["cases"]] == ["b", "d"]
    assert not (out / "report.json").exists()
    first = predict_batch(predictor, scans, out, part=(0, 2))
    assert (first.failed, first.exit_code, last.exit_code) == (["c"], 5, 0)
    merged = json.loads((out / "report.json").read_text())
    assert [case["case"] for case in merged["cases"]] == list("abcde")
    assert (merged["done"], merged["failed"]) == (4, ["c"])
    assert (out / "labels.ctbl").exists()
    assert {path.name for path in out.glob("report.part*")} == {f"report.part-{k}-of-2.json" for k in (0, 1)}
    again = predict_batch(predictor, scans, out, part=(0, 2), overwrite=True)
    assert again.report["failed"] == ["c"]


def test_a_report_of_another_batch_is_not_merged(predictor: Predictor, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_batch(predictor, scans / "e.nii", out, part=(1, 2))  # its only scan is part 0's
    (scans / "c.nii").unlink()
    predict_batch(predictor, [scans / "a.nii", scans / "b.nii"], out, part=(0, 2))
    assert not (out / "report.json").exists()


def test_a06_names_are_compared_over_all_parts(predictor: Predictor, scans: Path, tmp_path: Path) -> None:
    (scans / "b.nii.gz").touch()
    with pytest.raises(UsageError, match="would both be written as 'b'"):
        predict_batch(predictor, scans, tmp_path / "out", part=(0, 2))


def test_outputs_of_other_parts_are_in_nobodys_way(predictor: Predictor, scans: Path, tmp_path: Path) -> None:
    predict_batch(predictor, scans, tmp_path / "out", part=(0, 3))
    assert predict_batch(predictor, scans, tmp_path / "out", part=(1, 3)).report["done"] == 2


def test_only_the_first_of_torchrun_ends_with_5() -> None:
    report = {"failed": ["c"]}
    assert [Batch(Path(), report, is_leading).exit_code for is_leading in (True, False)] == [5, 0]


def test_the_first_of_torchrun_waits_for_this_very_run(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    first, second, restarted = Part(0, 2, "x:0", 0), Part(1, 2, "x:0", 1), Part(1, 2, "x:1", 1)
    old = predict_batch(predictor, scans, out, part=second)
    assert (old.is_leading, old.exit_code) == (False, 0)
    report = out / second.report_name()
    report.write_text(report.read_text().replace('"written": 1', '"written": 0.1'))  # by an earlier run
    meanwhile = [restarted, second]

    def sleep(seconds: float) -> None:
        assert predict_batch(predictor, scans, out, part=meanwhile.pop(0), overwrite=True).exit_code == 0

    monkeypatch.setattr("medtransfer.inference.parts.time.sleep", sleep)
    batch = predict_batch(predictor, scans, out, part=first)
    assert meanwhile == [], "it took the report of an earlier run, or of one that was restarted"
    assert (batch.is_leading, batch.exit_code, batch.failed) == (True, 5, ["c"])
    assert [case["case"] for case in batch.report["cases"]] == list("abcde")


def test_a_number_of_parts_that_nobody_starts_costs_no_time(tmp_path: Path) -> None:
    begin = time.perf_counter()
    assert Part(3, 50_000_000).gather(tmp_path, "order") is None
    assert time.perf_counter() - begin < 1
