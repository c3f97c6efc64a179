"""How much memory a pass of a network takes: found by small passes, or by one over tensors that have no memory."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .shapes import round_up

_PROBE = 16  # voxels at least along each axis


def trace_bytes(network: nn.Module, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> int:
    """Bytes alive at the worst moment of a pass over an image (C, D, H, W) in ``dtype``; 0 if it cannot be known.

    Of a detector only the backbone is run: what follows depends on the values, and is small beside it.

    >>> trace_bytes(nn.Conv3d(1, 4, 1), (1, 8, 8, 8)) == 4 * 4 * 8**3 * 3
    True
    """
    traced = getattr(network, "backbone", None) if getattr(network, "task", None) == "detection" else network
    if traced is None:
        return 0
    hollow = {
        name: tensor.to("meta", dtype if tensor.is_floating_point() else None)
        for name, tensor in traced.state_dict().items()
    }
    image = torch.empty(1, *shape, device="meta", dtype=dtype)
    # 0 for an operation without shape rules; too large a pass then ends in a clear error of its own
    return _peak_bytes(traced, lambda: torch.func.functional_call(traced, hollow, (image,))) or 0


def bytes_per_voxel(
    network: nn.Module, channels: int, strides: Sequence[int], dtype: torch.dtype = torch.float32
) -> float | None:
    """Bytes alive at the worst moment of a pass for each voxel of its input; None where they do not grow alike.

    Found by running it on two small images, which takes a hundredth of the time of :func:`trace_bytes` at its first
    call: that brings torch's compiler with it.

    Args:
        network: A segmenter or classifier; of others it is None.
        channels: Of its input.
        strides: Its total stride along each axis.
        dtype: The numbers of the pass that is asked about.

    >>> bytes_per_voxel(nn.Conv3d(1, 4, 1), 1, (1, 1, 1)) == 4 * 4 * 3
    True
    """
    if getattr(network, "task", None) == "detection":
        return None
    first, second, third = (round_up(_PROBE, stride) for stride in strides)
    device = next((tensor.device for tensor in network.parameters()), None)
    images = [torch.zeros(1, channels, first, second, length, device=device) for length in (2 * third, 4 * third)]
    small, large = (_peak_bytes(network, functools.partial(network, image)) for image in images)
    if small is None or large is None or not 1.9 * small <= large <= 2.1 * small:
        return None
    return large * dtype.itemsize / 4 / (first * second * 4 * third)


def _peak_bytes(network: nn.Module, run: Callable[[], object]) -> int | None:
    """Alive at the worst moment while ``run`` calls the network; None if it cannot."""
    live = _LiveTensors()
    handles = [module.register_forward_hook(live.record) for module in network.modules()]
    try:
        with torch.no_grad():
            run()
    except (RuntimeError, NotImplementedError, ValueError):
        return None
    finally:
        for handle in handles:
            handle.remove()
    # twice the largest: a convolution's own workspace, and what is made between modules (cat, interpolate)
    return live.peak + 2 * live.largest


class _LiveTensors:
    """Counts the bytes of module outputs that are alive at once; those that share a storage count once."""

    def __init__(self) -> None:
        self.peak, self.largest = 0, 0
        self._seen: list[weakref.ref[Tensor]] = []

    def record(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """A forward hook."""
        if not isinstance(output, Tensor):
            return
        self._seen.append(weakref.ref(output))
        storages = [tensor.untyped_storage() for seen in self._seen if (tensor := seen()) is not None]
        alive = {storage._cdata: storage.nbytes() for storage in storages}
        self.peak = max(self.peak, sum(alive.values()))
        self.largest = max(self.largest, *alive.values())
