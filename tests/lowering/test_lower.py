"""A lowered network is the network: over the zoo, in every layout and number, against torch's own layers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import medtransfer as mt
from medtransfer.lowering.convolution import Activation, Convolution
from medtransfer.lowering.fold import fold_norms
from medtransfer.lowering.fuse import fuse_convolutions
from medtransfer.lowering.lower import distance, lower, results
from medtransfer.lowering.trace import UntraceableError, trace
from tests.tiny_zoo import tiny_arguments

QUICK = ("resnet18", "resunet18", "resunet50", "vgg11_fcn", "vggunet11", "plain_unet", "resenc_unet", "genesis_unet")
NETWORKS = [name for name in mt.list_models() if not name.startswith(("faster", "retina"))]
SHORT = {torch.bfloat16: 0.05, torch.float16: 0.01}


def _trained(name: str, **arguments: Any) -> nn.Module:
    """A tiny network whose norms have statistics and scales as training leaves them."""
    network = mt.create_model(name, **{**tiny_arguments(name), **arguments})
    return with_statistics(network)


def with_statistics(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.weight is not None:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return network.eval().requires_grad_(False)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in NETWORKS]
)
def test_a_lowered_network_of_the_zoo_gives_the_same(name: str) -> None:
    network = _trained(name, in_channels=2)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    image = torch.randn(1, 2, 37, 33, 46)
    found = lower(network)
    assert found is not None
    assert max(map(distance, results(found(image)), results(network(image)))) < 1e-4
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize("dtype", SHORT)
@pytest.mark.parametrize("name", ["resnet18", "resunet18"])
def test_short_numbers_are_near_and_come_as_float32(name: str, dtype: torch.dtype) -> None:
    network, image = _trained(name), torch.randn(1, 1, 40, 35, 33)
    found = lower(network, dtype)
    assert found is not None
    logits = found(image)
    assert logits.dtype == torch.float32
    assert distance(logits, network(image)) < SHORT[dtype]


def test_nothing_is_left_to_do_behind_the_convolutions_of_a_resunet() -> None:
    found = lower(_trained("resunet18"))
    assert found is not None
    steps = {type(module).__name__ for module in found.children()}
    assert steps == {"Convolution", "MaxPool3d", "Slabs"}
    assert {node.target.__name__ for node in found.graph.nodes if node.op == "call_function"} == {
        "interpolated",
        "getattr",
        "getitem",
    }


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv3d(1, 6, 7, 2, 3), (1, 1, 17, 18, 19)),
        (nn.Conv3d(2, 6, 3, 1, 1), (2, 2, 5, 6, 7)),
        (nn.Conv3d(3, 6, (1, 3, 4), (1, 2, 3), (0, 1, 2), bias=False), (1, 3, 5, 9, 11)),
        (nn.Conv3d(8, 6, 3, padding="same", dilation=2), (1, 8, 5, 6, 7)),
        (nn.Conv3d(8, 6, 3, padding="valid", groups=2), (1, 8, 5, 6, 7)),
        (nn.Conv3d(8, 6, 1, 2), (1, 8, 5, 6, 7)),
        (nn.ConvTranspose3d(8, 6, 2, 2), (1, 8, 5, 6, 7)),
        (nn.ConvTranspose3d(8, 6, 3, 2, 1, 1, groups=2, bias=False), (1, 8, 3, 4, 5)),
        (nn.Conv3d(8, 6, 3, 2, 1), (1, 8, 1, 2, 2)),
    ],
)
@pytest.mark.parametrize("activation", [Activation(), Activation("relu"), Activation("leaky_relu", (0.1,))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_convolution_is_torchs_in_float64(
    layer: nn.Conv3d, shape: tuple[int, ...], activation: Activation, dtype: torch.dtype
) -> None:
    x = torch.randn(shape)
    wanted = activation(copy.deepcopy(layer).double()(x.double())).float()
    error = 1e-6 if dtype == torch.float32 else 0.02
    assert distance(Convolution(layer, dtype, activation)(x).float(), wanted) < error
    if not layer.transposed:
        other = torch.randn_like(wanted)
        total = activation(copy.deepcopy(layer).double()(x.double()) + other.double()).float()
        for in_place in (False, True):
            given = other.to(dtype, memory_format=torch.channels_last_3d, copy=True)
            found = Convolution(layer, dtype, activation)(x, given, in_place)
            assert distance(found.float(), total) < error


def test_the_last_convolution_rounds_nothing_away() -> None:
    layer = nn.Conv3d(16, 3, 1)
    x = torch.randn(1, 16, 8, 8, 8).bfloat16()
    wanted = F.conv3d(x.double(), layer.weight.bfloat16().double(), layer.bias.bfloat16().double()).float()  # type: ignore[union-attr]
    assert distance(Convolution(layer, torch.bfloat16, exact=True)(x), wanted) < 1e-4
    assert distance(Convolution(layer, torch.bfloat16)(x).float(), wanted) > 1e-3


class Wanting(nn.Module):
    """Asks for sizes, branches by them, and uses a layer twice."""

    in_channels = 1

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4))
        self.twice = nn.Conv3d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm3d(4)
        self.part = Branching()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.norm(self.twice(x)) + self.twice(x)
        return self.part(x + x)


class Branching(nn.Module):
    """A part that cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if max(x.shape) > 20 else self.conv(x).relu()


