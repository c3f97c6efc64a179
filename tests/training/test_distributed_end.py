"""Several processes are started by any launcher, and ended together whatever ends one of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from medtransfer.errors import UsageError
from medtransfer.training.distributed import launched
from medtransfer.training.launchers import set_environment

from .interruptions import assert_same_end, newest
from .two_processes import (
    RANDOM,
    SHORT,
    Pair,
    difference,
    ends,
    errors_of,
    torchrun,
)


class TestEnd:
    """E19: the end of one process is the end of all, soon, with one line."""

    @pytest.mark.slow
    def test_e19_a_killed_process(self, pair: Pair, tmp_path: Path) -> None:
        ended = pair.broken(3, "kill", options={**SHORT, **RANDOM})
        assert [process.code for process in ended] == [6, -9]
        assert errors_of(ended) == [
            "medtransfer: error: another process of the run was lost, as process 0 sees. Go on with --resume auto."
        ]
        assert newest(tmp_path / "broken")["meta"]["iter"] == 2
        assert not (tmp_path / "broken" / "run.lock").exists()
        pair.train("whole", RANDOM)
        pair.train("broken", RANDOM, resume=True)
        assert_same_end(tmp_path / "whole", tmp_path / "broken")

    @pytest.mark.slow
    @pytest.mark.parametrize("when", [3, "check_config", "build_loaders"])
    @pytest.mark.parametrize("rank", [0, 1])
    def test_e19_an_error_in_one(self, pair: Pair, when: int | str, rank: int, tmp_path: Path) -> None:
        # with a timeout of half an hour: nobody waits for that
        ended = pair.broken(when, "raise", rank=rank, options={})
        assert [process.code for process in ended] == [1, 1]
        (line,) = errors_of(ended)
        assert "a fault of the test" in line
        assert (tmp_path / "broken").exists() == (when == 3)

    @pytest.mark.slow
    @pytest.mark.parametrize("when", [3, "build_loaders"])
    def test_e19_a_process_that_hangs(self, pair: Pair, when: int | str) -> None:
        ended = pair.broken(when, "hang")
        assert [process.code for process in ended] == [6, 6]
        (line,) = errors_of(ended)
        assert "another process of the run has not answered for 4 s" in line

    @pytest.mark.slow
    def test_a_loss_that_is_nan_in_one_process(self, pair: Pair) -> None:
        ended = pair.broken(2, "nan", options={})
        assert [process.code for process in ended] == [1, 1]
        (line,) = errors_of(ended)
        assert "the loss is nan at step 2, with the cases case_" in line


class TestSignals:
    """A signal to one process stops all after the same step."""

    @pytest.mark.slow
    @pytest.mark.parametrize("rank, action, waiting", [(1, "term", 2), (0, "usr1", 1)])
    def test_e05_one_is_told_all_stop_and_go_on(
        self, pair: Pair, tmp_path: Path, rank: int, action: str, waiting: int
    ) -> None:
        # every process draws its own dropout; gradients of one batch wait in each
        options = {**RANDOM, "optim_wrapper.accumulative_counts": waiting, "param_scheduler": None}
        ended = pair.broken(3, action, rank=rank, options=options)
        assert [process.code for process in ended] == [143, 143]
        assert not errors_of(ended)
        stopped = newest(tmp_path / "broken")
        assert stopped["meta"]["iter"] == 3
        assert len(stopped["gradients"]) == (2 if waiting > 1 else 0)
        states = [state["torch"] for state in stopped["random_states"]]
        assert not torch.equal(*states)
        pair.train("broken", options, resume=True)
        pair.train("whole", options)
        assert_same_end(tmp_path / "whole", tmp_path / "broken")
        assert difference(*ends(tmp_path / "broken")) == 0

    @pytest.mark.slow
    def test_another_number_of_processes_goes_on_with_a_warning(self, pair: Pair, tmp_path: Path) -> None:
        options = {"optim_wrapper.accumulative_counts": 2, "param_scheduler": None}
        pair.broken(3, "term", options=options)
        with pytest.warns(UserWarning, match="random states of 2 processes, this run has 1"):
            pair.one("broken", options, resume="auto")
        assert (
            difference(newest(tmp_path / "broken")["state_dict"], newest(pair.one("one", options))["state_dict"]) < 1e-5
        )


class TestLaunchers:
    """How processes are started."""

    @pytest.mark.slow
    def test_torchrun_trains_as_the_tests_own_processes_do(self, pair: Pair, tmp_path: Path) -> None:
        pair.train("two", {})
        plan = [{"arguments": pair.arguments("torchrun", {}), "weights": str(tmp_path / "torchrun")}]
        ended = torchrun(plan, tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert difference(ends(tmp_path / "torchrun")[0], ends(tmp_path / "two")[0]) == 0
        assert ended.stdout.count("best model: ") == 1

    @pytest.mark.slow
    def test_e19_a_killed_process_under_torchrun(self, pair: Pair, tmp_path: Path) -> None:
        ended = torchrun([{"arguments": pair.arguments("run", {}), "disturb": [1, 3, "kill"]}], tmp_path)
        assert ended.returncode != 0
        assert ended.stderr.count("medtransfer: error: ") == 1
        assert "another process of the run was lost" in ended.stderr
        assert newest(tmp_path / "run")["meta"]["iter"] == 2

    @pytest.mark.slow
    @pytest.mark.parametrize("action", ["parent_term", "parent_usr1"])
    def test_e05_torchrun_hands_signals_on(self, pair: Pair, tmp_path: Path, action: str) -> None:
        signals = "--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
        longer = {"train_cfg.max_epochs": 200, "train_cfg.val_interval": 300}
        plan = [{"arguments": pair.arguments("run", longer), "disturb": [1, 3, action]}]
        ended = torchrun(plan, tmp_path, signals)
        assert ended.returncode != 0
        assert "go on with --resume auto" in ended.stderr
        assert newest(tmp_path / "run")["meta"]["iter"] < 400

    @pytest.mark.slow
    def test_srun_without_cuda(self, pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("SLURM_NODELIST", "localhost,node[2-3]")
        monkeypatch.delenv("MASTER_ADDR", raising=False)
        pair.train("slurm", {}, launcher="slurm")
        assert difference(*ends(tmp_path / "slurm")) == 0

    def test_what_slurm_says_becomes_torchs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
            monkeypatch.setenv(name, "")  # so that they are put back
            monkeypatch.delenv(name)
        slurm = {"PROCID": "5", "NTASKS": "8", "LOCALID": "1", "NODELIST": "gpu[07-10]", "JOB_ID": "1234567"}
        for name, value in slurm.items():
            monkeypatch.setenv(f"SLURM_{name}", value)
        set_environment("slurm")
        found = [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")]
        assert found == ["5", "8", "1", "gpu07", "34067"]

    def test_a_process_that_no_launcher_started(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RANK", raising=False)
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        with pytest.raises(UsageError, match=r"needs RANK and WORLD_SIZE\. Start with torchrun"), launched("pytorch"):
            pass
        with pytest.raises(UsageError, match="must be one of none, pytorch, slurm, mpi, got 'ray'"), launched("ray"):
            pass
