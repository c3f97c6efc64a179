"""Networks of a few channels with weights that leave no layer idle."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def randomise() -> Callable[[nn.Module], nn.Module]:
    """Give every tensor values of its own: two networks then agree only if each tensor is in its place."""

    def fill(network: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        for key, tensor in network.state_dict().items():
            if tensor.ndim > 1:
                fan_in = tensor[0].numel()
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2 / fan_in) ** 0.5)
            elif tensor.is_floating_point():
                low = 0.5 if "running_var" in key else 0.25
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + low)
        return network

    return fill
