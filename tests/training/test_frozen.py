"""What is frozen stays as it is for fifty steps, whatever else pulls at it: decay, momentum, averages, statistics."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import medtransfer as mt
from medtransfer.training.receipt import NAME

from .interruptions import Train, assert_same_end, newest

TINY = {"base_channels": 4, "stem_channels": 4}
NETWORK = {"type": "resunet10", "zero_init_residual": False, **TINY}
ADAM = {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.5}
MOMENTUM = {"type": "SGD", "lr": 1e-2, "momentum": 0.9, "weight_decay": 0.5}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    torch.manual_seed(7)
    network = mt.create_model("resnet10", num_classes=5, zero_init_residual=False, **TINY)
    for name, value in network.named_buffers():
        if name.endswith("running_mean"):
            value.uniform_(-1, 1)  # statistics that any batch would change
    mt.save(network, tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture
def tune(train: Train, source: Path) -> Callable[..., Path]:
    """Fifty steps without validation, unless changed."""

    def start(name: str = "run", resume: Any = None, steps: int = 50, every: int = 25, **changes: Any) -> Path:
        hooks = {"checkpoint": {"type": "KeepCheckpoints", "by_epoch": False, "interval": every, "max_keep_ckpts": -1}}
        fixed = {
            "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": steps},
            "default_hooks": hooks,
            "model__network": NETWORK,
            "param_scheduler": None,
            "val_dataloader": None,
            "val_evaluator": None,
        }
        return train(name, resume, **{**fixed, "transfer": {"source": str(source)}, **changes})

    return start


def weights_at(folder: Path, step: int) -> list[dict[str, Tensor]]:
    """The weights after that step and, if there is one, their average."""
    checkpoint = torch.load(folder / f"iter_{step}.pth", weights_only=True)
    average = {key.removeprefix("module."): value for key, value in checkpoint.get("ema_state_dict", {}).items()}
    return [part for part in (checkpoint["state_dict"], average) if part]


def given_by(source: Path, folder: Path) -> dict[str, Tensor]:
    """The source's tensors, norm statistics included, under the names that they have in training."""
    given = mt.load(source).state_dict()
    loaded = json.loads((folder / NAME).read_text())["loaded"]
    return {f"network.{entry['key']}": given[entry["source_key"]] for entry in loaded}


def moved(first: dict[str, Tensor], second: dict[str, Tensor], part: str) -> list[str]:
    names = [name for name in first if name.startswith(f"network.{part}") and "lora" not in name]
    assert len(names) > 1
    return [name for name in names if not torch.equal(first[name], second[name])]


CASES = {
    # policy -> its words, an optimizer, (after which step, what equals the source), what equals itself from 25 to 50
    "frozen": ({"policy": "frozen", "ema": 0.9}, ADAM, [(50, "encoder_")], ["encoder_"]),
    "head": ({"policy": "head"}, MOMENTUM, [(50, "encoder_")], ["encoder_", "decoder_"]),
    "lp_ft": ({"policy": "lp_ft", "share": 0.5, "freeze": ["stem"], "ema": 0.9}, MOMENTUM,
              [(25, "encoder_"), (50, "encoder_0")], ["encoder_0"]),
    "gradual": ({"policy": "gradual", "every": 4, "freeze": ["stem"]}, ADAM,
                [(25, "encoder_0"), (25, "encoder_1"), (50, "encoder_0")], ["encoder_0"]),
    "lora": ({"policy": "lora", "rank": 2, "pattern": "layer[34]", "ema": 0.9}, ADAM,
             [(50, "encoder_")], ["encoder_"]),
    "full": ({"policy": "full", "freeze": ["stem", "layer1"], "layer_decay": 0.5}, MOMENTUM,
             [(50, "encoder_0"), (50, "encoder_1")], ["encoder_0", "encoder_1"]),
}  # fmt: skip


@pytest.mark.parametrize(
    "policy",
    [name if name in ("frozen", "lp_ft", "lora") else pytest.param(name, marks=pytest.mark.slow) for name in CASES],
)
def test_frozen_parts_are_bit_equal_after_fifty_steps(tune: Train, source: Path, policy: str) -> None:
    words, optimizer, as_given, still = CASES[policy]
    folder = tune(finetune=words, optim_wrapper__optimizer=optimizer)
    given = given_by(source, folder)
    assert len(given) == 72
    for step, part in as_given:
        expected = {name: value for name, value in given.items() if name.startswith(f"network.{part}")}
        assert len(expected) > 1
        for weights in weights_at(folder, step):
            assert not [name for name, value in expected.items() if not torch.equal(weights[name], value)]
    for first, second in zip(weights_at(folder, 25), weights_at(folder, 50), strict=True):
        assert not [name for part in still for name in moved(first, second, part)]
        assert moved(first, second, "final_layer")
    if policy in ("lp_ft", "gradual", "full"):
        assert moved(weights_at(folder, 25)[0], weights_at(folder, 50)[0], "encoder_4")


class TestLora:
    """Adapters are an addition to what was transferred, and gone from what is kept."""

    words = {"policy": "lora", "rank": 2, "pattern": "layer[34]"}

    def test_the_receipt_speaks_of_the_network_without_adapters(self, tune: Train) -> None:
        folder = tune(finetune=self.words, steps=1)
        text = (folder / NAME).read_text()
        entry = json.loads(text)
        assert "lora" not in text
        assert entry["coverage"] == 1.0
        assert not [row["key"] for row in entry["missing"] if row["key"].startswith("encoder_")]
        assert json.loads((folder / "report.json").read_text())["transfer"] == entry

    def test_a_resumed_run_is_bit_equal_and_best_is_plain_weights(self, tune: Train, source: Path) -> None:
        whole, cut = (tune(name, finetune=self.words, steps=6, every=2) for name in ("whole", "cut"))
        for name in ("iter_4.pth", "iter_6.pth"):
            (cut / name).unlink()
        tune("cut", resume="auto", finetune=self.words, steps=6, every=2)
        assert_same_end(whole, cut)
        first, second = (mt.load(folder / "best").state_dict() for folder in (whole, cut))
        assert first.keys() == mt.create_model("resunet10", num_classes=2, **TINY).state_dict().keys()
        assert all(torch.equal(value, second[key]) for key, value in first.items())
        adapted = newest(whole)["state_dict"]
        base = adapted["network.encoder_4.0.conv1.weight"]
        assert torch.equal(base, given_by(source, whole)["network.encoder_4.0.conv1.weight"])
        assert not torch.equal(first["encoder_4.0.conv1.weight"], base)
        entries = [json.loads((folder / "report.json").read_text())["transfer"] for folder in (whole, cut)]
        assert entries[0] == entries[1] is not None


@pytest.mark.parametrize("umask, file_mode, folder_mode", [(0o077, 0o600, 0o700), (0o002, 0o664, 0o775)])
def test_e14_files_follow_the_umask_and_need_no_home(
    train: Train, monkeypatch: pytest.MonkeyPatch, umask: int, file_mode: int, folder_mode: int
) -> None:
    for name in ("HOME", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    before = os.umask(umask)
    try:
        folder = train(train_cfg__max_epochs=1)
    finally:
        os.umask(before)
    paths = [folder, *folder.rglob("*")]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    wrong = [path for path, mode in modes.items() if mode != (folder_mode if path.is_dir() else file_mode)]
    assert not wrong
    assert {"epoch_1.pth", "model.safetensors", "report.json"} <= {path.name for path in paths}
