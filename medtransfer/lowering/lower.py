"""The steps in order, and the proof that what comes out is the network that went in."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn

from .concatenation import split_concatenations
from .fold import drop_identities, fold_norms
from .fuse import fuse_convolutions
from .layers import takes_input_statistics
from .substitutes import substitute
from .trace import UntraceableError, trace

#: largest error against the network as it was, as a share of the result's length: of float32, which shows that the
#: graph is the same; and of shorter numbers, which norms over the few voxels of a probe blow up
EXACT, CLOSE = 1e-3, 1.0
_LEAST = 16  # voxels of the noise along each axis


def lower(network: nn.Module, dtype: torch.dtype = torch.float32, exact: bool = True) -> fx.GraphModule | None:
    """An equal network that runs faster: norms folded, sums and activations within convolutions, numbers in ``dtype``.

    It is compared with the network on noise before it is given, in float32 to 1e-3 of the result's length.

    Args:
        network: In eval mode, (1, C, D, H, W) -> a tensor, or a list or dict of them; has ``in_channels``. It is not
            changed, and shares no memory with what is given.
        dtype: The numbers that convolutions multiply.
        exact: Whether results are float32 that no rounding to ``dtype`` went through.

    Returns:
        A graph, whose ``meta["error"]`` is how far its results are from the network's on noise, as a share of their
        length; or None where the network cannot be traced, or what came out differs.

    >>> net = nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU()).eval()
    >>> net.in_channels = 1
    >>> found = lower(net)
    >>> [type(part).__name__ for part in found.children()]
    ['Convolution']
    """
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return _lowered(network, dtype, exact)
    except (UntraceableError, RuntimeError, ValueError, TypeError, NotImplementedError):
        return None


def _lowered(network: nn.Module, dtype: torch.dtype, exact: bool) -> fx.GraphModule | None:
    probe = _probe(network)
    wanted = results(network(probe))
    # oneDNN's activations make 0 of NaN, and would hide it
    if not all(bool(torch.isfinite(tensor).all()) for tensor in (*wanted, *network.parameters())):
        return None
    folded = trace(copy.deepcopy(network).float())
    drop_identities(folded)
    fold_norms(folded)
    found = _fused(folded, torch.float32, exact)
    found.meta["error"] = _error(found, probe, wanted)
    if found.meta["error"] > EXACT or dtype == torch.float32:
        return found if found.meta["error"] <= EXACT else None
    short = _fused(folded, dtype, exact)
    short.meta["error"] = _error(short, probe, wanted)
    return short if short.meta["error"] <= CLOSE else None


def _fused(folded: fx.GraphModule, dtype: torch.dtype, exact: bool) -> fx.GraphModule:
    found = fuse_convolutions(folded, dtype, exact)
    split_concatenations(found)
    substitute(found, dtype)
    return found


def _probe(network: nn.Module) -> Tensor:
    """Noise on the network's device, with two voxels at the lowest resolution; eight for norms that look at them."""
    strides: Any = getattr(network, "output_stride", None) or (16, 16, 16)
    wide = any(map(takes_input_statistics, network.modules()))
    voxels = (2, 2, 2) if wide else (1, 1, 2)
    sizes = [max(_LEAST, count * stride) for count, stride in zip(voxels, strides, strict=True)]
    device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
    shape = [1, int(network.in_channels), *sizes]  # type: ignore[arg-type]
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)


def results(found: Any) -> list[Tensor]:
    """All tensors that a network gives, in float32.

    >>> [tensor.tolist() for tensor in results({"ill": torch.ones(1), "organs": [torch.zeros(2)]})]
    [[1.0], [0.0, 0.0]]
    """
    if isinstance(found, Tensor):
        return [found.float()]
    items: Iterable[Any] = found.values() if isinstance(found, dict) else found
    return [tensor for item in items for tensor in results(item)]


def _error(found: Callable[[Tensor], Any], probe: Tensor, wanted: list[Tensor]) -> float:
    with torch.autocast(probe.device.type, enabled=False):
        pairs = list(zip(results(found(probe)), wanted, strict=True))
    return max(distance(*pair) if pair[0].shape == pair[1].shape else math.inf for pair in pairs)


def distance(one: Tensor, two: Tensor) -> float:
    """How far the first is from the second, as a share of the second's length; of NaN infinite.

    >>> distance(torch.tensor([3.0, 4.5]), torch.tensor([3.0, 4.0]))
    0.1
    """
    length = float(two.norm())
    found = float((one - two).norm()) / length if length else float(one.norm())
    return found if math.isfinite(found) else math.inf
