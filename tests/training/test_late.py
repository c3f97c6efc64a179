"""Numbers of the steps come late where a device would be made to wait, and come all the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from medtransfer.errors import MedTransferError
from medtransfer.training import late
from medtransfer.training.hooks import StopAtNaN
from medtransfer.training.late import LateNumbers
from medtransfer.training.loops import IterBasedTrainLoop
from medtransfer.training.tasks import Segmenter

Train = Callable[..., Path]


class Asked(TorchDispatchMode):
    """Counts how often a device is asked for a number."""

    count = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How often each step asks, hooks included and the optimizer (which counts its steps on a CPU) not."""
    counts: list[int] = []
    run_iter, optimize = IterBasedTrainLoop.run_iter, torch.optim.AdamW.step

    def asked(self: Any, batch: Any) -> None:
        with Asked() as mode:
            run_iter(self, batch)
        counts.append(mode.count)

    def optimized(self: Any, *arguments: Any, **named: Any) -> Any:
        with torch.utils._python_dispatch._disable_current_modes():
            return optimize(self, *arguments, **named)

    monkeypatch.setattr(IterBasedTrainLoop, "run_iter", asked)
    monkeypatch.setattr(torch.optim.AdamW, "step", optimized)
    yield counts


BY_STEPS = {
    "train_cfg": {"by_epoch": False, "max_iters": 4},
    "default_hooks__checkpoint": {"type": "KeepCheckpoints", "by_epoch": False, "interval": 4},
    "param_scheduler": None,
    "val_dataloader": None,
    "val_evaluator": None,
}


def test_no_step_asks_the_device_for_a_number(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(monkeypatch) as counts:
        folder = train(**BY_STEPS)
    assert counts[:3] == [0, 0, 0]  # the last one writes a checkpoint
    saved = torch.load(folder / "iter_4.pth", weights_only=True)["message_hub"]["log_scalars"]
    assert len(saved["train/grad_norm"]["values"]) == len(saved["train/loss"]["values"]) == 4


def test_the_count_sees_who_asks(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = Segmenter.compute_losses

    def asking(self: Any, *batch: Any) -> Any:
        losses = compute(self, *batch)
        losses["loss"].item()
        return losses

    monkeypatch.setattr(Segmenter, "compute_losses", asking)
    with counted(monkeypatch) as counts:
        train(**BY_STEPS)
    assert counts[:3] == [1, 1, 1]


def test_late_numbers_make_the_same_run(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    records = []
    for delay in (0, 1):
        monkeypatch.setitem(late.DELAYS, "cpu", delay)
        folder = train(f"delay_{delay}")
        states = torch.load(folder / "epoch_2.pth", weights_only=True)
        histories = states["message_hub"]["log_scalars"]
        lines = [json.loads(line) for line in next(folder.glob("*/vis_data/scalars.json")).read_text().splitlines()]
        losses = [line.get("loss") for line in lines]
        records.append(({name: histories[name] for name in ("train/loss", "train/grad_norm")}, losses))
    assert records[0] == records[1]
    assert len(records[0][0]["train/loss"]["values"]) == 4


def test_numbers_come_in_order_and_one_step_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(late.DELAYS, "cpu", 1)
    numbers = LateNumbers[str]()
    numbers.put("first", {"loss": torch.tensor([1.5]), "weight": 2})
    assert list(numbers.come()) == []
    numbers.put("second", {"loss": torch.tensor(2.5, dtype=torch.float64)})
    assert list(numbers.come()) == [("first", {"loss": 1.5, "weight": 2.0})]
    assert list(numbers.come(all_of_them=True)) == [("second", {"loss": 2.5})]


class Runner:
    iter = 0


@pytest.mark.parametrize("delay", [0, 1])
def test_a_loss_that_is_nan_is_named_with_its_own_step_and_cases(monkeypatch: pytest.MonkeyPatch, delay: int) -> None:
    monkeypatch.setitem(late.DELAYS, "cpu", delay)
    hook, runner = StopAtNaN(), Runner()
    batches = [("a", 1.0), ("b", float("nan")), ("c", float("nan"))]

    def step(number: int) -> None:
        runner.iter, (case, loss) = number, batches[number]
        hook.after_train_iter(runner, number, {"case": [case]}, {"loss": torch.tensor(loss)})

    for number in range(1 + delay):
        step(number)
    with pytest.raises(MedTransferError, match="the loss is nan at step 2, with the cases b"):
        step(1 + delay)


def test_the_last_loss_is_looked_at_before_anything_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(late.DELAYS, "cpu", 1)
    for look in ("before_val", "after_train"):
        hook = StopAtNaN()
        hook.after_train_iter(Runner(), 0, {"case": ["a"]}, {"loss": torch.tensor(float("inf"))})
        with pytest.raises(MedTransferError, match="inf at step 1"):
            getattr(hook, look)(Runner())
