"""Forward passes as users write them: what is rewritten stays the network, at sizes that no probe had."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from medtransfer.inference.engine import Engine
from medtransfer.lowering.lower import distance, lower
from medtransfer.lowering.substitutes import interpolated
from tests.lowering.test_lower import with_statistics

CPU = torch.device("cpu")


class Written(nn.Module):
    """A few layers, and a forward pass that is given."""

    in_channels = 1

    def __init__(self, forward: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.given = forward
        self.a, self.b, self.d = (nn.Conv3d(width, 8, 3, padding=1) for width in (1, 8, 8))
        self.joined, self.c, self.norm = nn.Conv3d(16, 2, 1), nn.Conv3d(8, 2, 1), nn.BatchNorm3d(8)
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.given(self, x if mask is None else x * mask.float())


@pytest.fixture(autouse=True)
def _seeded() -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def _lowered(network: nn.Module, dtype: torch.dtype = torch.float32) -> fx.GraphModule:
    found = lower(with_statistics(network), dtype)
    assert found is not None
    return found


def _onto_its_own_input(net: Any, x: Tensor) -> Tensor:
    first = net.a(x)
    return net.c(net.b(first) + first)


def _joined_before_a_sum(net: Any, x: Tensor) -> Tensor:
    first = net.a(x)
    second = net.b(first)
    both = torch.cat([first, second], 1)
    return net.c(net.d(second) + first) + net.joined(both)


@pytest.mark.parametrize(
    ("forward", "layers"),
    [
        (_onto_its_own_input, {}),
        (_joined_before_a_sum, {}),
        (lambda net, x: net.c(net.norm(net.b(net.a(x)))), {"b": weight_norm(nn.Conv3d(8, 8, 3))}),
        (lambda net, x: net.c(net.norm(net.b(net.a(x)))), {"b": nn.ConvTranspose3d(8, 8, 3, 2, groups=8)}),
    ],
)
def test_it_is_lowered_and_the_same(forward: Callable[..., Tensor], layers: dict[str, nn.Module]) -> None:
    network = Written(forward, **layers)
    found = _lowered(network)
    for size in (5, 16, 21):
        image = torch.randn(1, 1, size, 9, 11)
        assert distance(found(image), network(image)) < 1e-5


@pytest.mark.parametrize("longest", [16, 32])
def test_a_sum_that_repeats_a_map_which_the_probe_has_in_one_voxel(longest: int) -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        low = F.max_pool3d(net.a(x), longest, ceil_mode=True)
        return net.c(low + net.b(F.adaptive_avg_pool3d(low, 1)) + net.d(low))

    network = Written(forward)
    found, image = _lowered(network), torch.randn(1, 1, 40, 70, 30)
    assert distance(found(image), network(image)) < 1e-5


def _clamped(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output.clamp(max=30.0)


@pytest.mark.parametrize("part", ["a", "norm", "act", "none", ""])
def test_hooks_are_heard_though_the_probe_does_not_reach_what_they_change(part: str) -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        return net.c(net.none(net.act(net.norm(net.a(x)))))

    network = Written(forward, act=nn.ReLU(), none=nn.Identity())
    network.get_submodule(part).register_forward_hook(_clamped)
    found, image = lower(with_statistics(network)), 1000 * torch.randn(1, 1, 9, 9, 9)
    assert (found is None) == (part == "")
    assert distance((found or network)(image), network(image)) < 1e-5


def test_a_question_about_sizes_whose_error_is_caught_is_not_lowered() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        try:
            return net.c(net.a(x).relu() if x.shape[2] > 20 else net.a(x))
        except fx.proxy.TraceError:
            return net.c(net.a(x))

    assert lower(Written(forward).eval()) is None


@pytest.mark.parametrize("error", [AttributeError, AssertionError, KeyError, IndexError])
def test_whatever_a_forward_pass_raises_of_the_probe_it_is_left_as_it_is(error: type[Exception]) -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        raise error("48 voxels")

    assert lower(Written(forward).eval()) is None


def _weighted(net: Any, x: Tensor) -> Tensor:
    first = net.a(x)
    return net.c(net.b(first * net.line(F.avg_pool3d(first, 3).mean((2, 3, 4))).sigmoid()[..., None, None, None]))


def test_what_needs_autocast_says_so_and_an_engine_gives_it(capsys: pytest.CaptureFixture[str]) -> None:
    network = Written(_weighted, line=nn.Linear(8, 8))
    assert _lowered(network, torch.bfloat16).meta["autocast"]
    image = torch.randn(1, 1, 9, 10, 11)
    found = Engine(network, CPU, torch.bfloat16)(image)
    assert isinstance(found, Tensor)
    assert 1e-6 < distance(found, network(image)) < 0.02
    assert capsys.readouterr().err == ""


def test_an_engine_rounds_nothing_behind_the_last_convolution() -> None:
    network = Written(lambda net, x: net.line(net.c(net.a(x)).mean((2, 3, 4))), line=nn.Linear(2, 2)).eval()
    found = Engine(network, CPU, torch.bfloat16)(torch.randn(1, 1, 9, 10, 11))
    assert isinstance(found, Tensor)
    assert not torch.equal(found, found.bfloat16().float())


def test_numbers_on_trial_are_compared_where_nothing_is_lowered() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        far = net.a(x) + 3000 if x.shape[2] > 2 else net.a(x)
        return net.c(far - 3000)

    engine = Engine(Written(forward), CPU, torch.bfloat16, on_trial=True)
    assert engine.lowered is None
    assert "differs from float32" in (engine.settled or "")
    assert engine.dtype == torch.float32


def test_interpolation_in_float32_stays_so_within_autocast() -> None:
    x = torch.rand(1, 2, 3, 4, 5)
    with torch.autocast("cpu", torch.bfloat16):
        found = interpolated(x, (6, 8, 7), "trilinear")
    assert torch.allclose(found, interpolated(x, (6, 8, 7), "trilinear"), atol=1e-6)


def test_a_branch_by_size_that_tracing_hides_is_seen_by_a_second_probe() -> None:
    class Hidden(nn.Module):
        in_channels = 1

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(1, 2, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return -y if isinstance(y, Tensor) and y.shape[2] > 20 else y

    assert lower(Hidden().eval()) is None
