"""Learning-rate schedules that are as long as the run."""

from __future__ import annotations

import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.optim import CosineAnnealingLR, LinearLR, OptimWrapper

from medtransfer.errors import ConfigError
from medtransfer.training.config import find_config, read_config
from medtransfer.training.run import run
from medtransfer.training.schedule import WarmupCosine

from .interruptions import assert_same_end, at_step, newest, send


def optimizer(*rates: float) -> OptimWrapper:
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate} for rate in rates]
    return OptimWrapper(torch.optim.SGD(groups, lr=1.0))


def course(wrapper: OptimWrapper, schedules: list[Any], steps: int) -> list[list[float]]:
    rows = []
    for _ in range(steps):
        rows.append([group["lr"] for group in wrapper.param_groups])
        wrapper.step()
        for schedule in schedules:
            schedule.step()
    return rows


@pytest.mark.parametrize("steps, warmup, warm", [(20, 0.25, 5), (50, 0.1, 5), (7, 0.0, 0)])
def test_the_cosine_equals_those_of_mmengine(steps: int, warmup: float, warm: int) -> None:
    own, other = optimizer(0.1, 0.02), optimizer(0.1, 0.02)
    rows = course(own, [WarmupCosine(own, end=steps, warmup=warmup, start_factor=0.1, by_epoch=False)], steps)
    both: list[Any] = [LinearLR(other, start_factor=0.1, end=warm + 1, by_epoch=False)] if warm else []
    both.append(CosineAnnealingLR(other, T_max=steps - warm, begin=warm, end=steps, by_epoch=False))
    for row, expected in zip(rows, course(other, both, steps), strict=True):
        assert row == pytest.approx(expected)
    assert rows[warm][:2] == [0.1, 0.02]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_run_of_few_steps_has_rates_too(steps: int) -> None:
    wrapper = optimizer(1.0)
    rows = course(wrapper, [WarmupCosine(wrapper, end=steps, warmup=1, by_epoch=False)], steps)
    assert all(0 < row[0] <= 1 for row in rows)


@pytest.mark.parametrize("wrong", [{"by_epoch": True}, {"warmup": 1.5}, {"start_factor": -1}, {"end_factor": True}])
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="param_scheduler"):
        WarmupCosine(optimizer(1.0), end=10, **{"by_epoch": False, **wrong})


def test_the_shipped_schedule_scales_with_the_run_and_resumes_in_the_midst(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = find_config("resunet18_hippocampus")
    config = tmp_path / "mine.py"
    bases = [str(shipped.parent / "_base_" / name) for name in ("models/resunet18.py", "datasets/cases.py")]
    bases += [str(shipped.parent / "_base_" / name) for name in ("schedules/cosine.py", "runtime/default.py")]
    config.write_text(f"_base_ = {bases!r}\n")
    assert read_config(config).param_scheduler.type == "WarmupCosine"

    def start(name: str, epochs: int, resume: str | None = None) -> Path:
        changes = {**options, "train_cfg.max_epochs": epochs, "train_cfg.val_interval": 99}
        return run(config, tmp_path / name, resume=resume, cfg_options={**changes, "param_scheduler.warmup": 0.5})

    for epochs in (2, 4):  # of two steps
        rates = newest(start(f"of_{epochs}", epochs))["message_hub"]["log_scalars"]["train/lr"]["values"]
        assert len(rates) == 2 * epochs
        assert rates[epochs] == max(rates) == 5e-4
        assert rates[0] == pytest.approx(5e-6)
        assert rates[-1] == pytest.approx(5e-4 * (1 + math.cos(math.pi * (epochs - 1) / epochs)) / 2)
    with monkeypatch.context() as patch:
        at_step(patch, 3, send(signal.SIGTERM))
        with pytest.raises(SystemExit):
            start("broken", 4)
    assert_same_end(tmp_path / "of_4", start("broken", 4, "auto"))
