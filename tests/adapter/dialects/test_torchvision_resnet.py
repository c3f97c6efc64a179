"""torchvision and timm: 2-D networks, told by the shapes of their kernels."""

from __future__ import annotations

import pytest
import torch

import medtransfer as mt
from medtransfer.adapter.source import read_source
from tests.adapter.dialects.kinetics_oracle import video_tensors
from tests.adapter.dialects.torchvision_resnet_oracle import resnet50d_tensors, torchvision_tensors


def test_home_is_the_two_dimensional_network():
    home = read_source(torchvision_tensors(18)).home
    assert (home.name, home.arguments["conv_cfg"]) == ("resnet18", {"type": "Conv2d"})
    assert (home.arguments["in_channels"], home.arguments["num_classes"]) == (3, 5)


def test_the_same_keys_in_3d_are_another_format():
    """Told by the number of axes, never by names."""
    flat, deep = torchvision_tensors(18), video_tensors(18)
    assert flat.keys() == deep.keys()
    assert read_source(flat).dialect == "torchvision_resnet"
    assert read_source(deep).dialect == "monai_resnet"


def test_a_wide_network_has_another_expansion():
    home = read_source(torchvision_tensors(50, middle=2)).home
    assert (home.arguments["base_channels"], home.arguments["expansion"]) == (8, 2)


def test_timms_deep_stem_and_pooled_shortcuts_have_their_place():
    weights = read_source(resnet50d_tensors())
    assert {"stem.0.conv.weight", "stem.2.bn.running_var", "layer1.0.downsample.0.weight"} <= weights.tensors.keys()
    assert weights.keys["stem.2.bn.running_var"] == "bn1.running_var"
    assert {name: weights.home.arguments[name] for name in ("deep_stem", "avg_down")} == {
        "deep_stem": True,
        "avg_down": True,
    }


def changed(key: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**torchvision_tensors(50), key: tensor}


@pytest.mark.parametrize(
    "tensors",
    [
        changed("layer1.0.conv2.weight", torch.ones(4, 1, 3, 3)),
        changed("layer1.0.se.fc1.weight", torch.ones(1, 16, 1, 1)),
        changed("layer3.0.conv1.weight", torch.ones(12, 32, 1, 1)),
        changed("conv1.weight", torch.ones(4, 3, 4, 4)),
        {**resnet50d_tensors(), "conv1.0.weight": torch.ones(3, 3, 3, 3)},
        {key: value for key, value in torchvision_tensors(50).items() if not key.startswith("layer2.3.")},
    ],
    ids=["grouped", "attention", "odd widths", "even kernel", "tiered stem", "another depth"],
)
def test_what_the_zoo_cannot_build_has_no_home(tensors):
    weights = read_source(tensors)
    assert (weights.dialect, weights.home) == ("torchvision_resnet", None)


def test_a_lost_tensor_is_missing_and_not_a_crash():
    for lost in ("conv1.weight", "layer1.0.conv1.weight", "layer2.0.downsample.0.weight", "fc.weight"):
        tensors = {key: value for key, value in torchvision_tensors(18).items() if key != lost}
        shape = {"base_channels": 4, "stem_channels": 4, "conv_cfg": {"type": "Conv2d"}}
        target = mt.create_model("resnet18", in_channels=3, num_classes=5, **shape)
        report = mt.transfer(tensors, target, head="keep")
        assert [entry.key for entry in report.missing] == [lost.replace("fc.", "head_fc.")]
