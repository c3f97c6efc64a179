"""Comparisons that are cut, at any moment: they go on where they were, and end as if nothing had been."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from medtransfer.comparison import attempt
from tests.comparison.conftest import assert_same_results
from tests.training.interruptions import at_step, killed_at_write, send

POLICIES = ["frozen", "full"]
CUT = "tiny__full_002_s0"


@pytest.fixture
def work(unbroken: Path, tmp_path: Path) -> Path:
    """The finished comparison without its last run."""
    folder = Path(shutil.copytree(unbroken, tmp_path / "work"))
    shutil.rmtree(folder / "runs" / CUT)
    for path in (folder / "results" / f"{CUT}.json", folder / "runs" / f"{CUT}.json", folder / "report.html"):
        path.unlink()
    return folder


def assert_goes_on(start, work, unbroken, resumed_at):
    outcome = start(policies=POLICIES)
    assert (outcome.finished, outcome.failed, outcome.report.name) == (3, {}, "report.html")
    assert json.loads((work / "runs" / CUT / "report.json").read_text())["resumed_at_step"] == resumed_at
    assert_same_results(unbroken, work)
    assert not [*work.rglob("*.pth"), *work.rglob("best*"), *work.rglob("*.lock*"), *work.rglob("*.part*")]


def test_sigterm_saves_the_step_and_names_the_run(start, work, unbroken, monkeypatch):
    lines: list[str] = []
    with monkeypatch.context() as patch:
        at_step(patch, 3, send(signal.SIGTERM))
        with pytest.raises(SystemExit) as stop:
            start(policies=POLICIES, log=lines.append)
    assert stop.value.code == 143
    assert lines[-1] == "run 3/3 tiny/full, 2 cases, seed 0: stopped; the same command goes on from there"
    assert (work / "runs" / CUT / "iter_3.pth").exists()
    assert not [*work.rglob("*.lock"), *work.glob("failed/*")]
    assert_goes_on(start, work, unbroken, resumed_at=3)


def test_signal_9_amid_a_step(start, work, unbroken, monkeypatch):
    child = os.fork()
    if child == 0:
        try:
            at_step(monkeypatch, 3, send(signal.SIGKILL))
            start(policies=POLICIES)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert (work / "runs" / f"{CUT}.lock").exists()
    assert_goes_on(start, work, unbroken, resumed_at=2)


# writes are: the run's record, checkpoints and their pointers for each step, best, report.json, the result, the report
@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 15))
def test_signal_9_at_any_write(start, work, unbroken, number, moment):
    killed_at_write(number, moment, lambda: start(policies=POLICIES))
    outcome = start(policies=POLICIES)
    assert (outcome.finished, outcome.failed, outcome.report.name) == (3, {}, "report.html")
    assert_same_results(unbroken, work)
    assert not [*work.rglob("*.pth"), *work.rglob("best*"), *work.rglob("*.lock*"), *work.rglob("*.part*")]


@pytest.mark.parametrize("left", [["iter_1.part.pth", "run.lock"], ["iter_1.pth", "iter_2.pth"], ["report.json"]])
def test_a_run_that_left_nothing_to_go_on_with_begins_anew(tmp_path, monkeypatch, left):
    """As after a kill amid the first checkpoint, or between the result and what it was made from."""
    for name in left:
        (tmp_path / name).write_bytes(b"{}")
    begun = []
    monkeypatch.setattr(attempt, "run_config", lambda plan, run: "config")
    monkeypatch.setattr(attempt, "train", lambda config, folder, resume: begun.append((resume, folder.exists())))
    monkeypatch.setattr(attempt, "_result", lambda plan, run, folder: "result")
    assert attempt.train_and_score(None, None, tmp_path) == "result"
    assert begun == [(None, False)]


def test_what_is_trained_is_only_scored_again(tmp_path, monkeypatch):
    (tmp_path / "best").mkdir()
    (tmp_path / "report.json").write_text("{}")
    monkeypatch.setattr(attempt, "_result", lambda plan, run, folder: "result")
    assert attempt.train_and_score(None, None, tmp_path) == "result"
