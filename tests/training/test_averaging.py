"""The moving average of the weights: in ``best``, in checkpoints, and when a run is stopped at a bad moment."""

from __future__ import annotations

import signal

import pytest
import torch

import medtransfer as mt

from .interruptions import LONGER, Train, assert_same_end, newest, send

AVERAGE = {**LONGER, "finetune": {"ema": 0.5}}
BLIND = {"val_dataloader": None, "val_evaluator": None, "train_cfg": {"by_epoch": True, "max_epochs": 2}}


@pytest.mark.parametrize("validation", [{"train_cfg__val_interval": 2}, BLIND])
def test_best_holds_the_average_with_and_without_validation(train: Train, validation: dict[str, object]) -> None:
    folder = train(**{**AVERAGE, **validation})
    checkpoint, best = newest(folder), mt.load(folder / "best").state_dict()
    average = {key.removeprefix("network."): value for key, value in checkpoint["state_dict"].items()}
    differing = [key for key, value in best.items() if not torch.equal(value, average[key])]
    assert not differing
    weights = checkpoint["ema_state_dict"]  # mmengine's name for those that train
    assert not torch.equal(best["final_layer.1.weight"], weights["module.network.final_layer.1.weight"])


def test_best_without_validation_or_average_holds_the_last_weights_however_often_the_run_goes_on(train: Train) -> None:
    train(**{**BLIND, "train_cfg": {"by_epoch": True, "max_epochs": 1}})
    folder = train(resume="auto", **BLIND)
    last, best = newest(folder), mt.load(folder / "best").state_dict()
    assert last["meta"]["epoch"] == 2
    assert all(torch.equal(value, last["state_dict"][f"network.{key}"]) for key, value in best.items())


def test_e05_a_signal_in_a_validation_does_not_exchange_weights_and_average(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train("whole", **AVERAGE)
    with monkeypatch.context() as patch:
        patch.setattr(
            "medtransfer.training.tasks.Segmenter._logits",
            lambda self, image: send(signal.SIGTERM)() or self.network(image),
        )
        with pytest.raises(SystemExit):
            train("broken", **AVERAGE)
    broken = train("broken", resume="auto", **AVERAGE)
    assert_same_end(whole, broken)
    first, second = (newest(folder)["ema_state_dict"] for folder in (whole, broken))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
