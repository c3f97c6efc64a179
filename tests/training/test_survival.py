"""Runs left without disk, folder or numbers: what is kept, and how they go on."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from medtransfer.errors import MedTransferError, ResourceError, UsageError
from medtransfer.training.checkpoints import AtomicBackend
from medtransfer.training.hooks import StopAtNaN

from .interruptions import EVERY_STEP, LONGER, Train, assert_same_end, at_step, newest


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """A disk that is full after so many bytes a file."""
    before, action = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, action)


class TestDisk:
    """What cannot be written leaves what was there."""

    def _full_at(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        honest = AtomicBackend.put

        def put(self: AtomicBackend, obj: bytes, filepath: Any) -> None:
            if Path(filepath).name != name:
                honest(self, obj, filepath)
                return
            with file_size_limit(20_000):  # around this write alone: pytest's own output may be a file
                honest(self, obj, filepath)

        monkeypatch.setattr(AtomicBackend, "put", put)

    def test_e01_e02_a_full_disk_keeps_the_checkpoints_before(
        self, train: Train, whole: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        with monkeypatch.context() as patch:
            self._full_at(patch, "iter_4.pth")
            with pytest.raises(ResourceError, match="cannot be written: File too large") as raised:
                train("broken", **LONGER, default_hooks=EVERY_STEP)
        assert raised.value.exit_code == 6
        folder = tmp_path / "broken"
        assert sorted(path.name for path in folder.glob("*.pth")) == ["iter_2.pth", "iter_3.pth"]
        assert not list(folder.glob("*.part*"))
        assert_same_end(whole, train("broken", resume="auto", **LONGER, default_hooks=EVERY_STEP))

    def test_e02_a_full_disk_under_the_log_is_a_full_disk(self, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
        def full() -> None:
            raise OSError(errno.ENOSPC, "No space left on device", "scalars.json")

        at_step(monkeypatch, 2, full)
        with pytest.raises(ResourceError, match=r"scalars.json: cannot be written: No space left"):
            train()

    def test_a_write_that_does_not_read_back_is_not_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a.pth").write_bytes(b"older")
        monkeypatch.setattr(Path, "write_bytes", lambda self, data: self.write_text("newe?"))
        with pytest.raises(ResourceError, match="does not read back"):
            AtomicBackend().put(b"newer", tmp_path / "a.pth")
        assert (tmp_path / "a.pth").read_bytes() == b"older"
        assert len(list(tmp_path.iterdir())) == 1

    @pytest.mark.parametrize(
        "place, kind, code",
        [("n" * 300, UsageError, 2), ("file/run", UsageError, 2), ("/proc/run", (ResourceError, UsageError), None)],
    )
    def test_e11_a_work_dir_that_cannot_be(
        self, train: Train, tmp_path: Path, place: str, kind: Any, code: int | None
    ) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(kind, match="cannot be") as raised:
            train(place)
        assert code is None or raised.value.exit_code == code
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    @pytest.mark.parametrize("number, text", [(errno.EROFS, "Read-only"), (errno.ENOSPC, "No space")])
    def test_e11_a_read_only_or_full_folder(
        self, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, text: str
    ) -> None:
        def refuse(self: Path, *arguments: Any, **more: Any) -> None:
            raise OSError(number, os.strerror(number), str(self))

        with monkeypatch.context() as patch:
            patch.setattr(Path, "mkdir", refuse)
            with pytest.raises(ResourceError, match=f"run: cannot be written: {text}"):
                train()
        assert not (tmp_path / "run").exists()

    def test_e12_runs_of_the_same_second_have_folders_of_their_own(
        self, train: Train, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mmengine.runner.runner.time.strftime", lambda *_: "20260101_000000")
        train(train_cfg__max_epochs=1)
        folder = train(train_cfg__max_epochs=2, resume="auto")
        logs = {path.name: path.read_text() for path in folder.glob("*/*.log")}
        assert logs.keys() == {"20260101_000000.log", "20260101_000000_2.log"}
        assert "Epoch(train) [1]" in logs["20260101_000000.log"]
        assert "Epoch(train) [2]" in logs["20260101_000000_2.log"]


class TestNaN:
    """A run whose numbers are none stops, and what it leaves is from before."""

    def test_e10_a_nan_loss_stops_and_names_the_cases(
        self, train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        at_step(monkeypatch, 3, lambda: float("nan"))
        with pytest.raises(MedTransferError, match=r"the loss is nan at step 3, with the cases case_\d"):
            train(default_hooks=EVERY_STEP)
        assert sorted(path.name for path in (tmp_path / "run").glob("*.pth")) == ["iter_1.pth", "iter_2.pth"]
        weights = newest(tmp_path / "run")["state_dict"]
        assert all(value.isfinite().all() for value in weights.values())

    def test_e10_nan_weights_behind_a_good_loss_are_not_written(
        self, train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        class Poison(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
                return value.clone()

            @staticmethod
            def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
                return gradient * float("nan")

        at_step(monkeypatch, 2, lambda: Poison.apply)
        with pytest.raises(MedTransferError, match=r"tensors hold NaN after step 2, .* with the cases case_\d"):
            train(default_hooks=EVERY_STEP, optim_wrapper__clip_grad=None)
        assert [path.name for path in (tmp_path / "run").glob("*.pth")] == ["iter_1.pth"]

    def test_e10_steps_in_a_row_can_be_allowed(self) -> None:
        class At:
            iter = 6

        hook, bad, good = StopAtNaN(steps=2), {"loss": float("inf")}, {"loss": 1.0}
        for outputs in (bad, good, bad):
            hook.after_train_iter(At(), 0, {"case": ["a"]}, outputs)
        with pytest.raises(MedTransferError, match="at step 7, with the cases b"):
            hook.after_train_iter(At(), 0, {"case": ["b", "b"]}, bad)
