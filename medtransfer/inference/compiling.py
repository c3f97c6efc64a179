"""A network compiled for many passes over tiles of one size, on CUDA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError

Compile = Callable[[nn.Module], Callable[[Tensor], Any]]


def check_compiled(compiled: bool, device: torch.device) -> None:
    """Refuse what would gain nothing.

    Raises:
        UsageError: it is asked for on another device than CUDA.

    >>> check_compiled(False, torch.device("cpu"))
    """
    if compiled and device.type != "cuda":
        reason = f"compile is for CUDA, the device is {device}, where convolutions take in what follows them already"
        raise UsageError(reason, hint="Leave it out")


def compile_graphs(network: nn.Module, by: Compile | None = None) -> Callable[[Tensor], Any]:
    """The network compiled, each size of input as one CUDA graph.

    Args:
        network: Takes one tensor.
        by: What compiles; ``torch.compile`` for graphs when None.

    Returns:
        A function whose results are the caller's own: a graph writes each time into the same memory.
    """
    ready = (by or _graphs)(network)
    return lambda image: _own(ready(image))


def _graphs(network: nn.Module) -> Callable[[Tensor], Any]:
    ready: Callable[[Tensor], Any] = torch.compile(network, mode="reduce-overhead", dynamic=False)
    return ready


def _own(found: Any) -> Any:
    if isinstance(found, Tensor):
        return found.clone()
    if isinstance(found, dict):
        return {name: _own(part) for name, part in found.items()}
    return [_own(part) for part in found]
