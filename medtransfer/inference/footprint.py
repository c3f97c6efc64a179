"""How much memory a pass of a network takes: found by running it on tensors that have shapes but no memory."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def trace_bytes(network: nn.Module, shape: Sequence[int]) -> int:
    """Bytes alive at the worst moment of a pass over an image (C, D, H, W); 0 if it cannot be known.

    Of a detector only the backbone is run: what follows depends on the values, and is small beside it.

    >>> trace_bytes(nn.Conv3d(1, 4, 1), (1, 8, 8, 8)) == 4 * 4 * 8**3 * 3
    True
    """
    live = _LiveTensors()
    traced = getattr(network, "backbone", None) if getattr(network, "task", None) == "detection" else network
    if traced is None:
        return 0
    hollow = {name: tensor.to("meta") for name, tensor in traced.state_dict().items()}
    handles = [module.register_forward_hook(live.record) for module in traced.modules()]
    try:
        with torch.no_grad():
            torch.func.functional_call(traced, hollow, (torch.empty(1, *shape, device="meta"),))
    except (RuntimeError, NotImplementedError):
        return 0  # an operation without shape rules; too large a pass then ends in a clear error of its own
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