def test_what_cannot_be_traced_is_a_step_and_a_layer_called_twice_stays() -> None:
    network = with_statistics(Wanting())
    found = lower(network)
    assert found is not None
    assert sorted(type(module).__name__ for module in found.children()) == sorted(
        ["Convolution", "Conv3d", "BatchNorm3d", "Branching"]
    )
    for size in (16, 24):
        image = torch.randn(1, 1, size, size, size)
        assert distance(found(image), network(image)) < 1e-5


def test_sums_go_only_into_memory_that_nothing_reads_later() -> None:
    class Summing(nn.Module):
        in_channels = 1

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv3d(width, 4, 3, padding=1) for width in (1, 4, 4))

        def forward(self, x: Tensor) -> Tensor:
            first = self.a(x)
            view = first[:, :2]
            second = self.b(first) + first
            third = self.c(second) + second
            return torch.cat([first, view, third, second + third], dim=1)

    network, image = Summing().eval().requires_grad_(False), torch.randn(1, 1, 9, 9, 9)
    found = lower(network)
    assert found is not None
    assert len(found.graph.nodes) < len(trace(network).graph.nodes)
    assert distance(found(image), network(image)) < 1e-5


@pytest.mark.parametrize("change", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_lowered(change: float) -> None:
    network = _trained("resunet18")
    next(network.parameters()).view(-1)[0] = change
    assert lower(network) is None


def test_a_fault_in_the_rewriting_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgets(graph: fx.GraphModule) -> int:
        count = fold_norms(graph)
        for module in graph.children():
            if isinstance(module, nn.Conv3d):
                module.bias.mul_(1.2)  # type: ignore[union-attr]
        return count

    monkeypatch.setattr("medtransfer.lowering.lower.fold_norms", forgets)
    assert lower(_trained("resunet18")) is None


def test_a_network_that_decides_by_values_is_left_alone() -> None:
    class Deciding(nn.Conv3d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if x.mean() > 0 else x

    class Outer(nn.Module):
        in_channels = 1

        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Conv3d(1, 1, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.part(x) if x.mean() > 0 else x

    with pytest.raises(UntraceableError, match="Outer"):
        trace(Outer().eval())
    assert lower(Outer().eval()) is None
    layer = Deciding(1, 1, 3).eval()
    layer.in_channels = 1
    kept = fuse_convolutions(trace(nn.Sequential(layer).eval()), torch.float32)
    assert [type(module) for module in kept.children()] == [Deciding]


def test_names_that_are_words_of_python_and_names_that_flatten_alike() -> None:
    class Named(nn.Module):
        in_channels = 1

        def __init__(self) -> None:
            super().__init__()
            self.add_module("in", nn.Sequential())
            self.a = nn.ModuleDict({"b_c": nn.Conv3d(1, 1, 3)})
            self.a_b = nn.ModuleDict({"c": nn.Conv3d(1, 1, 1)})
            self.get_submodule("in").add_module("class", nn.Conv3d(1, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.get_submodule("in")(self.a_b["c"](self.a["b_c"](x)))

    network, image = Named().eval().requires_grad_(False), torch.randn(1, 1, 6, 6, 6)
    found: Callable[[Tensor], Tensor] | None = lower(network)
    assert found is not None
    assert distance(found(image), network(image)) < 1e-5


def test_random_numbers_go_on_as_without_it() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    network = _trained("resunet10")
    torch.manual_seed(3)
    lower(network)
    assert torch.equal(torch.rand(2), wanted)
