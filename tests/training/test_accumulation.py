"""Gradients of several batches that make one step of the optimizer."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from .interruptions import LONGER, Train, assert_same_end, at_step, newest, send

#: five batches of two: the last one makes a step of its own
FIVE = {"train_dataloader__sampler__samples_per_epoch": 10, "train_cfg": {"by_epoch": True, "max_epochs": 1}}
NO_VALIDATION = {"val_dataloader": None, "val_evaluator": None}
TWO = {"optim_wrapper__accumulative_counts": 2}


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return newest(folder)["state_dict"]


def rates(folder: Path) -> list[float]:
    return newest(folder)["message_hub"]["log_scalars"]["train/lr"]["values"]


def test_two_batches_of_two_are_one_of_four_up_to_the_last_which_is_not_whole(train: Train) -> None:
    """On a network whose norms do not look at the batch, and a loss that is a mean over it."""
    plain: dict[str, Any] = {
        "model__network__norm_cfg": {"type": "GN", "num_groups": 1},
        "optim_wrapper__optimizer": {"type": "SGD", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
        "param_scheduler": None,
        **FIVE,
        **NO_VALIDATION,
    }
    small = weights_of(train("small", **plain, **TWO))
    large = weights_of(train("large", **plain, train_dataloader__batch_size=4))
    other = weights_of(train("other", **plain))
    apart = [float((value - large[key]).abs().max()) for key, value in small.items()]
    assert max(apart) < 1e-5
    assert max(float((value - large[key]).abs().max()) for key, value in other.items()) > 1e-3  # it can be seen


def test_the_schedule_goes_by_batches(train: Train) -> None:
    """Without a word from torch that the optimizer has made no step yet, which would be an error here."""
    accumulated, every = train("accumulated", **FIVE, **TWO, **NO_VALIDATION), train("every", **FIVE, **NO_VALIDATION)
    assert rates(accumulated) == rates(every)
    assert len(set(rates(every))) == 5


@pytest.mark.parametrize("step", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_gradients_that_wait_for_their_step_are_kept(train: Train, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    changes = {**LONGER, **FIVE, **TWO, **NO_VALIDATION}
    whole = train("whole", **changes)
    with monkeypatch.context() as patch:
        at_step(patch, step, send(signal.SIGTERM))
        with pytest.raises(SystemExit):
            train("broken", **changes)
    broken = whole.with_name("broken")
    assert bool(newest(broken)["gradients"]) == (step == 3)
    assert not newest(whole)["gradients"]
    assert_same_end(whole, train("broken", resume="auto", **changes))
    assert "is lost" not in "".join(path.read_text() for path in broken.glob("*/*.log"))
