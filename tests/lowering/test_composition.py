"""Upsamplings that take over the convolutions behind them: the same network, and only where it is no more work."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

import medtransfer as mt
from medtransfer.lowering.composition import compose_upsamplings
from medtransfer.lowering.convolution import Convolution
from medtransfer.lowering.fuse import fuse_convolutions
from medtransfer.lowering.lower import lower
from medtransfer.lowering.trace import trace
from medtransfer.model_zoo.layers import to_size


class Decoder(nn.Module):
    """What stands behind an upsampling in a decoder: two convolutions, of which a shortcut adds one to a third."""

    def __init__(
        self, up: nn.Module, one: nn.Module, two: nn.Module | None = None, size: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.up, self.one, self.two, self.size = up, one, two, size
        self.deep = nn.Conv3d(one.out_channels, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(1, 4, D, H, W) -> (1, 4, D', H', W')."""
        up = self.up(x)
        if self.size:
            up = to_size(up, self.size, "trilinear")
        found = self.deep(self.one(up).relu())
        return (found + self.two(up)).tanh() if self.two else found.tanh()


def composed(network: nn.Module) -> tuple[int, float]:
    """How many upsamplings went, and how far the result is from the network's."""
    network = network.eval()
    graph = fuse_convolutions(trace(network), torch.float32)
    count, x = compose_upsamplings(graph), torch.randn(1, network.up.in_channels, 3, 4, 5)
    with torch.no_grad():
        return count, float((graph(x) - network(x)).abs().max())


UP = (4, 4, 2, 2)


@pytest.mark.parametrize(
    "network",
    [
        Decoder(nn.ConvTranspose3d(*UP), nn.Conv3d(4, 4, 1)),
        Decoder(nn.ConvTranspose3d(*UP, bias=False), nn.Conv3d(4, 4, 1)),
        Decoder(nn.ConvTranspose3d(*UP), nn.Conv3d(4, 4, 1, bias=False)),
        Decoder(nn.ConvTranspose3d(*UP), nn.Conv3d(4, 4, 1), size=(7, 8, 11)),
        Decoder(nn.ConvTranspose3d(4, 4, 3, 2, 1, 1), nn.Conv3d(4, 4, 1)),
        Decoder(nn.ConvTranspose3d(*UP), nn.Conv3d(4, 2, 1), nn.Conv3d(4, 4, 1)),
        Decoder(nn.ConvTranspose3d(*UP), nn.Conv3d(4, 2, 1), nn.Conv3d(4, 4, 1), size=(7, 8, 11)),
    ],
    ids=["plain", "no bias below", "no bias above", "resized", "overlapping kernel", "shortcut", "shortcut, resized"],
)
def test_both_are_one_where_nothing_stands_between(network: nn.Module) -> None:
    count, error = composed(network)
    assert error < 1e-5
    assert count == 1


@pytest.mark.parametrize(
    "network",
    [
        Decoder(nn.ConvTranspose3d(*UP), nn.Conv3d(4, 4, 3, padding=1)),
        Decoder(nn.ConvTranspose3d(*UP), nn.Conv3d(4, 4, 1), nn.Conv3d(4, 4, 3, padding=1)),
        Decoder(nn.Sequential(nn.ConvTranspose3d(*UP), nn.ReLU()), nn.Conv3d(4, 4, 1)),
        Decoder(nn.ConvTranspose3d(4, 4, 2, 2, groups=2), nn.Conv3d(4, 4, 1)),
        Decoder(nn.ConvTranspose3d(*UP), nn.Conv3d(4, 4, 1, groups=2)),
        Decoder(nn.ConvTranspose3d(4, 1, 2, 2), nn.Conv3d(1, 4, 1)),
    ],
    ids=["wide kernel", "one of two is wide", "activation between", "groups", "groups behind", "more work"],
)
def test_what_cannot_be_one_or_is_more_work_stays(network: nn.Module) -> None:
    if isinstance(network.up, nn.Sequential):
        network.up.in_channels = 4
    count, error = composed(network)
    assert (count, error < 1e-5) == (0, True)


def test_short_numbers_are_rounded_once() -> None:
    torch.manual_seed(0)
    network = Decoder(nn.ConvTranspose3d(*UP), nn.Conv3d(4, 4, 1)).eval()
    graph = fuse_convolutions(trace(network), torch.bfloat16)
    compose_upsamplings(graph)
    (found,) = [part for part in graph.modules() if isinstance(part, Convolution) and part.transposed]
    with torch.no_grad():
        exact = torch.einsum("iudhw,ku->ikdhw", network.up.weight, network.one.weight.flatten(1))
        assert torch.equal(found.weight.contiguous(), exact.to(torch.bfloat16))


def test_a_sum_that_others_read_too_stays() -> None:
    class Shared(Decoder):
        def forward(self, x: Tensor) -> Tensor:
            up = self.up(x)
            deep = self.deep(self.one(up).relu())
            return (deep + self.two(up)).tanh() + deep.sin()  # type: ignore[misc]

    network = Shared(nn.ConvTranspose3d(*UP), nn.Conv3d(4, 4, 1), nn.Conv3d(4, 4, 1))
    assert composed(network)[1] < 1e-5


def test_the_sum_starts_from_the_upsampling_in_a_resunet() -> None:
    network = mt.create_model("resunet10", base_channels=4, stem_channels=4, num_classes=3).eval()
    graph = lower(network)
    assert graph is not None
    names = {name.rpartition(".")[2]: part for name, part in graph.named_modules() if isinstance(part, Convolution)}
    ups = [name for name, part in names.items() if part.transposed]
    assert [name[-4:] for name in sorted(ups)] == ["_of0", "_of1"] * 4
    # of the halves of a shortcut the one of the upsampled map is gone
    assert not [name for name in names if name.endswith("downsample_0_of0")]


def test_no_second_copy_of_the_weights_is_left() -> None:
    graph = lower(mt.create_model("resunet10", base_channels=4, stem_channels=4).eval(), torch.bfloat16)
    assert graph is not None
    parts = [part for part in graph.modules() if isinstance(part, Convolution)]
    assert all(part._exactly[0] is part.weight for part in parts)
