"""VGGs of the zoo and of torchvision: their homes, what is not taken for one, and 2-D files in 3-D networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import medtransfer as mt
from medtransfer.adapter.inflate_module import inflate, to_acs
from medtransfer.adapter.source import read_source
from tests.adapter.dialects.oracle_case import fill
from tests.adapter.dialects.torchvision_vgg_oracle import timm_tensors, torchvision_tensors

FLAT: dict[str, Any] = {"conv_cfg": {"type": "Conv2d"}}
HOMES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("vgg11", {}),
    "2-D with the hidden layers": ("vgg13", {**FLAT, "fc_channels": 6}),
    "2-D without": ("vgg13", {**FLAT, "fc_channels": 0}),
    "3-D with them": ("vgg11", {"fc_channels": 6, "head_pool": 2}),
    "3-D, pooled flat": ("vgg11", {"fc_channels": 6, "head_pool": [1, 3, 3]}),
    "batch norm": ("vgg16", {"batch_norm": True}),
    "no head": ("vgg19", {"num_classes": None, "batch_norm": True}),
    "segmenter": ("vggunet11", {"batch_norm": True}),
    "segmenter of another shape": ("vggunet13", {"strides": [1, [1, 2, 2], 2, 2, 2], "aux_train": True}),
    "segmenter of stacked convolutions": ("vggunet11", {"decoder_block": "convs", "decoder_convs": 1}),
    "segmenter with basic blocks": ("vggunet11", {"decoder_block": "basic", "upsample_type": "interp", **FLAT}),
}


@pytest.mark.parametrize("name, arguments", HOMES.values(), ids=HOMES)
def test_the_home_of_the_zoos_own_weights_is_the_same_network(name: str, arguments: dict[str, Any]) -> None:
    network = mt.create_model(name, **{"in_channels": 2, "num_classes": 3, "base_channels": 4, **arguments}).eval()
    network.load_state_dict(fill(network.state_dict()))
    weights = read_source({f"module.{key}": tensor for key, tensor in network.state_dict().items()})
    assert weights.dialect == "vgg"
    assert weights.home.name == name
    assert weights.home.arguments.get("head_pool", 7) == arguments.get("head_pool", 7)
    home = mt.create_model(weights.home.name, **weights.home.arguments).eval()
    home.load_state_dict(network.state_dict())
    x = torch.rand(1, 2, *(16,) * (2 if "conv_cfg" in arguments else 3))
    with torch.no_grad():
        assert torch.equal(home(x), network(x))


OTHERS: dict[str, dict[str, Any]] = {
    "other widths": {"channels": [4, 8, 16, 32, 64], "num_convs": 2, "pool": "max"},
    "other counts": {"channels": [4, 8, 16, 32, 32], "num_convs": [1, 1, 1, 2, 2]},
    "other norm": {"channels": [4, 8, 16, 32, 32], "num_convs": 2},
    "no bias": {"channels": [4, 8, 16, 32, 32], "num_convs": 2, "norm_cfg": {"type": "BN"}, "conv_bias": False},
    "other kernels": {"channels": [4, 8, 16, 32, 32], "norm_cfg": {"type": "BN"}, "kernel_sizes": 5},
    "the batch's statistics": {
        "channels": [4, 8, 16, 32, 32],
        "norm_cfg": {"type": "BN", "track_running_stats": False},
    },
}


@pytest.mark.parametrize("arguments", OTHERS.values(), ids=OTHERS)
def test_stacks_of_convolutions_that_are_no_vgg_are_not_taken_for_one(arguments: dict[str, Any]) -> None:
    weights = read_source(mt.create_model("plain_encoder", **arguments))
    assert weights.dialect == "conv_unet"


@pytest.mark.parametrize("key", ["features.0.weight", "features.18.weight"])
def test_without_one_of_its_convolutions_it_is_no_vgg(key: str) -> None:
    tensors = torchvision_tensors("11", normed=False)
    assert read_source(tensors).dialect == "torchvision_vgg"
    del tensors[key]
    assert read_source(tensors).dialect != "torchvision_vgg"


def test_features_alone_have_a_home_without_a_head() -> None:
    tensors = {k: v for k, v in torchvision_tensors("16", normed=False).items() if k.startswith("features")}
    home = read_source({f"encoder.{key}": tensor for key, tensor in tensors.items()}).home
    assert (home.name, home.arguments["num_classes"]) == ("vgg16", None)
    assert mt.transfer(tensors, mt.create_model(home.name, **home.arguments)).coverage == 1


def test_timms_head_is_said_to_slide_over_larger_maps() -> None:
    weights = read_source(timm_tensors("13"))
    assert "7x7" in weights.home.note
    assert weights.changes["head_hidden.fc1.weight"] == "convolution [16, 32, 7, 7] as a linear layer"
    assert not read_source(torchvision_tensors("13", normed=True)).home.note


@pytest.mark.parametrize("mode", ("mean", "center"))
@pytest.mark.parametrize("axis", (2, 3, 4))
def test_a_2d_file_in_a_3d_network_keeps_its_features(mode: str, axis: int, tmp_path: Path) -> None:
    """On a volume constant along the axis; ``mean`` in the middle, where the borders are not felt."""
    torch.save({"state_dict": torchvision_tensors("11", normed=False)}, tmp_path / "vgg11.pth")
    weights = read_source(tmp_path / "vgg11.pth")
    flat = mt.create_model(weights.home.name, **weights.home.arguments).eval()
    mt.transfer(tmp_path / "vgg11.pth", flat, head="keep")
    solid = mt.create_model("vgg11", in_channels=3, base_channels=4, num_classes=2).eval()
    report = mt.transfer(tmp_path / "vgg11.pth", solid, inflation=mode, inflation_axis=axis)
    assert report.coverage == 1

    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        maps = solid.features(image.unsqueeze(axis).repeat_interleave(32, axis))[: 2 if mode == "mean" else 5]
        for a, b in zip(flat.features(image), maps, strict=False):
            middle = b.select(axis, b.shape[axis] // 2)
            assert (middle - a).abs().max() / a.abs().max() < 1e-5


def test_norms_that_the_target_lacks_are_missed_in_the_report() -> None:
    """The convolutions alone fill such a target, and compute something else in it."""
    tensors = torchvision_tensors("11", normed=True)
    small = {"in_channels": 3, "base_channels": 4}
    report = mt.transfer(tensors, mt.create_model("vgg11", **small))
    assert any("batch_norm=True" in note for note in report.notes)
    assert not mt.transfer(tensors, mt.create_model("vggunet11", **small, batch_norm=True)).notes
    strided = mt.create_model("vgg11", **small, batch_norm=True, strides=[2, 1, 1, 1, 1])
    assert not mt.transfer(strided, mt.create_model("vgg11", **small, batch_norm=True, strides=[2, 1, 1, 1, 1])).notes


def test_acs_by_transfer_is_acs_by_conversion() -> None:
    tensors = torchvision_tensors("11", normed=False)
    flat = mt.create_model("vgg11", in_channels=3, num_classes=2, base_channels=4, fc_channels=0, **FLAT).eval()
    solid = mt.create_model("vgg11", in_channels=3, num_classes=2, base_channels=4).eval()
    mt.transfer(tensors, flat)
    report = mt.transfer(tensors, solid, inflation="acs")
    assert {entry.how for entry in report.adapted} == {"2-D kernel 3x3 to 3x3x3 by 'acs'"}
    x = torch.rand(1, 3, 16, 17, 18)
    with torch.no_grad():
        for a, b in zip(to_acs(flat).features(x), solid.features(x), strict=True):
            assert (a - b).abs().max() / a.abs().max() < 1e-5


def test_a_2d_vgg_of_the_zoo_is_inflated_with_its_head() -> None:
    flat = mt.create_model("vgg11", in_channels=1, num_classes=3, base_channels=4, fc_channels=6, **FLAT).eval()
    solid = inflate(flat, mode="center", axis=3)
    assert solid.architecture["arguments"]["head_pool"] == [7, 1, 7]
    image = torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(solid(image.unsqueeze(3).repeat_interleave(32, 3)), flat(image))
    assert isinstance(solid.head_fc, nn.Linear)
