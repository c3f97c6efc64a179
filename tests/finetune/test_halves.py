"""``features`` and ``output``: a network's own layers in two blocks, for freezing as GluonCV has it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import medtransfer as mt
from medtransfer.errors import ModelError

Build = Callable[..., nn.Module]
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "residual": ("resnet10", {"stem_channels": 4, "base_channels": 4}),
    "tutorial": ("resnet10", {"stem_channels": 4, "base_channels": 4, "deep_stem": True, "pool": "conv"}),
    "VGG": ("vgg11", {"base_channels": 4, "batch_norm": True, "fc_channels": 6, "head_pool": 1}),
    "FCN": ("vgg11_fcn", {"base_channels": 4, "batch_norm": True, "fcn_stride": 8}),
    "nnU-Net's": ("resenc_encoder", {"channels": (4, 8)}),
}


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    name, arguments = request.param
    return mt.create_model(name, num_classes=3, **arguments)


@torch.no_grad()
def test_output_of_features_is_the_network(network: nn.Module) -> None:
    network.eval()
    for size in ((32, 32, 32), (17, 33, 20)):
        x = torch.rand(1, 1, *size)
        maps = network.features(x)
        assert [a.shape[1] for a in maps] == list(network.stage_channels)
        assert torch.equal(network.output(maps, size), network(x))
    x = torch.rand(1, 1, 32, 32, 32)
    assert torch.equal(network.output(network.features(x)), network(x))


def test_the_blocks_hold_all_layers_under_their_own_names_and_change_no_state_dict(network: nn.Module) -> None:
    keys = list(network.state_dict())
    own = dict(network.named_parameters())
    halves = [dict(half.named_parameters()) for half in (network.features, network.output)]
    assert not halves[0].keys() & halves[1].keys()
    assert all(own[name] is parameter for half in halves for name, parameter in half.items())
    assert len(own) == len(halves[0]) + len(halves[1])
    assert list(halves[1]) == [name for name in own if name.startswith("head_")]
    assert list(network.state_dict()) == keys == list(copy.deepcopy(network).state_dict())
    assert pickle.dumps(network)


def test_three_ways_to_say_features_are_one(network: nn.Module) -> None:
    ways = (
        lambda net: mt.collect_params(net, "(?!head).*").freeze(),
        lambda net: mt.collect_params(net.features).freeze(),
        lambda net: mt.freeze(net.features),
        lambda net: mt.freeze(net, "features"),
    )
    trained = []
    for way in ways:
        net = copy.deepcopy(network)
        way(net)
        before = copy.deepcopy(net.state_dict())
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
        net.train()(torch.randn(2, 1, 32, 32, 32)).square().sum().backward()
        optimizer.step()
        trained.append([key for key, value in net.state_dict().items() if not torch.equal(value, before[key])])
        assert mt.unfreeze(net.features).names
        assert all(parameter.requires_grad for parameter in net.parameters())
    assert trained == [[name for name, _ in network.output.named_parameters()]] * len(ways)


def test_a_stage_by_its_name_and_what_is_built_frozen() -> None:
    net = mt.create_model("vgg11", base_channels=4, frozen_stages=0)
    assert {name.split(".")[0] for name in mt.freeze(net.features, "stage2").names} == {"stage2"}
    assert not any(p.requires_grad for p in net.features.train().stage0.parameters())
    with pytest.raises(ModelError, match="built with frozen_stages=0"):
        mt.collect_params(net.features).unfreeze()


def test_modes_reach_the_network() -> None:
    net = mt.create_model("vgg11", base_channels=4, batch_norm=True, frozen_stages=0)
    assert not net.eval().features.training
    net.features.train()
    assert net.stage2[1].bn.training
    assert not net.stage0[0].bn.training  # as the network itself would have it


def test_the_words_mean_encoder_and_head_in_a_segmenter_too() -> None:
    segmenter = mt.create_model("resunet10", base_channels=4, stem_channels=4)
    for word, same in (("features", "encoder"), ("output", "head")):
        assert mt.freeze(segmenter, word).names == mt.freeze(segmenter, same).names


def test_a_child_of_that_name_is_meant_before_them() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Conv3d(1, 1, 1)
            self.net = mt.create_model("resnet10", base_channels=4, stem_channels=4)

    assert mt.freeze(Own(), "features").names == ["features.weight", "features.bias"]


@torch.no_grad()
def test_without_a_head_the_last_map_is_the_output() -> None:
    net = mt.create_model("resnet10", num_classes=None, base_channels=4, stem_channels=4).eval()
    x = torch.rand(1, 1, 32, 32, 32)
    assert torch.equal(net.output(net.features(x)), net(x))
    assert not list(net.output.parameters())
