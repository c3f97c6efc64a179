"""Checkpoints of training frameworks: a wrapper around any dialect, named in the report."""

from __future__ import annotations

import pytest
import torch

import medtransfer as mt
from medtransfer.adapter.source import read_source
from tests.adapter.dialects.monai_resnet_oracle import monai_net


def lightning(tensors: dict[str, torch.Tensor]) -> dict[str, object]:
    """What Lightning's ModelCheckpoint writes."""
    return {
        "epoch": 7,
        "global_step": 800,
        "pytorch-lightning_version": "2.5.1",
        "state_dict": tensors,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 8}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'dice'}": {"best_model_score": torch.tensor(0.9)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-3}]}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 1e-3, "depth": 10},
    }


@pytest.mark.parametrize("prefix", ["model.", "net.", "module.model.", "model.net.", "model._orig_mod."])
def test_a_lightning_checkpoint_gives_the_network_inside(prefix, tiny, same, tmp_path):
    source, target = tiny("resnet10", seed=1), tiny("resnet10", seed=2)
    inside = {prefix + key: tensor for key, tensor in source.state_dict().items()}
    torch.save(lightning({**inside, "loss.weight": torch.ones(2)}), tmp_path / "last.ckpt")
    report = mt.transfer(tmp_path / "last.ckpt", target, head="keep")
    assert same(target, source.state_dict())
    assert report.source_format == "torch, Lightning 2.5.1, under 'state_dict', resnet keys"
    assert [entry.key for entry in report.unexpected] == ["loss.weight"]


def test_a_dialect_inside_is_told_as_ever(tmp_path):
    state = {f"net.{key}": tensor for key, tensor in monai_net(18).state_dict().items()}
    torch.save(lightning(state), tmp_path / "last.ckpt")
    weights = read_source(tmp_path / "last.ckpt")
    assert weights.dialect == "monai_resnet"
    assert weights.format == "torch, Lightning 2.5.1, under 'state_dict', monai_resnet keys"


def test_two_networks_under_prefixes_are_not_mixed(tiny, tmp_path):
    """A teacher beside the model stays what it is: in the source only."""
    model, teacher = tiny("resnet10", seed=1).state_dict(), tiny("resnet10", seed=2).state_dict()
    state = {f"model.{k}": v for k, v in model.items()} | {f"teacher.{k}": v for k, v in teacher.items()}
    torch.save(lightning(state), tmp_path / "last.ckpt")
    target = tiny("resnet10", seed=3)
    report = mt.transfer(tmp_path / "last.ckpt", target, head="keep")
    assert torch.equal(target.conv1.weight, model["conv1.weight"])
    assert len(report.unexpected) == len(teacher)
