"""Tiny networks whose tensors all differ, and the ways in which a source may be given."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import medtransfer as mt


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def fill(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every tensor values of its own."""
    generator = torch.Generator().manual_seed(seed)
    for key, tensor in network.state_dict().items():
        if tensor.ndim > 1:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2 / tensor[0].numel()) ** 0.5)
        elif tensor.is_floating_point():
            low = 0.5 if "running_var" in key else 0.25
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + low)
        else:
            tensor.fill_(seed + 7)
    return network


@pytest.fixture
def tiny() -> Callable[..., nn.Module]:
    """A network of the zoo with 4 channels; ``seed`` sets the values of its tensors."""

    def build(name: str = "resnet10", seed: int = 0, **arguments) -> nn.Module:
        small = {"base_channels": 4, "stem_channels": 4, **({"decoder_block": "basic"} if "resu" in name else {})}
        return fill(mt.create_model(name, **{**small, **arguments}), seed)

    return build


@pytest.fixture
def snapshot() -> Callable[[nn.Module], dict[str, Tensor]]:
    """The tensors of a network as they are now."""
    return lambda network: copy.deepcopy(network.state_dict())


@pytest.fixture
def same() -> Callable[[nn.Module, dict[str, Tensor]], bool]:
    """Whether a network holds exactly these tensors, by bits."""

    def compare(network: nn.Module, state: dict[str, Tensor]) -> bool:
        now = network.state_dict()
        return now.keys() == state.keys() and all(
            now[k].dtype == v.dtype and torch.equal(now[k], v) for k, v in state.items()
        )

    return compare


@pytest.fixture(params=["module", "state dict", ".pth", ".safetensors", "model folder"])
def as_source(request, tmp_path: Path) -> Callable[[nn.Module], nn.Module | dict[str, Tensor] | Path]:
    """Each of the ways to hand over a network's weights."""

    def give(network: nn.Module) -> nn.Module | dict[str, Tensor] | Path:
        state = network.state_dict()
        if request.param == "module":
            return network
        if request.param == "state dict":
            return state
        path = tmp_path / f"source{request.param if request.param.startswith('.') else ''}"
        if request.param == ".pth":
            torch.save({"state_dict": state, "epoch": 3}, path)
        elif request.param == ".safetensors":
            save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
        else:
            mt.save(network, path)
        return path

    give.kind = request.param
    return give
