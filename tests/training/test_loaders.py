"""Loaders: what happens to worker processes, memory and errors, and where an epoch goes on."""

from __future__ import annotations

import multiprocessing
import multiprocessing.synchronize
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from torch.utils.data import _utils

from medtransfer.data.dataset import CaseDataset
from medtransfer.errors import ConfigError, MedTransferError, ResourceError, VolumeError
from medtransfer.training import faults, registry, workers
from medtransfer.training.loaders import build_loaders
from medtransfer.training.runner import mmengine_scope

from .interruptions import LONGER, Train, assert_same_end, at_step

WORKER = {"train_dataloader__num_workers": 1, "train_cfg__max_epochs": 1}


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Do something in place of reading the third patch, in a worker process if there are any."""
    monkeypatch.setattr(_utils, "MP_STATUS_CHECK_INTERVAL", 0.5)  # how long torch waits for hanging workers
    honest, patches = CaseDataset._patch, iter(range(1, 1000))

    def start(action: Callable[[], Any]) -> None:
        def patch(self: CaseDataset, draw: Any) -> Any:
            if next(patches) == 3:
                action()
            return honest(self, draw)

        monkeypatch.setattr(CaseDataset, "_patch", patch)

    return start


def no_children() -> bool:
    deadline = time.monotonic() + 5
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not multiprocessing.active_children()


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def test_e08_a_killed_worker_is_named(train: Train, spoil: Any) -> None:
    spoil(lambda: os.kill(os.getpid(), signal.SIGKILL))
    said = r"worker process (\d+) (was killed|ended).*; often that is memory \(process \1 at case_\d\)"
    with pytest.raises(ResourceError, match=said):
        train(**WORKER)
    assert no_children()


def test_e08_a_worker_killed_in_a_validation_amid_a_round_of_training_is_named(
    train: Train, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training loader, which puts torch's handler aside while a step is made, waits in the midst of a step then."""
    assert list(loader_of(options, 1))  # torch sets its handler with the first worker of a process, and never again
    honest = CaseDataset.__getitem__

    def read(self: CaseDataset, key: Any) -> Any:
        return os.kill(os.getpid(), signal.SIGKILL) if isinstance(key, int) else honest(self, key)

    monkeypatch.setattr(CaseDataset, "__getitem__", read)
    loop = {"type": "IterBasedTrainLoop", "max_iters": 4, "val_interval": 1}
    start = time.monotonic()
    with pytest.raises(ResourceError, match=r"worker process \d+ .* \(process \d+ at case_\d\)"):
        train(train_cfg=loop, val_dataloader__num_workers=1, val_dataloader__timeout=60)
    assert time.monotonic() - start < 40
    assert no_children()


def test_e08_a_stopped_worker_is_named_in_time_and_ended(train: Train, spoil: Any) -> None:
    """It does not hear SIGTERM, and a program that ends would wait for it for ever."""
    spoil(lambda: os.kill(os.getpid(), signal.SIGSTOP))
    with pytest.raises(ResourceError, match=r"within 2\.0 s \(process \d+ at case_\d\)"):
        train(**WORKER, train_dataloader__timeout=2.0)
    assert no_children()


