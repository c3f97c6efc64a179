"""A few planes at a time give what all at once do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import medtransfer as mt
from medtransfer.lowering import slabs
from medtransfer.lowering.lower import lower
from medtransfer.lowering.slabs import Slabs
from medtransfer.model_zoo.layers import to_size


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return mt.create_model("resunet10", base_channels=4, stem_channels=16, num_classes=2).eval()


def gathered(network: nn.Module, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Slabs]:
    lowered = lower(network, dtype)
    assert lowered is not None
    (found,) = [part for part in lowered.children() if isinstance(part, Slabs)]
    return lowered, found


@pytest.mark.parametrize("depth", [32, 36, 44, 33, 64])
@pytest.mark.parametrize("planes", [2, 3, 5])
def test_the_result_is_that_of_the_whole(
    network: nn.Module, depth: int, planes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lowered, found = gathered(network)
    runs: list[int] = []
    found.steps.register_forward_hook(lambda module, inputs, output: runs.append(output.shape[2]))
    x = torch.randn(1, 1, depth, 16, 24)
    monkeypatch.setattr(Slabs, "_planes", lambda self, coarsest, inputs: planes)
    with torch.no_grad():
        torch.testing.assert_close(lowered(x), network(x), atol=1e-5, rtol=1e-4)
    # of a depth of 33 the upsampled map is interpolated to the skip's, and planes depend on each other
    assert len(runs) == (1 if depth == 33 else depth // 4 // planes)
    assert sum(runs) == -(-depth // 2)


def test_slabs_are_as_large_as_the_cache_and_never_one_plane(network: nn.Module) -> None:
    _, found = gathered(network)
    maps = tuple(torch.empty(1, 1, 2, 2, 2) for _ in found.scales)
    each = 2 * 2 * 2 * 10 * 10 * found.widest * 4  # two planes of twice the size for each, in float32
    assert found._planes((40, 10, 10), maps) == slabs.CACHED // each
    assert found._planes((40, 4000, 4000), maps) == 2


def test_the_map_before_the_head_is_never_whole(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    lowered, found = gathered(network, torch.bfloat16)
    sizes: list[int] = []
    for part in found.steps.children():
        part.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[2]))
    monkeypatch.setattr(slabs, "CACHED", 0)
    with torch.no_grad():
        lowered(torch.randn(1, 1, 64, 32, 32))
    assert max(sizes) == 4
    assert len(sizes) == 8 * len(list(found.steps.children()))


def test_a_network_whose_last_maps_are_no_wider_than_its_result_has_none() -> None:
    network = mt.create_model("resunet10", base_channels=4, stem_channels=4, num_classes=9).eval()
    lowered = lower(network)
    assert lowered is not None
    assert not [part for part in lowered.children() if isinstance(part, Slabs)]


@pytest.mark.parametrize("skip", [(8, 8, 9), (8, 10, 8), (16, 16, 16)])
def test_maps_that_do_not_lie_on_each_other_are_not_cut(network: nn.Module, skip: tuple[int, ...]) -> None:
    _, found = gathered(network)
    coarse, fine = torch.empty(1, 1, 4, 4, 4), torch.empty(1, 1, 8, 8, 8)
    maps = [coarse if scale == (1, 1, 1) else fine for scale in found.scales]
    assert found._coarsest(tuple(maps)) == (4, 4, 4)
    assert found._coarsest((*maps[:-1], torch.empty(1, 1, *skip))) is None


class Resized(nn.Module):
    """A decoder's last steps, whose upsampled map gets the skip's size, or one that was written down."""

    in_channels, output_stride, architecture = 1, 16, "made by hand"

    def __init__(self, size: tuple[int, ...] | None) -> None:
        super().__init__()
        self.size = size
        self.first, self.skip = nn.Conv3d(1, 16, 3, 2, 1), nn.Conv3d(1, 16, 1)
        self.up, self.head = nn.ConvTranspose3d(16, 16, 2, 2), nn.Conv3d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(1, 1, 16, 16, 32) -> (1, 2, 16, 16, 32)."""
        up = to_size(F.relu(self.up(F.relu(self.first(x)))), self.size or x.shape[2:], "trilinear")
        return self.head(F.relu(up + self.skip(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("size", [None, (16, 16, 32)])
def test_a_size_that_was_written_down_is_not_cut(size: tuple[int, ...] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Resized(size).eval()
    lowered = lower(network)
    assert lowered is not None
    (found,) = [part for part in lowered.children() if isinstance(part, Slabs)] or [None]
    assert (found is None) == (size is not None)
    monkeypatch.setattr(slabs, "CACHED", 0)
    x = torch.randn(1, 1, 16, 16, 32)
    with torch.no_grad():
        torch.testing.assert_close(lowered(x), network(x), atol=1e-5, rtol=1e-4)
