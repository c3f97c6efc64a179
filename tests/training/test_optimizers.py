"""Optimizers over any layout in memory: the weights are those that torch gives to contiguous ones."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from medtransfer.training.optimizers import SGD, Adagrad, Adam, AdamW
from medtransfer.training.registry import OPTIMIZERS

LAYOUTS = {"contiguous": torch.contiguous_format, "last": torch.channels_last_3d}
SHAPE = (4, 3, 3, 3, 2)
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "AdamW": (AdamW, {}),
    "Adam": (Adam, {"amsgrad": True}),
    "SGD": (SGD, {}),
    "SGD with momentum": (SGD, {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1}),
    "Adagrad": (Adagrad, {}),
}


def trained(kind: Any, of_parameter: torch.memory_format, of_gradient: torch.memory_format, **words: Any) -> Tensor:
    """The weight after three steps, beside a parameter without a gradient."""
    generator = torch.Generator().manual_seed(0)
    start, slope = (torch.randn(SHAPE, generator=generator) for _ in range(2))
    weight = start.clone(memory_format=of_parameter).requires_grad_()
    bias = torch.ones(3, requires_grad=True)
    optimizer = kind([bias, weight], lr=0.1, **words)
    for _ in range(3):
        weight.grad = slope.clone(memory_format=of_gradient)
        optimizer.step()
    assert weight.is_contiguous(memory_format=of_parameter)
    kept = [value for value in optimizer.state[weight].values() if isinstance(value, Tensor) and value.ndim]
    assert all(value.shape == SHAPE for value in kept)
    return weight.detach()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("of_gradient", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("of_parameter", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("name", KINDS)
def test_weights_are_the_same_in_any_layout(name: str, of_parameter: Any, of_gradient: Any, fused: bool) -> None:
    kind, words = KINDS[name]
    torchs = getattr(torch.optim, kind.__name__)
    expected = trained(torchs, torch.contiguous_format, torch.contiguous_format, fused=fused, **words)
    assert torch.equal(trained(kind, of_parameter, of_gradient, fused=fused, **words), expected)


@pytest.mark.parametrize("name", KINDS)
def test_moments_of_another_layout_are_taken_over(name: str) -> None:
    torch.manual_seed(0)
    kind, words = KINDS[name]
    start, slopes = torch.randn(SHAPE), torch.randn(4, *SHAPE)
    weights = [start.clone(memory_format=layout).requires_grad_() for layout in LAYOUTS.values()]
    first, second = (kind([weight], lr=0.1, fused=True, **words) for weight in weights)
    for step, slope in enumerate(slopes):
        if step == 2:  # a run goes on in another layout
            second.load_state_dict(copy.deepcopy(first.state_dict()))
            weights[1].data.copy_(weights[0].data)
        weights[0].grad = slope.clone()
        first.step()
        if step >= 2:
            weights[1].grad = slope.clone(memory_format=torch.channels_last_3d)
            second.step()
    assert torch.equal(*weights)


def test_they_take_the_place_of_those_of_torch_in_a_config() -> None:
    for kind in (AdamW, Adam, SGD, Adagrad):
        assert OPTIMIZERS.get(kind.__name__) is kind
        weight = torch.ones(2, requires_grad=True)
        assert type(OPTIMIZERS.build({"type": kind.__name__, "params": [weight], "lr": 0.1})) is kind
