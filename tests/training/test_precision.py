"""Mixed precision: the optimizer wrapper, on a CPU and on CUDA."""

from __future__ import annotations

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

import medtransfer as mt
from medtransfer.errors import ConfigError
from medtransfer.model_zoo import bfloat16
from medtransfer.training.precision import MixedPrecision


def relative_error(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


def step_gradients(network: nn.Module, dtype: str) -> list[Tensor]:
    wrapper = MixedPrecision(dtype, optimizer=torch.optim.SGD(network.parameters(), lr=0.0))
    x = torch.randn(2, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    network.zero_grad()
    with wrapper.optim_context(network):
        loss = network(x).float().square().mean()
    wrapper.backward(loss)
    return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]


def test_a_network_has_the_gradients_of_float32_with_and_without_checkpointing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfloat16, "has_wrong_convolutions", lambda: True)
    gradients = []
    for with_cp, dtype in ((False, "bfloat16"), (True, "bfloat16"), (False, "float32")):
        torch.manual_seed(0)
        network = mt.create_model("resunet10", base_channels=8, stem_channels=8, with_cp=with_cp)
        gradients.append(torch.cat([gradient.flatten() for gradient in step_gradients(network, dtype)]))
    plain, checkpointed, exact = gradients
    assert torch.allclose(plain, checkpointed, atol=1e-5)
    assert relative_error(plain, exact) < 0.3  # few voxels remain at the bottom; wrong gradients are inf or 100 % off


def test_float16_does_not_train_on_a_cpu() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(ConfigError, match="float16 does not train on a CPU"):
        MixedPrecision("float16", optimizer=optimizer)
    with pytest.raises(ConfigError, match="got 'half'"):
        MixedPrecision("half", optimizer=optimizer)


def test_float32_steps_equal_those_of_mmengine() -> None:
    def trained(kind: type[OptimWrapper], **arguments: str) -> Tensor:
        layer = nn.Linear(3, 3)
        with torch.no_grad():
            layer.weight.copy_(torch.eye(3))
            layer.bias.zero_()
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
        wrapper = kind(optimizer=optimizer, clip_grad={"max_norm": 0.1}, **arguments)
        with wrapper.optim_context(layer):
            loss = layer(torch.arange(6.0).reshape(2, 3)).square().sum()
        wrapper.update_params(loss)
        return layer.weight.detach()

    assert torch.equal(trained(MixedPrecision, dtype="float32"), trained(OptimWrapper))
    assert float((trained(MixedPrecision, dtype="float32") - torch.eye(3)).norm()) <= 0.05 + 1e-6  # clipped


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "auto"])
def test_cuda_gradients_are_near_those_of_float32(dtype: str) -> None:
    torch.manual_seed(0)
    network = mt.create_model("resunet10", base_channels=8, stem_channels=8).cuda()
    x = torch.randn(2, 1, 32, 32, 32, device="cuda")
    losses = []
    for kind in ("float32", dtype):
        wrapper = MixedPrecision(kind, optimizer=torch.optim.SGD(network.parameters(), lr=0.0))
        with wrapper.optim_context(network):
            loss = network(x).float().square().mean()
        wrapper.update_params(loss)
        losses.append(float(loss))
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
