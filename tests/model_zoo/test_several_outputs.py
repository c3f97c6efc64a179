"""What every network promises, of those that give several tensors: multi-task networks and detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

import medtransfer as mt
from tests.tiny_zoo import SEVERAL, answer, loss_of, tiny_arguments


def build(name: str, **arguments: Any) -> nn.Module:
    own = {} if name.startswith("multitask") else {"num_classes": 3}
    return mt.create_model(name, **tiny_arguments(name), **own, **arguments)


@pytest.mark.parametrize("name", SEVERAL)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    net = build(name).train()
    loss_of(net, torch.randn(2, 1, 33, 32, 32)).backward()
    lacking = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert lacking == []


@pytest.mark.parametrize("name", SEVERAL)
def test_what_was_saved_is_loaded_bit_for_bit(name: str, tmp_path: Path) -> None:
    net = build(name, in_channels=2, frozen_stages=0)
    loss_of(net.train(), torch.randn(2, 2, 32, 32, 32))  # statistics of norms that are not those of a new network
    mt.save(net.eval(), tmp_path / "net")
    again = mt.load(tmp_path / "net")
    x = torch.randn(1, 2, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(answer(again, x), answer(net, x))
    assert again.architecture == net.architecture
    assert (again.task, again.num_classes, again.frozen_stages) == (net.task, net.num_classes, 0)


@pytest.mark.parametrize("name", SEVERAL)
def test_options_of_the_encoder_reach_its_layers(name: str) -> None:
    net = build(name, norm_cfg={"type": "GN", "num_groups": 1}, act_cfg={"type": "ELU"})
    encoder = [part for stage in net.stages() for part in stage.modules()]
    assert sum(isinstance(part, nn.GroupNorm) for part in encoder) > 0
    assert not any(isinstance(part, _NormBase | nn.ReLU | nn.LeakyReLU) for part in encoder)
    assert not any(isinstance(part, _NormBase) for part in net.modules())


@pytest.mark.parametrize("name", SEVERAL)
def test_freezing_survives_train(name: str) -> None:
    net = build(name, frozen_stages=1, norm_eval=True)
    for _ in range(2):
        learns = [any(p.requires_grad for p in stage.parameters()) for stage in net.stages()]
        assert learns == [False, False, *[True] * (len(learns) - 2)]
        norms = [part for part in net.modules() if isinstance(part, _NormBase) and part.track_running_stats]
        assert not any(norm.training for norm in norms)
        net.train()
    before = {key: p.detach().clone() for key, p in net.stages()[0].named_parameters()}
    loss_of(net, torch.randn(2, 1, 32, 32, 32)).backward()
    torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1).step()
    assert all(torch.equal(p, before[key]) for key, p in net.stages()[0].named_parameters())
