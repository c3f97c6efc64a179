"""Convolutions in other forms: what comes out is what torch gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import medtransfer as mt
from medtransfer.training import convolutions, precision
from medtransfer.training.convolutions import QuickConvolutions, matrix_convolution
from medtransfer.training.optimizers import AdamW
from medtransfer.training.precision import MixedPrecision, fast_dtype

LAYOUTS = {"contiguous": torch.contiguous_format, "last": torch.channels_last_3d}
# kernel, stride, padding, size
SETTINGS = {
    "the bottom of a network": ((3, 3, 3), (1, 1, 1), (1, 1, 1), (2, 2, 2)),
    "the step to it": ((3, 3, 3), (2, 2, 2), (1, 1, 1), (4, 3, 5)),
    "anisotropic": ((1, 3, 5), (1, 2, 1), (0, 1, 2), (3, 4, 5)),
    "no padding": ((2, 3, 2), (1, 1, 1), (0, 0, 0), (3, 3, 4)),
}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_product_has_the_results_and_gradients_of_a_convolution(setting, layout) -> None:
    kernel, stride, padding, size = setting
    torch.manual_seed(0)
    given = [torch.randn(2, 3, *size), torch.randn(5, 3, *kernel), torch.randn(5)]
    found, expected = [], []
    for function, values in ((matrix_convolution, found), (torch.conv3d, expected)):
        inputs = [tensor.double().contiguous(memory_format=layout) if tensor.ndim == 5 else tensor for tensor in given]
        inputs = [tensor.double().requires_grad_() for tensor in inputs]
        result = function(*inputs, stride, padding)
        result.square().sum().backward()
        values += [result, *(tensor.grad for tensor in inputs)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-10)


class Layers(nn.Module):
    """One of each kind that has another form."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(1, 8, 7, stride=2, padding=3)
        self.bottom = nn.Conv3d(8, 64, 3, stride=4, padding=1)
        self.up = nn.ConvTranspose3d(64, 3, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.bottom(self.stem(x)))


def gradients(layers: Layers, quick: bool) -> tuple[Tensor, list[Tensor]]:
    wrapper = MixedPrecision("bfloat16", optimizer=torch.optim.SGD(layers.parameters(), lr=0.0))
    wrapper._quick = QuickConvolutions() if quick else None
    layers.zero_grad()
    with wrapper.optim_context(layers):
        loss = layers(torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))).float().square().sum()
    wrapper.backward(loss)
    return loss.detach(), [parameter.grad.clone() for parameter in layers.parameters()]


def test_training_computes_the_same_in_the_quick_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layers, called = Layers(), []
    for name in ("unfolded_convolution", "matrix_convolution"):
        form = getattr(convolutions, name)
        monkeypatch.setattr(convolutions, name, lambda *a, n=name, f=form: called.append(n) or f(*a))
    (loss, quick), (expected, plain) = gradients(layers, True), gradients(layers, False)
    assert called == ["unfolded_convolution", "matrix_convolution"]  # in the first run alone
    torch.testing.assert_close(loss, expected, rtol=0.02, atol=0)
    for one, other in zip(quick, plain, strict=True):
        assert one.dtype == torch.float32
        assert float((one - other).norm() / other.norm()) < 0.02


def test_what_runs_outside_autocast_is_left_alone() -> None:
    layer, x = nn.Conv3d(1, 2, 3), torch.ones(1, 1, 5, 5, 5)
    with QuickConvolutions():
        assert layer(x).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16), QuickConvolutions():
        dilated = nn.functional.conv3d(x, layer.weight, dilation=2)
    assert dilated.shape == (1, 2, 1, 1, 1)


def test_bfloat16_is_chosen_where_the_processor_multiplies_matrices_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_tiles, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has=has_tiles: has)
        assert fast_dtype(torch.device("cpu")) == dtype
        quick = convolutions.quick_convolutions(torch.device("cpu"), torch.bfloat16)
        assert (quick is not None) == has_tiles
    assert precision.quick_convolutions(torch.device("cpu"), torch.float32) is None


def test_a_network_in_checkpoints_trains_in_the_quick_forms() -> None:
    losses = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        network = mt.create_model("resunet10", base_channels=4, stem_channels=4, with_cp=with_cp)
        wrapper = MixedPrecision("bfloat16", optimizer=AdamW(network.parameters(), lr=0.01, fused=True))
        wrapper._quick = QuickConvolutions()
        for _ in range(2):
            with wrapper.optim_context(network):
                loss = network(torch.ones(2, 1, 16, 16, 16)).float().square().mean()
            wrapper.update_params(loss)
        losses.append(loss.detach())
    torch.testing.assert_close(*losses, rtol=1e-3, atol=0)