def test_e08_a_worker_that_dies_with_a_lock_in_its_hand_does_not_hold_up_the_end(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is that of the event by which torch tells workers to end."""
    honest = _utils.worker._worker_loop

    def loop(*arguments: Any) -> None:
        told = next(value for value in arguments if isinstance(value, multiprocessing.synchronize.Event))
        told._cond.acquire()
        os.kill(os.getpid(), signal.SIGKILL)
        honest(*arguments)

    monkeypatch.setattr(_utils.worker, "_worker_loop", loop)
    ended: list[str] = []

    def read() -> None:  # in a thread, that the test ends even if this does not
        try:
            list(loader_of(options, 1, timeout=2))
        except ResourceError as error:
            ended.append(str(error))

    reading = threading.Thread(target=read, daemon=True)
    with workers.at_death(signal.SIG_DFL):  # torch's handler would raise here, in the main thread
        reading.start()
        reading.join(30)
    assert "between two cases" in ended[0]
    assert no_children()


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError(104, "Connection reset by peer")])
def test_e08_a_worker_that_dies_while_it_hands_over_a_batch_is_named(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    loader = loader_of(options, 1, timeout=20)

    def fail(iterator: Any) -> None:
        for worker in iterator._workers:
            worker.kill()
        raise error

    batches = iter(loader)
    next(batches)
    monkeypatch.setattr("torch.utils.data.dataloader._MultiProcessingDataLoaderIter._next_data", fail)
    monkeypatch.setattr("torch._C._error_if_any_worker_fails", lambda: None)
    with pytest.raises(ResourceError, match=r"worker process \d+ ended without a word.* \(process \d+ "):
        next(batches)
    assert no_children()


def test_e08_a_sleeping_worker_is_named_in_time_and_ended(train: Train, spoil: Any) -> None:
    spoil(lambda: time.sleep(300))
    start = time.monotonic()
    with pytest.raises(ResourceError, match=r"no worker process gave a batch within 2\.0 s \(process \d+ at case_\d\)"):
        train(**WORKER, train_dataloader__timeout=2.0)
    assert time.monotonic() - start < 20
    assert no_children()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # torch says it too, in a longer way
def test_e18_eight_worker_processes_on_few_processors_end(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    with pytest.warns(UserWarning, match="num_workers is 8, but there are 2 processors"):
        train(**{**WORKER, "train_dataloader__num_workers": 8})
    assert no_children()


@pytest.mark.parametrize("workers", [0, 1])
def test_e08_an_error_in_a_worker_names_the_case(train: Train, spoil: Any, workers: int) -> None:
    spoil(raising(ValueError("shapes\ndiffer")))
    with pytest.raises(MedTransferError, match=r"^case case_\d: ValueError: shapes differ$") as raised:
        train(**{**WORKER, "train_dataloader__num_workers": workers})
    assert "shapes\ndiffer" in str(raised.value.__cause__)
    assert no_children()


def test_e08_an_error_of_ours_keeps_its_kind_and_path(train: Train, spoil: Any) -> None:
    spoil(raising(VolumeError("the affine is singular", path="scan.nii", hint="Export it again")))
    with pytest.raises(VolumeError, match=r"^scan.nii: case case_\d: the affine is singular. Export it again.$"):
        train(**WORKER)


def test_e09_an_error_that_cannot_be_pickled_is_reported(train: Train, spoil: Any) -> None:
    class LocalError(Exception):
        def __init__(self) -> None:
            super().__init__("of a class without a name")
            self.function = lambda: None

    spoil(raising(LocalError()))
    with pytest.raises(MedTransferError, match=r"case case_\d: LocalError: of a class without a name"):
        train(**WORKER)
    assert no_children()


@pytest.mark.parametrize("workers", [0, 1])
def test_e07_memory_that_runs_out_while_a_case_is_read(train: Train, spoil: Any, workers: int) -> None:
    spoil(raising(MemoryError()))
    with pytest.raises(ResourceError, match=r"case case_\d: memory ran out") as raised:
        train(**{**WORKER, "train_dataloader__num_workers": workers})
    assert raised.value.exit_code == 6


@pytest.mark.parametrize(
    "error, said",
    [
        (MemoryError(), "memory ran out in a step with batch_size 2 and patch_size"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes."),
            "patch_size .*when 4096 bytes more were asked for. Take a smaller patch_size",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), r"when 2\.00 GiB more"),
    ],
)
def test_e07_memory_that_runs_out_in_a_step(
    train: Train, monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str
) -> None:
    at_step(monkeypatch, 2, raising(error))
    with pytest.raises(ResourceError, match=said) as raised:
        train()
    assert raised.value.exit_code == 6


def test_other_errors_stay_what_they_are(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    at_step(monkeypatch, 1, raising(RuntimeError("a fault of the program")))
    with pytest.raises(RuntimeError, match="a fault of the program"):
        train()
    assert faults.describe(OSError(2, "No such file or directory", "a")) is None


def test_e05_a_signal_that_takes_the_workers_with_it_still_saves(
    train: Train, whole: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    workers = {**LONGER, "train_dataloader__num_workers": 1}

    def to_all() -> None:  # as `timeout` and SLURM do
        for child in multiprocessing.active_children():
            child.kill()
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        at_step(patch, 2, to_all)
        with pytest.raises(SystemExit):
            train("broken", **workers)
    assert (tmp_path / "broken" / "iter_2.pth").is_file()
    assert_same_end(whole, train("broken", resume="auto", **workers))


def test_e05_a_signal_that_takes_the_worker_of_a_validation_first_still_saves(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    honest, parent = CaseDataset.__getitem__, os.getpid()

    def read(self: CaseDataset, key: Any) -> Any:
        if not isinstance(key, int):
            return honest(self, key)
        if os.fork() == 0:  # SLURM reaches one process after the other
            time.sleep(0.2)
            os.kill(parent, signal.SIGTERM)
            os._exit(0)
        return os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(CaseDataset, "__getitem__", read)
    with pytest.raises(SystemExit) as stopped:
        train(train_cfg__max_epochs=1, val_dataloader__num_workers=1)
    assert stopped.value.code == 143
    assert (tmp_path / "run" / "iter_2.pth").is_file()
    assert no_children()


def loader_of(options: dict[str, Any], workers: int, **more: Any) -> Any:
    dataset = {"type": "Decathlon", "part": "train", "data_root": options["data_root"], "patch_size": [16, 16, 16]}
    sampler = {"type": "CaseSampler", "samples_per_epoch": 8}
    part = {"dataset": dataset, "sampler": sampler, "batch_size": 2, "num_workers": workers, **more}
    cfg = Config({"train_dataloader": part, "randomness": {"seed": 1}})
    with mmengine_scope("loaders", registry.SCOPE):
        return build_loaders(cfg)["train_dataloader"]


def test_d06_a_batch_larger_than_an_epoch(options: dict[str, Any]) -> None:
    assert [len(batch["case"]) for batch in loader_of(options, 0, batch_size=20)] == [8]
    with pytest.raises(ConfigError, match="a batch of 20 is larger than an epoch"):
        loader_of(options, 0, batch_size=20, drop_last=True)


@pytest.mark.parametrize("workers, persistent", [(0, False), (1, False), (1, True)])
def test_an_epoch_goes_on_with_any_batch_and_the_next_is_whole(
    options: dict[str, Any], workers: int, persistent: bool
) -> None:
    loader = loader_of(options, workers)
    object.__setattr__(loader, "persistent_workers", persistent)
    every = [batch["image"] for batch in loader]
    loader.first_batch = 3
    assert len(loader) == len(every) == 4
    rest = [batch["image"] for batch in loader]
    assert len(rest) == 1
    assert torch.equal(rest[0], every[3])
    assert len(list(loader)) == 4
    loader.first_batch = 4
    assert list(loader) == []
