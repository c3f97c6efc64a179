"""Ways to disturb a training run at a chosen moment, and to compare what comes of it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from medtransfer import files
from medtransfer.training.tasks import Segmenter

Train = Callable[..., Path]
# two epochs of four steps, of a network whose steps depend on the random generators
LONGER = {
    "model__network__dropout_rate": 0.3,
    "train_dataloader__sampler__samples_per_epoch": 8,
    "train_cfg__max_epochs": 2,
}
EVERY_STEP = {"checkpoint": {"type": "KeepCheckpoints", "by_epoch": False, "interval": 1}}


def at_step(monkeypatch: pytest.MonkeyPatch, number: int, action: Callable[[], Any]) -> None:
    """Do something while the loss of that step, from 1, is computed; a number or function that it gives is applied."""
    honest, steps = Segmenter.compute_loss, iter(range(1, 1000))

    def disturbed(self: Segmenter, output: Any, label: Any) -> torch.Tensor:
        loss = honest(self, output, label)
        changed = action() if next(steps) == number else None
        if callable(changed):
            return changed(loss)
        return loss * changed if isinstance(changed, float) else loss

    monkeypatch.setattr(Segmenter, "compute_loss", disturbed)


def send(*numbers: int) -> Callable[[], None]:
    """An action: send signals to this process, one after the other."""

    def action() -> None:
        for number in numbers:
            os.kill(os.getpid(), number)

    return action


def killed_at_write(number: int, moment: str, start: Callable[[], Any]) -> None:
    """Run in a child process that is killed with signal 9 before or after the rename that ends its n-th write."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _kill_at_rename(number, moment)
            start()
        except BaseException as error:
            sys.stderr.write(f"the child failed: {type(error).__name__}: {error}\n")
            code = 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"the child was not killed: it ended with {os.waitstatus_to_exitcode(status)}"
    assert os.WTERMSIG(status) == signal.SIGKILL


def _kill_at_rename(number: int, moment: str) -> None:
    rename, writes = os.replace, iter(range(1, 1000))

    def replace(source: Any, target: Any) -> None:
        this = next(writes)
        if (this, moment) == (number, "before"):
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)
        if (this, moment) == (number, "after"):
            os.kill(os.getpid(), signal.SIGKILL)

    files.os.replace = replace  # type: ignore[attr-defined]


def newest(folder: Path) -> dict[str, Any]:
    """The checkpoint of the last step."""
    paths = [*folder.glob("iter_*.pth"), *folder.glob("epoch_*.pth")]
    loaded = [torch.load(path, weights_only=True) for path in paths]
    return max(loaded, key=lambda checkpoint: checkpoint["meta"]["iter"])


def assert_same_end(one: Path, other: Path) -> None:
    """Weights, optimizer, losses and scores are equal bit for bit."""
    first, second = newest(one), newest(other)
    assert first["meta"]["iter"] == second["meta"]["iter"]
    _assert_equal(first["state_dict"], second["state_dict"], "state_dict")
    _assert_equal(first["optimizer"], second["optimizer"], "optimizer")
    losses = [checkpoint["message_hub"]["log_scalars"]["train/loss"] for checkpoint in (first, second)]
    assert losses[0] == losses[1]
    scores = [checkpoint["message_hub"]["runtime_info"].get("scores_by_step") for checkpoint in (first, second)]
    assert scores[0] == scores[1]


def _assert_equal(first: Any, second: Any, trail: str) -> None:
    if isinstance(first, dict):
        assert first.keys() == second.keys(), trail
        for key in first:
            _assert_equal(first[key], second[key], f"{trail}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), trail
        for number, pair in enumerate(zip(first, second, strict=True)):
            _assert_equal(*pair, f"{trail}.{number}")
    else:
        assert torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second, trail
