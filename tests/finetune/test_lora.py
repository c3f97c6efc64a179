"""Low-rank adapters: nothing changes when they come, and nothing when they are merged."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import medtransfer as mt
from medtransfer.errors import ModelError, UsageError
from medtransfer.finetune.freeze import unfreeze
from medtransfer.finetune.lora import add_lora, merge_lora, merged
from medtransfer.finetune.select import select
from tests.tiny_zoo import SEVERAL, answer, single_outputs

Build = Callable[..., nn.Module]


def fill_adapters(net: nn.Module) -> None:
    """As training would: a new adapter changes nothing."""
    for name, parameter in net.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.3)


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "3-D": (lambda: nn.Conv3d(3, 5, 3, padding=1), (2, 3, 6, 7, 8)),
    "dilated": (lambda: nn.Conv3d(3, 5, 3, padding=4, dilation=4, bias=False), (2, 3, 9, 9, 9)),
    "strided": (lambda: nn.Conv3d(3, 5, (3, 5, 1), stride=(2, 1, 3), padding=(1, 0, 0)), (2, 3, 6, 7, 8)),
    "same padding": (lambda: nn.Conv3d(3, 5, 3, padding="same", dilation=2), (2, 3, 6, 7, 8)),
    "circular": (lambda: nn.Conv2d(3, 5, 3, padding=1, padding_mode="circular"), (2, 3, 6, 7)),
    "grouped": (lambda: nn.Conv3d(6, 9, 3, groups=3), (2, 6, 5, 5, 5)),
    "depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4), (2, 4, 5, 5)),
    "1-D": (lambda: nn.Conv1d(3, 5, 3), (2, 3, 9)),
    "transposed": (lambda: nn.ConvTranspose3d(3, 5, 2, stride=2), (2, 3, 4, 5, 3)),
    "transposed, odd": (lambda: nn.ConvTranspose2d(3, 5, 3, (2, 3), 1, (1, 2), dilation=2), (2, 3, 6, 5)),
    "transposed, grouped": (lambda: nn.ConvTranspose3d(6, 9, 3, stride=2, groups=3, bias=False), (2, 6, 3, 4, 3)),
    "linear": (lambda: nn.Linear(7, 5), (2, 3, 7)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", LAYERS)
def test_merged_equals_unmerged(kind: str, dtype: torch.dtype) -> None:
    build, shape = LAYERS[kind]
    net = nn.Sequential(build()).to(dtype)
    x = torch.randn(shape, dtype=dtype)
    before, keys, weight = net(x), list(net.state_dict()), net[0].weight.clone()
    assert add_lora(net, rank=2, alpha=3.0) == ["0"]
    assert torch.equal(net(x), before)
    fill_adapters(net)
    adapted = net(x)
    assert (adapted - before).abs().max() > 0.1
    assert merge_lora(net) == ["0"]
    assert (net(x) - adapted).abs().max() < 1e-6 * adapted.abs().max()
    assert list(net.state_dict()) == keys
    assert not torch.equal(net[0].weight, weight)
    assert merge_lora(net) == []


def test_a_transposed_convolution_that_is_told_its_size() -> None:
    layer = nn.ConvTranspose3d(2, 3, 3, stride=2)
    net, x, size = nn.Sequential(layer), torch.randn(1, 2, 4, 4, 4), [10, 9, 10]
    add_lora(net, rank=2)
    fill_adapters(net)
    adapted = layer(x, size)
    merge_lora(net)
    assert adapted.shape[2:] == (10, 9, 10)
    assert torch.allclose(layer(x, size), adapted, atol=1e-5)


def test_alpha_over_rank_is_the_strength() -> None:
    nets = [nn.Sequential(nn.Linear(3, 3, bias=False)) for _ in range(2)]
    x, changes = torch.randn(1, 3), []
    for net, alpha in zip(nets, (4.0, 8.0), strict=True):
        add_lora(net, rank=4, alpha=alpha)
        nn.init.ones_(net[0].lora_down.weight)
        nn.init.ones_(net[0].lora_up.weight)
        changes.append(net(x) - nn.functional.linear(x, net[0].weight))
    assert torch.allclose(changes[0], x.sum() * 4 * torch.ones(1, 3), rtol=1e-4, atol=1e-5)
    assert torch.allclose(changes[1], 2 * changes[0], rtol=1e-4, atol=1e-5)


#: float32 rounds by 6e-8; through up to 224 layers the answers move by up to 1.5e-6 of the largest
ZOO_TOLERANCE = 4e-6


@pytest.mark.parametrize("name", [*single_outputs(), *SEVERAL])
def test_every_network_of_the_zoo_and_back(name: str, tiny: Build) -> None:
    """All layers, the decoder's transposed convolutions too."""
    net, size = tiny(name).eval(), 32 if "vgg" in name or name in SEVERAL else 16
    x, keys = torch.randn(1, 1, size, size, size), net.state_dict().keys()
    weights = {module for module in net.modules() if getattr(module, "weight", torch.empty(0)).ndim > 1}
    with torch.no_grad():
        before = answer(net, x)
        assert len(add_lora(net, rank=2, pattern=".*")) == len(weights)
        assert torch.equal(answer(net, x), before)
        fill_adapters(net)
        adapted = answer(net, x)
        merge_lora(net)
        scale = adapted.abs().max()
        assert (answer(net, x) - adapted).abs().max() <= ZOO_TOLERANCE * scale
        assert (adapted - before).abs().max() > 1e-2 * scale
    assert net.state_dict().keys() == keys


