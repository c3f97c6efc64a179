"""The states of random generators, on their way through a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from medtransfer.checkpoint.torch_file import load_torch_file
from medtransfer.training.checkpoints import random_states, restore_random_states

from .interruptions import LONGER, Train, assert_same_end


class Devices:
    """Generators of a machine with so many CUDA devices."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        self.generators = [torch.Generator().manual_seed(device) for device in range(number)]
        for name, function in {
            "is_available": lambda: True,
            "device_count": lambda: len(self.generators),
            "get_rng_state_all": lambda: [generator.get_state() for generator in self.generators],
            "set_rng_state": lambda state, device: self.generators[device].set_state(state),
        }.items():
            monkeypatch.setattr(f"torch.cuda.{name}", function)

    def draw(self) -> list[float]:
        return [float(torch.rand((), generator=generator)) for generator in self.generators]


def through_a_file(folder: Path) -> Any:
    torch.save({"random_states": [random_states()]}, folder / "states.pth")
    return load_torch_file(folder / "states.pth")["random_states"][0]


def test_the_states_of_all_cuda_devices_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = Devices(monkeypatch, 2)
    devices.draw()
    states = through_a_file(tmp_path)
    assert [type(state) for state in states["cuda"]] == [torch.Tensor, torch.Tensor]
    drawn = devices.draw()
    assert devices.draw() != drawn
    restore_random_states(states)
    assert devices.draw() == drawn


@pytest.mark.parametrize("before, now", [(2, 1), (1, 2)])
def test_another_number_of_cuda_devices_is_told_and_those_there_are_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, now: int
) -> None:
    first = Devices(monkeypatch, before)
    first.draw()
    states, drawn = through_a_file(tmp_path), first.draw()
    second = Devices(monkeypatch, now)
    with pytest.warns(UserWarning, match=f"random states of {before} CUDA devices, this machine has {now}"):
        restore_random_states(states)
    assert second.draw()[0] == drawn[0]


def test_a_run_from_a_machine_with_cuda_is_told_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        Devices(patch, 1)
        states = through_a_file(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.warns(UserWarning, match="of 1 CUDA devices, this machine has 0"):
        restore_random_states(states)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, whose generator dropout draws from")
def test_on_cuda_a_resumed_run_equals_an_unbroken_one(train: Train) -> None:
    exact = {"randomness__deterministic": True}
    whole, broken = train("whole", **LONGER, **exact), train("broken", **LONGER, **exact)
    (broken / "epoch_2.pth").unlink()
    torch.cuda.manual_seed_all(99)
    assert_same_end(whole, train("broken", resume="auto", **LONGER, **exact))
