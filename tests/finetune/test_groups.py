"""Parameter groups over the whole zoo."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

import medtransfer as mt
from medtransfer.errors import ModelError, UsageError
from medtransfer.finetune.freeze import freeze, unfreeze
from medtransfer.finetune.groups import layer_ids, param_groups
from medtransfer.finetune.select import select
from tests.tiny_zoo import SEVERAL, single_outputs

Build = Callable[..., nn.Module]


def group_of(groups: list[dict[str, Any]], parameter: nn.Parameter) -> dict[str, Any]:
    found = [group for group in groups if any(one is parameter for one in group["params"])]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("name", [*single_outputs(), *SEVERAL])
def test_every_parameter_is_in_exactly_one_group(name: str, tiny: Build) -> None:
    net = tiny(name)
    groups = param_groups(net, lr=1.0, weight_decay=0.1, layer_decay=0.5, head_lr_mult=10)
    ids, top = layer_ids(net), max(layer_ids(net).values())
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(listed) == sorted(id(parameter) for parameter in net.parameters())
    has_decoder = "unet" in name or name in SEVERAL
    behind = {id(p) for part in ("decoder", "head") if has_decoder or part == "head" for p in select(net, part)}
    heads = {id(parameter) for parameter in select(net, "head")}
    for key, parameter in net.named_parameters():
        group = group_of(groups, parameter)
        assert (ids[key] == top) == (id(parameter) in behind), key
        assert group["lr"] == 0.5 ** (top - ids[key]) * (10 if id(parameter) in heads else 1), key
        assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0), key
    assert set(ids.values()) == set(range(top + 1))  # no gap, so that no layer decays twice
    stages = [[group_of(groups, p)["lr_scale"] for p in select(net, f"encoder_{i}")] for i in range(len(net.stages()))]
    ends = [(min(scales), max(scales)) for scales in stages if scales]
    assert all(slow[1] < fast[0] for slow, fast in pairwise(ends))  # from the stem to the head
    assert ends[-1][1] < 1
    torch.optim.AdamW(groups)


#: name -> number of units of the encoder, counted by hand: stem and blocks, or convolutions
UNITS = {
    "resnet10": 1 + 4,
    "resnet18": 1 + 8,
    "resunet50": 1 + 16,
    "resnet200": 1 + 66,
    "vgg11": 8,
    "vggunet16": 13,
    "vgg19_fcn": 16,
    "plain_unet": 6,
    "genesis_unet": 6,
    "resenc_encoder": 1 + 8,
}


@pytest.mark.parametrize("name", UNITS)
def test_ids_count_stem_blocks_and_convolutions(name: str, tiny: Build) -> None:
    assert max(layer_ids(tiny(name)).values()) == UNITS[name]


def test_ids_grow_along_the_network(tiny: Build) -> None:
    ids = layer_ids(tiny("resunet18", pool="conv", deep_stem=True))
    assert {ids[key] for key in ids if key.startswith("encoder_0")} == {0}
    assert ids["encoder_1.0.conv.weight"] == ids["encoder_1.1.0.conv1.weight"] == 1  # pooling goes with its block
    assert ids["encoder_1.1.1.bn2.weight"] == 2
    assert ids["encoder_4.1.conv2.weight"] == 8
    assert ids["decoder_3.up.weight"] == ids["final_layer.1.weight"] == 9
    ids = layer_ids(tiny("vgg11"))
    assert [ids[f"stage{i}.0.conv.weight"] for i in range(5)] == [0, 1, 2, 4, 6]
    ids = layer_ids(tiny("resenc_unet"))
    assert (ids["encoder_0.0.0.conv.weight"], ids["encoder_0.1.0.conv1.weight"]) == (0, 1)


def test_frozen_parameters_keep_their_place(tiny: Build) -> None:
    net = tiny("resnet10", zero_init_residual=False)
    freeze(net, "encoder")
    optimizer = torch.optim.SGD(param_groups(net, lr=0.1))
    unfreeze(net, "layer4")
    before = net.layer4[0].conv1.weight.clone()
    net(torch.randn(2, 1, 9, 9, 9)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(net.layer4[0].conv1.weight, before)


def test_shared_parameters_are_in_one_group(tiny: Build) -> None:
    classifier = tiny("resnet10")
    both = nn.ModuleDict({"cls": classifier, "seg": mt.to_segmenter(classifier, num_classes=2, share=True)})
    both["other"] = nn.Linear(2, 2)
    groups = param_groups(both, lr=1.0, layer_decay=0.5, head_lr_mult=10)
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(listed) == len(set(listed)) == len(list(both.parameters()))
    assert group_of(groups, classifier.conv1.weight)["lr"] == 0.5**5
    assert group_of(groups, classifier.head_fc.weight)["lr"] == 10
    assert group_of(groups, both["other"].weight)["lr"] == 1


def test_weight_decay_where_it_is_wanted(tiny: Build) -> None:
    net = tiny("resnet10")
    assert {g["weight_decay"] for g in param_groups(net, 0.1, 0.2, no_decay_norms=False)} == {0.2}
    groups = param_groups(net, 0.1, 0.2, no_decay="encoder")
    assert group_of(groups, net.conv1.weight)["weight_decay"] == 0
    assert group_of(groups, net.head_fc.weight)["weight_decay"] == 0.2


def test_any_network_has_groups_without_layers() -> None:
    net = nn.Sequential(nn.Conv3d(1, 2, 1), nn.GroupNorm(1, 2))
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in param_groups(net, 0.1, 0.2)] == [
        (0.1, 0.2, 1),
        (0.1, 0.0, 3),
    ]
    with pytest.raises(ModelError, match="layers of Sequential are not known"):
        param_groups(net, 0.1, layer_decay=0.5)
    with pytest.raises(ModelError, match="no head that is known"):
        param_groups(net, 0.1, head_lr_mult=2)


@pytest.mark.parametrize(
    "wrong", [{"lr": -1.0}, {"lr": float("nan")}, {"weight_decay": -1}, {"layer_decay": 0}, {"layer_decay": 1.5}]
)
def test_numbers_that_cannot_be_meant(wrong: dict[str, float], tiny: Build) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        param_groups(tiny("resnet10"), **{"lr": 0.1, **wrong})
