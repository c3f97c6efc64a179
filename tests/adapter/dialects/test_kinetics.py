"""Video networks: stems that keep the first axis, and r3d_18's nested names."""

from __future__ import annotations

import pytest
import torch

import medtransfer as mt
from medtransfer.adapter.source import read_source
from tests.adapter.dialects.kinetics_oracle import r3d_tensors, video_tensors


def headless(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in tensors.items() if not key.startswith("fc.")}


def test_an_inflated_encoder_is_told_by_its_stem():
    home = read_source(headless(video_tensors(34, 3))).home
    assert home.arguments["first_stride"] == [1, 2, 2]
    assert home.arguments["stem_kernel"] == [3, 7, 7]
    assert "tensors cannot tell" in home.note


def test_cubic_stems_are_told_by_the_file_alone(tmp_path):
    """3D-ResNets-PyTorch writes ``arch``; without it the same tensors are MONAI's as well."""
    tensors = video_tensors(18)
    torch.save({"arch": "resnet-18", "state_dict": tensors}, tmp_path / "K.pth")
    assert read_source(tmp_path / "K.pth").dialect == "kinetics"
    assert read_source(tensors).dialect == "monai_resnet"
    assert read_source(tensors, dialect="kinetics").home.arguments["first_stride"] == [1, 2, 2]


def test_r3d_18_has_no_pooling_and_every_name_its_place():
    weights = read_source(r3d_tensors())
    assert weights.keys["conv1.weight"] == "stem.0.weight"
    assert weights.keys["bn1.running_mean"] == "stem.1.running_mean"
    assert weights.keys["layer2.0.conv2.weight"] == "layer2.0.conv2.0.weight"
    assert weights.keys["layer2.0.bn2.bias"] == "layer2.0.conv2.1.bias"
    assert weights.keys["layer2.0.downsample.1.weight"] == "layer2.0.downsample.1.weight"
    assert {name: weights.home.arguments[name] for name in ("pool", "first_stride", "stem_kernel")} == {
        "pool": "none",
        "first_stride": [1, 2, 2],
        "stem_kernel": [3, 7, 7],
    }


def test_mc3_18_is_read_and_has_no_home():
    """Its later stages have 1x3x3 kernels."""
    flat = {
        key: tensor[:, :, :1] if key[:6] in ("layer2", "layer3", "layer4") and tensor.ndim == 5 else tensor
        for key, tensor in r3d_tensors().items()
    }
    weights = read_source(flat)
    assert (weights.dialect, weights.home) == ("kinetics", None)


def test_r2plus1d_is_another_network():
    nested = {"stem.0.weight": torch.ones(3, 3, 1, 7, 7), "layer1.0.conv1.0.0.weight": torch.ones(4, 4, 1, 3, 3)}
    assert read_source(nested).dialect is None


@pytest.mark.parametrize("name", ["resnet18", "resunet18"])
def test_networks_of_ours_with_such_a_stem_keep_their_name(name):
    shape = {"base_channels": 4, "stem_channels": 4, "stem_kernel": (3, 7, 7), "first_stride": (1, 2, 2)}
    assert read_source(mt.create_model(name, **shape).state_dict()).dialect in ("resnet", "resunet")


def test_the_first_axis_stride_is_said_to_a_target_with_another():
    tensors = headless(video_tensors(34, 3))
    shape = {"in_channels": 3, "base_channels": 4, "stem_channels": 4, "stem_kernel": (3, 7, 7)}
    cubic = mt.transfer(tensors, mt.create_model("resnet34", **shape))
    assert any("first_stride=[1, 2, 2]" in note for note in cubic.notes)
    alike = mt.transfer(tensors, mt.create_model("resnet34", first_stride=(1, 2, 2), **shape))
    assert alike.notes == []
