"""The engine: what a comparison leaves behind, what it refuses, runs that fail, and several processes on one folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
from pathlib import Path

import pytest

from medtransfer.comparison import results, run
from medtransfer.comparison.results import read_results
from medtransfer.errors import (
    ConfigError,
    DatasetError,
    MedTransferError,
    OutputExistsError,
    ResourceError,
    TransferError,
    UsageError,
)
from tests.comparison.conftest import assert_same_results
from tests.training.interruptions import at_step


class TestAFinishedComparison:
    """What is left when all went well."""

    def test_every_run_has_a_result_on_the_same_test_cases(self, unbroken):
        results = {result.arm: result for result in read_results(unbroken / "results")}
        assert set(results) == {"scratch", "tiny/frozen", "tiny/full"}
        assert len({tuple(result.dice) for result in results.values()}) == 1
        for result in results.values():
            assert (result.steps, len(result.dice), result.curve[-1][0]) == (4, 2, 4)
            assert all(0 <= score <= 1 for row in result.dice.values() for score in row.values())
        trained = json.loads((unbroken / "runs/scratch_002_s0/report.json").read_text())["training_cases"]
        assert len(trained) == 2
        assert not set(trained) & set(results["scratch"].cases)

    def test_drift_is_measured_from_the_start_of_the_run(self, unbroken):
        drift = {result.arm: result.drift for result in read_results(unbroken / "results")}
        assert drift["scratch"] is None
        assert min(drift["tiny/frozen"].values()) > 0.999
        assert min(drift["tiny/full"].values()) < 0.999

    def test_the_report_is_there_and_nothing_large(self, unbroken):
        assert {"report.html", "summary.json", "table.csv"} <= {path.name for path in unbroken.iterdir()}
        assert not [*unbroken.rglob("*.pth"), *unbroken.rglob("best"), *unbroken.rglob("*.lock")]

    def test_a_line_is_said_of_each_run(self, unbroken):
        lines = (unbroken / "said.txt").read_text().splitlines()
        assert len(lines) == 3
        assert re.fullmatch(r"run 2/3 tiny/frozen, 2 cases, seed 0: dice 0\.\d{3}, \d+ s", lines[1])


class TestGoingOn:
    """The same command again, or another one."""

    def test_finished_runs_are_passed_over(self, start, fake_runs):
        assert start().summary
        lines: list[str] = []
        outcome = start(seeds=[0, 1], log=lines.append)
        assert (outcome.runs, outcome.finished, outcome.unfinished) == (4, 4, [])
        assert lines[0] == "2 of 4 runs are finished already"
        assert fake_runs() == [f"{arm}_002_s{seed}" for seed in (0, 1) for arm in ("scratch", "tiny__full")]

    @pytest.mark.parametrize("report_only", [False, True])
    def test_a_changed_config_is_refused_also_when_nothing_is_left_to_do(self, start, fake_runs, report_only):
        start()
        with pytest.raises(ConfigError, match=r"optimizer\.lr was 0\.002, is 0\.001.*runs of two plans are not mixed"):
            start(changes={"optim_wrapper.optimizer.lr": 1e-3}, report_only=report_only)
        with pytest.raises(ConfigError, match=r"test_cases was .* is "):
            start(changes={"split.val": 3}, report_only=report_only)

    def test_a_changed_source_is_refused(self, start, fake_runs, source, tmp_path):
        copy = tmp_path / "moved"
        shutil.copytree(source, copy)
        start()
        assert start(sources={"tiny": copy}).finished == 2  # a path of its own, the same weights
        next(copy.glob("*.safetensors")).write_bytes(b"other weights")
        with pytest.raises(ConfigError, match=r"the run tiny__full_002_s0 .* transfer\.weights_sha256 was"):
            start(sources={"tiny": copy})

    def test_a_report_of_nothing_is_refused(self, start, fake_runs, tmp_path):
        with pytest.raises(UsageError, match="there is no finished run to report"):
            start(report_only=True)
        assert not (tmp_path / "work").exists()

    def test_a_report_of_a_part(self, start, fake_runs, tmp_path):
        start(policies=["full"])
        outcome = start(policies=["full", "frozen"], report_only=True)
        assert (outcome.finished, outcome.unfinished) == (2, ["tiny__frozen_002_s0"])
        assert outcome.report == tmp_path / "work/report.html"


class TestRefusedBeforeTheFirstStep:
    """Faults that would end each run are told before any has begun."""

    def _refused(self, start, tmp_path, error, match, **arguments):
        with pytest.raises(error, match=match):
            start(**arguments)
        assert not (tmp_path / "work").exists()

    def test_a_source_of_another_architecture(self, start, fake_runs, tmp_path, source):
        network = {"type": "resunet10", "base_channels": 12}
        self._refused(
            start,
            tmp_path,
            TransferError,
            " tiny/full: 60 tensors have other shapes",
            changes={"model.network": network},
        )

    def test_damaged_test_cases_are_all_named(self, start, fake_runs, tmp_path, decathlon):
        root = Path(shutil.copytree(decathlon, tmp_path / "data"))
        for path in (*root.glob("labelsTr/*"), *root.glob("imagesTr/*_0*")):
            path.write_bytes(b"junk")
        match = r"(?s)test case case_\d.*test case case_\d.*Every run is scored by these"
        self._refused(start, tmp_path, DatasetError, match, changes={"data_root": str(root)})

    def test_a_policy_that_the_run_is_too_short_for(self, start, fake_runs, tmp_path):
        policies = {"slow": {"policy": "gradual", "every": 50}}
        self._refused(start, tmp_path, ConfigError, "tiny/slow: finetune: ", policies=policies)


class TestFailures:
    """A run that fails does not stop the others."""

    def test_nan_is_recorded_the_others_go_on_and_it_is_tried_again(self, start, unbroken, monkeypatch, tmp_path):
        work = Path(shutil.copytree(unbroken, tmp_path / "work"))
        for name in ("tiny__frozen_002_s0", "tiny__full_002_s0"):
            (work / "results" / f"{name}.json").unlink()
            shutil.rmtree(work / "runs" / name)
        lines: list[str] = []
        with monkeypatch.context() as patch:
            at_step(patch, 3, lambda: float("nan"))
            outcome = start(policies=["frozen", "full"], log=lines.append)
        assert list(outcome.failed) == ["tiny__frozen_002_s0"]
        assert "the loss is nan at step 3, with the cases case_" in outcome.failed["tiny__frozen_002_s0"]
        assert (outcome.finished, outcome.unfinished, outcome.report.name) == (2, [], "report.html")
        assert lines[1].startswith("run 2/3 tiny/frozen, 2 cases, seed 0: failed: the loss is nan")
        again = start(policies=["frozen", "full"])
        assert (again.finished, again.failed) == (3, {})
        report = json.loads((work / "runs/tiny__frozen_002_s0/report.json").read_text())
        assert report["resumed_at_step"] == 2  # it goes on before the step that failed
        assert_same_results(unbroken, work)

    def test_all_may_fail(self, start, monkeypatch):
        monkeypatch.setattr(run, "train_and_score", raising(ValueError("broken")))
        outcome = start()
        assert outcome.failed == dict.fromkeys(("scratch_002_s0", "tiny__full_002_s0"), "ValueError: broken")
        assert (outcome.finished, outcome.report, outcome.summary) == (0, None, "")

    def test_an_older_failure_is_tried_again(self, start, fake_runs, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(run, "train_and_score", raising(MedTransferError("too warm")))
            assert start().failed["scratch_002_s0"] == "too warm"
        assert start().failed == {}
        assert len(fake_runs()) == 2

    def test_a_kill_before_the_record_of_an_older_failure_was_deleted_is_no_failure(self, start, fake_runs, tmp_path):
        start()
        (tmp_path / "work/failed").mkdir()
        (tmp_path / "work/failed/scratch_002_s0.json").write_text('{"reason": "old"}')
        assert (start().finished, start().failed) == (2, {})

    def test_a_full_disk_stops_all(self, start, monkeypatch, tmp_path):
        monkeypatch.setattr(run, "train_and_score", raising(ResourceError("the disk is full")))
        with pytest.raises(ResourceError):
            start()
        assert not [*tmp_path.rglob("failed"), *tmp_path.rglob("*.lock")]


class TestSeveralProcesses:
    """Two or more on one folder."""

    def test_each_run_is_done_once_and_the_last_process_writes_the_report(
        self, start, fake_runs, monkeypatch, tmp_path
    ):
        made = run.train_and_score

        def slower(plan, run, folder):
            (tmp_path / f"by_{os.getpid()}").touch()
            time.sleep(0.05)
            return made(plan, run, folder)

        monkeypatch.setattr(run, "train_and_score", slower)
        processes = [in_child(lambda: start(cases=[1, 2, 3], seeds=[0, 1])) for _ in range(3)]
        assert [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes] == [0, 0, 0]
        assert len(fake_runs()) == len(set(fake_runs())) == 12
        assert len(list(tmp_path.glob("by_*"))) == 3
        assert json.loads((tmp_path / "work/summary.json").read_text())["missing"] == []
        assert not [*tmp_path.rglob("*.lock*"), *tmp_path.rglob("*.part*")]

    def test_what_another_process_has_done_meanwhile_is_not_done_again(self, start, fake_runs, monkeypatch, tmp_path):
        made = run.train_and_score

        def with_the_next(plan, this, folder):
            other = next(run for run in plan.runs if run != this)
            results.write_result(made(plan, other, folder), tmp_path / f"work/results/{other.name}.json")
            return made(plan, this, folder)

        monkeypatch.setattr(run, "train_and_score", with_the_next)
        assert start().finished == 2
        assert sorted(fake_runs()) == ["scratch_002_s0", "tiny__full_002_s0"]

    def test_what_a_process_left_that_was_killed_when_it_had_the_result_is_deleted(self, start, fake_runs, tmp_path):
        start()
        folder = tmp_path / "work/runs/scratch_002_s0"
        folder.mkdir()
        for path in (folder / "iter_1.pth", folder / "run.lock"):
            path.write_bytes(b"")
        holder = {"pid": 2**22 + 1, "host": socket.gethostname()}  # above every number that Linux gives
        (tmp_path / "work/runs/scratch_002_s0.lock").write_text(json.dumps(holder))
        assert start().finished == 2
        assert not [*folder.iterdir(), *tmp_path.rglob("*.lock")]
        assert len(fake_runs()) == 2

    def test_what_another_process_holds_is_left_to_it_without_a_report(self, start, fake_runs, tmp_path):
        (tmp_path / "work/runs").mkdir(parents=True)
        with run.held(tmp_path / "work/runs/scratch_002_s0.lock"):
            outcome = start()
        assert (outcome.finished, outcome.unfinished, outcome.report) == (1, ["scratch_002_s0"], None)
        assert not (tmp_path / "work/report.html").exists()
        assert start().report is not None

    def test_the_report_waits_for_its_turn_but_not_for_ever(self, start, fake_runs, tmp_path, monkeypatch):
        monkeypatch.setattr(run, "MAX_WAIT", 0.1)
        (tmp_path / "work").mkdir()
        with (
            run.held(tmp_path / "work/report.lock"),
            pytest.raises(OutputExistsError, match=r"report\.lock: another process has held it for 0\.1 s"),
        ):
            start()
        assert start().report is not None


def raising(error):
    """A function that raises."""

    def function(*arguments):
        raise error

    return function


def in_child(action):
    """Start a process that does something; its number."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        action()
        code = 0
    finally:
        os._exit(code)


def test_a_detector_is_refused_before_anything_trains(decathlon, source, tmp_path, cheap):
    tiny = {"data_root": str(decathlon), "split": {"val": 2, "seed": 0}, "patch_size": [16, 16, 16]}
    tiny["train_cfg"] = {"by_epoch": False, "max_iters": 4}
    with pytest.raises(
        ConfigError, match=r"compare scores segmentation and classification, the config is for detection"
    ):
        run.compare(
            "faster_rcnn_hippocampus",
            tmp_path / "work",
            cfg_options=tiny,
            sources={"a": str(source)},
            policies=["full"],
            cases=[2],
            seeds=[0],
        )
    assert not (tmp_path / "work").exists()
