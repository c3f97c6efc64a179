"""Detectors in the words of fine-tuning: stages, parts, outputs, layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import medtransfer as mt
from medtransfer.finetune.groups import layer_ids, param_groups
from medtransfer.finetune.parts import names_of, parts_of, zoo_networks
from medtransfer.finetune.phases import build_phases, encoder_stages, phase_at, train_only
from medtransfer.finetune.select import select
from medtransfer.model_zoo.detection import AnchorGenerator, FasterRCNN

Build = Callable[..., nn.Module]
TARGET = {"boxes": torch.tensor([[4.0, 4, 4, 20, 20, 20]]), "labels": torch.tensor([1])}


@pytest.fixture
def detector(tiny: Build) -> Build:
    def build(kind: str = "faster_rcnn", **arguments: Any) -> nn.Module:
        small = {"out_channels": 8, "base_channels": 4, "stem_channels": 4}
        return tiny(f"{kind}_resnet10", **{**small, **({"box_head_size": 8} if kind[0] == "f" else {}), **arguments})

    return build


def step(net: nn.Module) -> set[str]:
    """Names of the parameters that a step of training moves."""
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    net.train()
    sum(net(list(torch.rand(2, 1, 24, 24, 24)), [TARGET] * 2).values()).backward()
    torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1).step()
    return {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}


@pytest.mark.parametrize("kind", ["faster_rcnn", "retinanet"])
def test_every_parameter_is_in_exactly_one_part(detector: Build, kind: str) -> None:
    net = detector(kind)
    (network,) = zoo_networks(net)
    owned = [id(p) for part in parts_of(network) for module in part.modules for p in module.parameters()]
    assert sorted(owned) == sorted(id(p) for p in net.parameters())
    assert encoder_stages(net) == ["stem", "layer1", "layer2", "layer3", "layer4"]


def test_words_of_a_detector(detector: Build) -> None:
    net = detector()
    assert select(net, "head").names == select(net, "roi_heads.box_predictor").names
    assert select(net, ["fpn", "rpn", "box_head"]).names == select(net, "decoder").names
    assert select(net, "objectness").names == ["rpn.head.cls_logits.weight", "rpn.head.cls_logits.bias"]
    assert {name.rpartition(".")[0] for name in select(net, "boxes").names} == {
        "rpn.head.bbox_pred",
        "roi_heads.box_predictor.bbox_pred",
    }
    assert "rpn" not in names_of(detector("retinanet"))
    assert mt.collect_params(net, r"(?!backbone).*").names[0].startswith("rpn.")


def test_frozen_stages_stay_frozen(detector: Build) -> None:
    net = detector()
    mt.freeze(net, ["stem", "layer1"])
    moved = step(net)
    assert not any(name.startswith(("backbone.body.conv1", "backbone.body.layer1")) for name in moved)
    assert any(name.startswith("backbone.body.layer2") for name in moved)
    assert not net.backbone.body.layer1[0].bn1.training


@pytest.mark.parametrize("word", ["objectness", "boxes", "classes"])
def test_one_kind_of_output_trains_alone(detector: Build, word: str) -> None:
    net = detector()
    train_only(net, [word])
    wanted = set(select(net, word).names)
    assert step(net) <= wanted
    assert {name for name, p in net.named_parameters() if p.requires_grad} == wanted


def test_policies(detector: Build) -> None:
    net = detector("retinanet")
    phases = build_phases("lp_ft", net, steps=8)
    first = train_only(net, phase_at(phases, 0).trains).names
    assert not any("body" in name for name in first)
    assert len(train_only(net, phase_at(phases, 2).trains).names) == len(list(net.parameters()))
    gradual = build_phases("gradual", net, steps=100, steps_per_epoch=10)
    assert gradual[1].trains == ("decoder", "head", "layer4")


def test_learning_rates_fall_towards_the_input(detector: Build) -> None:
    net = detector()
    ids = layer_ids(net)
    assert ids["backbone.body.conv1.weight"] == 0
    assert ids["backbone.body.layer4.0.conv1.weight"] == 4
    assert ids["backbone.fpn.inner_blocks.0.0.weight"] == ids["rpn.head.cls_logits.weight"] == 5
    groups = param_groups(net, lr=1.0, layer_decay=0.5, head_lr_mult=10)
    assert sum(len(group["params"]) for group in groups) == len(list(net.parameters()))
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert rates[id(net.roi_heads.box_predictor.cls_score.weight)] == 10
    assert rates[id(net.backbone.body.conv1.weight)] == 0.5**5


def test_a_shared_encoder_counts_once(detector: Build) -> None:
    net = detector()
    classifier = mt.to_classifier(net, 2)
    both = nn.ModuleDict({"boxes": net, "classes": classifier})
    assert len(select(both, "encoder").names) == len(select(net, "encoder").names)
    assert len(zoo_networks(both)) == 2


def test_trainable_backbone_layers_are_its_frozen_stages(detector: Build) -> None:
    net = detector(trainable_backbone_layers=2)
    assert net.frozen_stages == 2
    with pytest.raises(mt.MedTransferError, match="frozen_stages=2"):
        mt.unfreeze(net, "layer1")


def test_a_backbone_built_by_hand_is_the_encoder() -> None:
    backbone = nn.Sequential(nn.Conv3d(1, 4, 3, stride=4, padding=1), nn.ReLU())
    backbone.out_channels = 4
    anchors = AnchorGenerator(((8, 16),), (1.0,))
    net = FasterRCNN(backbone, 2, rpn_anchor_generator=anchors, size_divisible=4, box_head_size=8)
    assert select(net, "encoder").names == ["backbone.0.weight", "backbone.0.bias"]
    mt.freeze(net, "encoder")
    assert not any(name.startswith("backbone") for name in step(net))
