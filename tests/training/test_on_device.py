"""`augment_on="device"` in a config: what it does not go with, where batches are, and that a run is the same."""

from __future__ import annotations

import signal
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config

from medtransfer.errors import ConfigError
from medtransfer.training import loaders, registry
from medtransfer.training.loaders import build_loaders
from medtransfer.training.runner import mmengine_scope

from .interruptions import LONGER, Train, assert_same_end, at_step, send

ON_DEVICE = {"train_dataloader__dataset__augment_on": "device"}


def loader_of(data_root: str, augment_on: str = "device", **more: Any) -> Any:
    dataset = {"type": "Decathlon", "part": "train", "data_root": data_root, "patch_size": [12, 12, 12],
               "augmentation": "strong", "augment_on": augment_on}  # fmt: skip
    sampler = {"type": "CaseSampler", "samples_per_epoch": 6}
    part = {"dataset": dataset, "sampler": sampler, "batch_size": 2, "num_workers": 0, **more}
    with mmengine_scope(f"on_device_{uuid.uuid4().hex}", registry.SCOPE):
        return build_loaders(Config({"train_dataloader": part, "randomness": {"seed": 1}}))["train_dataloader"]


@pytest.mark.parametrize("word, value", [("num_workers", 1), ("pin_memory", True)])
def test_what_does_not_go_with_it_is_refused_before_data_are_read(word: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"augment_on='device' does not go with {word}={value!r}: "):
        loader_of("there/is/no/such/folder", **{word: value})


def test_batches_are_on_the_device_that_trains(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "get_device", lambda: "meta")
    for augment_on in ("loader", "device"):
        for batch in loader_of(options["data_root"], augment_on):
            places = {batch[key].device.type for key in ("image", "label")}
            assert places == {"meta" if augment_on == "device" else "cpu"}


def test_memory_is_pinned_for_batches_of_the_loader_alone(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = SimpleNamespace(is_available=lambda: True)
    monkeypatch.setattr(loaders, "torch", SimpleNamespace(**{**vars(torch), "cuda": cuda}))
    pinned = {word: loader_of(options["data_root"], word).pin_memory for word in ("loader", "device")}
    assert pinned == {"loader": True, "device": False}


def test_batches_are_those_of_the_loader_from_any_batch_on(options: dict[str, Any]) -> None:
    expected = list(loader_of(options["data_root"], "loader"))
    loader = loader_of(options["data_root"])
    for first in (0, 2):
        loader.first_batch = first
        found = list(loader)
        assert len(found) == len(expected[first:]) > 0
        for one, other in zip(found, expected[first:], strict=True):
            assert one["case"] == other["case"]
            assert torch.equal(one["image"], other["image"])
            assert torch.equal(one["label"], other["label"])


def test_a_resumed_run_equals_one_that_augments_in_the_loader(
    train: Train, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        at_step(patch, 6, send(signal.SIGTERM))
        with pytest.raises(SystemExit):
            train("broken", **LONGER, **ON_DEVICE)
    assert_same_end(train("broken", resume="auto", **LONGER, **ON_DEVICE), whole)
