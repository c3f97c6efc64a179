"""Layers for the tests of heads: small whole numbers, whose sums are exact in any order."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def conv_of(ndim: int, *sizes, **options) -> nn.Module:
    return getattr(nn, f"Conv{ndim}d")(*sizes, **options)


def integers(layer: nn.Module) -> nn.Module:
    """The layer with small whole numbers, all sums of which are exact in any order."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randint(-3, 4, parameter.shape))
    return layer


def whole_numbers(*shape: int) -> Tensor:
    return torch.randint(-3, 4, shape).float()


def same_layer(one: nn.Module, other: nn.Module) -> bool:
    """The same type, settings and tensors, by bits."""
    states = one.state_dict(), other.state_dict()
    tensors = all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))
    return tensors and states[0].keys() == states[1].keys() and repr(one) == repr(other) and type(one) is type(other)
