"""The steps in order, and the proof that what comes out is the network that went in."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from .composition import compose_upsamplings
from .concatenation import split_concatenations
from .convolution import Convolution
from .fold import drop_identities, fold_norms
from .fuse import fuse_convolutions
from .layers import takes_input_statistics
from .slabs import run_in_slabs
from .substitutes import substitute
from .trace import trace

#: largest error against the network as it was, as a share of the result's length: of float32, which shows that the
#: graph is the same; and of shorter numbers, which norms over the few voxels of a probe blow up
EXACT, CLOSE = 1e-3, 1.0
_LEAST = 16  # voxels of the noise along each axis


def lower(network: nn.Module, dtype: torch.dtype = torch.float32) -> fx.GraphModule | None:
    """An equal network that runs faster: norms folded, sums and activations within convolutions, numbers in ``dtype``.

    Results are float32 that no rounding to ``dtype`` went through. It is compared with the network on noise before
    it is given, in float32 to 1e-3 of the result's length.

    Args:
        network: In eval mode, (1, C, D, H, W) -> a tensor, or a list or dict of them; has ``in_channels``. It is not
            changed, and shares no memory with what is given.
        dtype: The numbers that convolutions multiply.

    Returns:
        A graph, whose ``meta["error"]`` is how far its results are from the network's on noise, as a share of their
        length, and ``meta["autocast"]`` whether it must run within autocast to ``dtype``; or None where the network
        cannot be traced, or what came out differs.

    >>> net = nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU()).eval()
    >>> net.in_channels = 1
    >>> found = lower(net)
    >>> [type(part).__name__ for part in found.children()]
    ['Convolution']
    """
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return _lowered(network, dtype)
    except Exception:  # whatever a user's own forward pass raises, of an input of this size
        return None


def _lowered(network: nn.Module, dtype: torch.dtype) -> fx.GraphModule | None:
    probe = noise_for(network)
    wanted = results(network(probe.clone()))
    # whoever wrote the network may have it branch by size; those of the zoo do not
    others = [] if getattr(network, "architecture", None) else [noise_for(network, 2)]
    # oneDNN's activations make 0 of NaN, and would hide it
    if not all(bool(torch.isfinite(tensor).all()) for tensor in (*wanted, *network.parameters())):
        return None
    folded = trace(copy.deepcopy(network).float())
    drop_identities(folded)
    fold_norms(folded)
    found = _fused(folded, torch.float32)
    errors = [_farthest(_results_of(found, image), results(network(image.clone()))) for image in others]
    found.meta["error"] = max(_farthest(_results_of(found, probe), wanted), *errors, 0.0)
    found.meta["autocast"] = False
    if found.meta["error"] > EXACT or dtype == torch.float32:
        return found if found.meta["error"] <= EXACT else None
    short = _fused(folded, dtype)
    short.meta["autocast"], given = _given_by(short, probe, dtype)
    short.meta["error"] = _farthest(given, wanted)
    return short if short.meta["error"] <= CLOSE else None


def _given_by(found: fx.GraphModule, probe: Tensor, dtype: torch.dtype) -> tuple[bool, list[Tensor]]:
    """Whether a graph needs autocast, since what is left of the network refuses short numbers; and what it gives."""
    try:
        return False, _results_of(found, probe)
    except (RuntimeError, NotImplementedError):
        return True, _results_of(found, probe, dtype)


def _fused(folded: fx.GraphModule, dtype: torch.dtype) -> fx.GraphModule:
    found = fuse_convolutions(folded, dtype)
    split_concatenations(found)
    compose_upsamplings(found)
    substitute(found, dtype)
    run_in_slabs(found)
    for part in found.modules():
        if isinstance(part, Convolution):
            part.settle()
    return found


def noise_for(network: nn.Module, times: int = 1) -> Tensor:
    """Noise on the network's device, with two voxels at the lowest resolution; eight for norms that look at them.

    Args:
        network: Has ``in_channels``, and may have ``output_stride``.
        times: How many times as long each axis is.
    """
    wide = any(map(takes_input_statistics, network.modules()))
    voxels = (2, 2, 2) if wide else (1, 1, 2)
    strides = strides_of(network, default=_LEAST)
    sizes = [times * max(_LEAST, count * stride) for count, stride in zip(voxels, strides, strict=True)]
    device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
    shape = [1, int(network.in_channels), *sizes]  # type: ignore[arg-type]
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)


def strides_of(network: nn.Module, default: int) -> tuple[int, int, int]:
    """A network's total stride along each axis; ``default`` if it does not say."""
    stride: Any = getattr(network, "output_stride", None) or default
    first, second, third = (stride,) * 3 if isinstance(stride, int) else stride
    return int(first), int(second), int(third)


def results(output: Any) -> list[Tensor]:
    """All tensors that a network gives, in float32."""
    return [tensor.float() for tensor in tensors_in(output)]


def tensors_in(output: Any) -> list[Tensor]:
    """All tensors in what a module gives, of lists, tuples and mappings within each other.

    >>> [tensor.tolist() for tensor in tensors_in({"ill": torch.ones(1), "organs": [torch.zeros(2)]})]
    [[1.0], [0.0, 0.0]]
    """
    if isinstance(output, Tensor):
        return [output]
    items = output.values() if isinstance(output, Mapping) else output if isinstance(output, list | tuple) else ()
    return [tensor for item in items for tensor in tensors_in(item)]


def _farthest(given: list[Tensor], wanted: list[Tensor]) -> float:
    pairs = zip(given, wanted, strict=True)
    return max(distance(*pair) if pair[0].shape == pair[1].shape else math.inf for pair in pairs)


def _results_of(found: fx.GraphModule, probe: Tensor, autocast: torch.dtype | None = None) -> list[Tensor]:
    with torch.autocast(probe.device.type, autocast, enabled=autocast is not None):
        # a call would print the code around what it raises
        return results(found.forward(probe.clone()))


def distance(one: Tensor, two: Tensor) -> float:
    """How far the first is from the second, as a share of the second's length; of NaN infinite.

    >>> distance(torch.tensor([3.0, 4.5]), torch.tensor([3.0, 4.0]))
    0.1
    """
    length = float(two.norm())
    found = float((one - two).norm()) / length if length else float(one.norm())
    return found if math.isfinite(found) else math.inf
