"""Models Genesis' file: statistics that are never read, and what a target must have to compute the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import medtransfer as mt
from medtransfer.adapter.source import read_source
from tests.adapter.dialects.genesis_oracle import filled


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("genesis") / "Genesis_Chest_CT.pt"
    torch.save({"epoch": 1, "state_dict": {f"module.{key}": value for key, value in filled().items()}}, path)
    return path


def test_running_statistics_are_told_to_be_never_read(path):
    weights = read_source(path)
    assert weights.home.name == "genesis_unet"
    assert weights.home.arguments == {"in_channels": 1, "num_classes": 1}
    assert len(weights.tensors) == 64
    assert len(weights.unread) == 42
    assert {key.rpartition(".")[2] for key in weights.unread} == {"running_mean", "running_var", "num_batches_tracked"}
    assert "sigmoid" in weights.home.note
    assert weights.facts == {"intensity": {"scheme": "clip", "low": -1000.0, "high": 1000.0}}


def test_the_encoder_goes_into_a_classifier_of_more_channels(path):
    preset = mt.create_model("genesis_unet").architecture["arguments"]
    decoder = ("decoder_block", "up_channels", "in_channels", "num_classes")
    encoder = {name: value for name, value in preset.items() if name not in decoder}
    classifier = mt.create_model("plain_encoder", in_channels=2, num_classes=3, **encoder)
    report = mt.transfer(path, classifier, input_channels="repeat")
    assert report.coverage == 1
    assert {entry.key for entry in report.missing} == {"head_fc.weight", "head_fc.bias"}
    assert not any("something else" in note for note in report.notes)


def test_a_target_that_computes_something_else_is_told_so(path):
    preset = mt.create_model("genesis_unet").architecture["arguments"]
    for change, said in (({"pool": "conv"}, "pool='max'"), ({"act_cfg": {"type": "ELU"}}, "act_cfg={'type': 'ReLU'}")):
        notes = mt.transfer(path, mt.create_model("plain_unet", **{**preset, **change})).notes
        assert any(said in note and "statistics of the batch" in note for note in notes)


def test_only_its_own_keys_are_taken_for_it():
    assert read_source({"down_tr64.ops.0.conv1.weight": torch.zeros(4, 1, 3, 3, 3)}).dialect == "genesis"
    assert read_source({"down_tr64.conv1.weight": torch.zeros(4, 1, 3, 3, 3)}).dialect is None
