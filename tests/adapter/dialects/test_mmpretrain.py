"""OpenMMLab: prefixes, the two namings of a deep stem, classes in the file's ``meta``."""

from __future__ import annotations

import re

import pytest
import torch

import medtransfer as mt
from medtransfer.adapter.source import read_source
from tests.adapter.dialects.mmpretrain_oracle import CLASSES, checkpoint, mmpretrain_tensors

#: mmsegmentation's deep stem is one Sequential of convolution, norm, activation
SEQUENTIAL = {"0.conv": "0", "0.bn": "1", "1.conv": "3", "1.bn": "4", "2.conv": "6", "2.bn": "7"}


def as_mmsegmentation(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    def renamed(key: str) -> str:
        return re.sub(r"(?<=stem\.)(\d\.(conv|bn))(?=\.)", lambda found: SEQUENTIAL[found[1]], key)

    return {renamed(key): tensor for key, tensor in tensors.items() if not key.startswith("head.")}


def test_a_deep_stem_of_one_sequential_is_the_same_stem():
    """Keys of mmsegmentation's ResNetV1c; with a decode head beside, whose tensors have no place."""
    plain = mmpretrain_tensors("v1c50")
    other = as_mmsegmentation(plain)
    assert "backbone.stem.7.running_var" in other
    decoded = read_source({**other, "decode_head.conv_seg.weight": torch.ones(2, 128, 1, 1)})
    assert decoded.dialect == "mmpretrain"
    expected = read_source(plain)
    for name in (name for name in expected.tensors if not name.startswith("head_fc")):
        assert torch.equal(decoded.tensors[name], expected.tensors[name]), name
    assert decoded.home.arguments == {**expected.home.arguments, "num_classes": None}


def test_the_head_moves_with_the_rest():
    tensors = mmpretrain_tensors("18")
    home = read_source(tensors).home
    assert home.arguments["num_classes"] == 5
    network = mt.create_model(home.name, **home.arguments)
    report = mt.transfer(tensors, network, head="keep")
    assert (report.unexpected, report.missing) == ([], [])
    assert torch.equal(network.head_fc.weight, tensors["head.fc.weight"])
    assert torch.equal(network.head_fc.bias, tensors["head.fc.bias"])


@pytest.mark.parametrize("meta", [{"dataset_meta": {"classes": CLASSES}}, {"CLASSES": CLASSES}], ids=["1.x", "0.x"])
def test_classes_come_from_the_meta(tmp_path, meta):
    torch.save({"meta": meta, "state_dict": mmpretrain_tensors("18")}, tmp_path / "net.pth")
    assert read_source(tmp_path / "net.pth").facts == {"classes": CLASSES}


@pytest.mark.parametrize(
    "meta", [{"CLASSES": CLASSES[:4]}, {"CLASSES": "air"}, {"dataset_meta": None}, {"CLASSES": [1, 2, 3, 4, 5]}, None]
)
def test_classes_that_do_not_fit_the_head_are_not_taken(tmp_path, meta):
    torch.save({"meta": meta, "state_dict": mmpretrain_tensors("18")}, tmp_path / "net.pth")
    weights = read_source(tmp_path / "net.pth")
    assert (weights.dialect, weights.facts) == ("mmpretrain", {})


def test_a_backbone_alone_needs_the_meta_to_be_told(tmp_path):
    """``backbone.`` is a common prefix."""
    tensors = {key: tensor for key, tensor in mmpretrain_tensors("18").items() if not key.startswith("head.")}
    assert read_source(tensors).dialect == "resnet"
    torch.save({"meta": {}, "state_dict": tensors}, tmp_path / "net.pth")
    assert read_source(tmp_path / "net.pth").dialect == "mmpretrain"


def test_the_framework_is_named(tmp_path):
    torch.save(checkpoint(mmpretrain_tensors("18")), tmp_path / "net.pth")
    assert read_source(tmp_path / "net.pth").format == "torch, mmengine 0.10.7, under 'state_dict', mmpretrain keys"


def test_training_checkpoints_of_this_zoo_are_not_taken_for_it(tiny, tmp_path):
    """mmengine writes them too, with the network under ``network.``."""
    state = {f"network.{key}": tensor for key, tensor in tiny("resnet10").state_dict().items()}
    torch.save({"meta": {"mmengine_version": "0.10.7"}, "state_dict": state}, tmp_path / "epoch_3.pth")
    assert read_source(tmp_path / "epoch_3.pth").dialect == "resnet"
    target = tiny("resnet10", seed=2)
    assert mt.transfer(tmp_path / "epoch_3.pth", target, head="keep").coverage == 1