def test_a_dilated_network_and_its_copy(tiny: Build) -> None:
    net = tiny("resnet10", geometry="medicalnet").double().eval()
    assert max(module.dilation[0] for module in net.modules() if isinstance(module, nn.Conv3d)) > 1
    x = torch.randn(1, 1, 16, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        add_lora(net, rank=2)
        fill_adapters(net)
        adapted, twin = net(x), copy.deepcopy(net)
        merge_lora(net)
        assert (net(x) - adapted).abs().max() <= 1e-12 * adapted.abs().max()
        assert torch.equal(twin(x), adapted)  # a copy keeps its own adapters


def test_the_base_is_frozen_and_the_rest_trains(tiny: Build) -> None:
    net = tiny("resunet10", zero_init_residual=False)
    layers = add_lora(net, rank=2, pattern="layer[34]")
    assert {name.split(".")[0] for name in layers} == {"encoder_3", "encoder_4"}
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        net.train()(torch.randn(2, 1, 16, 16, 16)).square().mean().backward()
        optimizer.step()
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in before if "lora" in name} <= changed
    assert not {name for name in changed if name.startswith("encoder") and "lora" not in name}
    assert {name.split(".")[0] for name in changed if "lora" not in name} >= {"decoder_0", "final_layer"}


def test_adapted_layers_behind_the_encoder_are_frozen_too(tiny: Build) -> None:
    net = tiny("resunet10")
    add_lora(net, rank=2, pattern="decoder_0")
    trains = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert "decoder_0.conv.conv1.weight" not in trains
    assert {"decoder_0.conv.conv1.lora_up.weight", "decoder_0.conv.bn1.weight", "decoder_1.conv.conv1.weight"} <= trains
    assert not any(name.startswith("encoder") for name in trains)


def test_networks_that_share_an_encoder_share_its_adapters(tiny: Build) -> None:
    classifier = tiny("resnet10").eval()
    segmenter = mt.to_segmenter(classifier, num_classes=2, share=True).eval()
    x = torch.randn(1, 1, 16, 16, 16)
    before = segmenter(x)
    add_lora(classifier, rank=2, pattern="layer4")
    fill_adapters(classifier)
    adapted = segmenter(x)
    assert not torch.allclose(adapted, before)
    merge_lora(segmenter)
    assert torch.allclose(segmenter(x), adapted, rtol=1e-4, atol=1e-5)
    assert not [name for name in classifier.state_dict() if "lora" in name]


def test_saving_with_adapters_is_refused_and_merged_it_loads(tiny: Build, tmp_path: Path) -> None:
    net = tiny("resnet10").eval()
    add_lora(net, rank=2)
    fill_adapters(net)
    with pytest.raises(ModelError, match="merge_lora"):
        mt.save(net, tmp_path / "model")
    plain = merged(net)
    assert "conv1.lora_up.weight" in net.state_dict()
    assert merged(plain) is plain
    mt.save(plain, tmp_path / "model")
    x = torch.randn(1, 1, 16, 16, 16)
    assert torch.allclose(mt.load(tmp_path / "model")(x), net(x), rtol=1e-4, atol=1e-5)
    unfreeze(plain)
    assert all(parameter.requires_grad for parameter in plain.parameters())


def test_gradient_checkpointing_and_low_precision(tiny: Build) -> None:
    net = tiny("resunet10", with_cp=True, zero_init_residual=False)
    add_lora(net, rank=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = net.train()(torch.randn(2, 1, 16, 16, 16)).float().square().mean()
    loss.backward()
    assert all(p.grad is not None for name, p in net.named_parameters() if "lora_up" in name)


def test_acs_layers_are_left_alone(tiny: Build) -> None:
    net = tiny("resnet10", conv_cfg={"type": "ACSConv3d"})
    with pytest.raises(UsageError, match="'layer4' holds no layer"):
        add_lora(net, pattern="layer4")
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert add_lora(net, pattern=["head"]) == ["head_fc"]


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"rank": 1.5}, {"pattern": "layer9"}])
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any], tiny: Build) -> None:
    with pytest.raises(UsageError):
        add_lora(tiny("resnet10"), **wrong)


def test_adapters_do_not_pile_up(tiny: Build) -> None:
    net = tiny("resnet10")
    add_lora(net, pattern="layer4")
    with pytest.raises(ModelError, match="has an adapter already"):
        add_lora(net, pattern="layer3")
    assert len(select(net, "layer4.0.conv1")) == 3
