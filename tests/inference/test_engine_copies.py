"""An engine's own copy of a network, and copies of the engine."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from medtransfer.errors import ModelError
from medtransfer.inference.engine import Engine

CPU = torch.device("cpu")
COPIES: list[Callable[[Any], Any]] = [copy.deepcopy, lambda engine: pickle.loads(pickle.dumps(engine))]


@pytest.fixture
def network(networks: dict[str, Any]) -> nn.Module:
    found: nn.Module = networks["convolutions"](nn.BatchNorm3d).eval()
    return found


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_copy_of_an_engine_that_has_run_gives_the_same(
    network: nn.Module, dtype: torch.dtype, copied: Callable[[Engine], Engine]
) -> None:
    engine, image = Engine(copy.deepcopy(network), CPU, dtype), torch.randn(1, 1, 9, 8, 7)
    wanted = engine(image)
    assert isinstance(wanted, torch.Tensor)
    assert torch.equal(copied(engine)(image), wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_network_of_any_numbers_runs_in_float32_and_keeps_its_own(network: nn.Module, dtype: torch.dtype) -> None:
    short, image = copy.deepcopy(network).to(dtype), torch.randn(1, 1, 9, 8, 7)
    found = Engine(short, CPU)(image)
    assert torch.allclose(found, copy.deepcopy(short).float()(image), atol=1e-5)  # type: ignore[arg-type]
    assert {tensor.dtype for tensor in short.parameters()} == {dtype}


def test_weights_without_values_are_refused(network: nn.Module) -> None:
    with pytest.raises(ModelError, match="without values"):
        Engine(network.to("meta"), CPU)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_network_that_cannot_be_copied_is_refused(network: Any) -> None:
    nn.utils.weight_norm(network.body[0])
    network(torch.randn(1, 1, 9, 8, 7))
    with pytest.raises(ModelError, match="cannot be copied"):
        Engine(network, CPU)


class Writing(nn.Module):
    """Writes into its input."""

    in_channels = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(3)


def test_what_a_network_writes_into_its_input_stays_there() -> None:
    image = torch.full((1, 1, 4, 4, 4), 2.0)
    engine = Engine(Writing(), CPU)
    first, again = engine(image), engine(image)
    assert torch.equal(first, again)  # type: ignore[arg-type]
    assert (image == 2).all()
