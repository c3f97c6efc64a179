"""Runs that are told to stop: the step that they are in is saved, and they go on from there."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from medtransfer.training.lock import LOCK

from .interruptions import LONGER, Train, assert_same_end, at_step, newest, send


class TestSignals:
    """A run that is told to stop saves the step that it is in, and goes on from there."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
    def test_e05_sigterm_and_sigusr1_save_within_the_step(
        self, train: Train, whole: Path, number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        before = signal.getsignal(number)
        with monkeypatch.context() as patch:
            at_step(patch, 2, send(number))
            with pytest.raises(SystemExit) as stopped:
                train("broken", **LONGER)
        assert stopped.value.code == 143
        assert signal.getsignal(number) is before
        assert [path.name for path in (tmp_path / "broken").glob("*.pth")] == ["iter_2.pth"]
        assert newest(tmp_path / "broken")["meta"]["iter"] == 2
        broken = train("broken", resume="auto", **LONGER)
        assert_same_end(whole, broken)
        assert sorted(path.name for path in broken.glob("*.pth")) == ["epoch_1.pth", "epoch_2.pth"]

    def test_e05_a_signal_at_the_last_step_of_an_epoch(
        self, train: Train, whole: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            at_step(patch, 4, send(signal.SIGTERM))
            with pytest.raises(SystemExit):
                train("broken", **LONGER)
        assert_same_end(whole, train("broken", resume="auto", **LONGER))

    def test_e05_a_signal_during_validation(
        self, train: Train, whole: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(
                "medtransfer.training.tasks.Segmenter._logits",
                lambda self, image: send(signal.SIGTERM)() or self.network(image),
            )
            with pytest.raises(SystemExit):
                train("broken", **LONGER)
        assert newest(tmp_path / "broken")["meta"]["epoch"] == 1
        assert_same_end(whole, train("broken", resume="auto", **LONGER))

    def test_e06_one_interrupt_saves(
        self, train: Train, whole: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        with monkeypatch.context() as patch:
            at_step(patch, 3, send(signal.SIGINT))
            with pytest.raises(KeyboardInterrupt):  # the command line makes 130 of it
                train("broken", **LONGER)
        assert (tmp_path / "broken" / "iter_3.pth").is_file()
        assert_same_end(whole, train("broken", resume="auto", **LONGER))

    def test_e06_two_interrupts_stop_at_once(
        self, train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        at_step(monkeypatch, 1, send(signal.SIGINT, signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            train()
        assert not list((tmp_path / "run").glob("*.pth"))
        assert not (tmp_path / "run" / LOCK).exists()
