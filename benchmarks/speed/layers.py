"""Layer by layer: what the convolutions of a network compute, how long they take, and what holds them back."""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .measure import timed

CONVOLUTIONS = (nn.Conv3d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Work:
    """What a convolution has to do, whatever code does it.

    Args:
        kernel: In words: ``64 -> 128, 3x3x3 /2 -> 80x96x80``.
        flops: Two for each product that is added, padding counted as in the textbooks.
        values: Numbers that it must read and write at least: input, weights, output.
    """

    kernel: str
    flops: int
    values: int


@dataclass(frozen=True)
class Limits:
    """What the machine can: GFLOP/s of its matrix product, GB/s of its memory."""

    rate: float
    bandwidth: float

    def holds_back(self, work: Work, width: int) -> str:
        """By the roofline: ``compute`` or ``memory``, whichever takes longer at the machine's best.

        Args:
            work: The layer's.
            width: Bytes a number.

        Source: Williams et al., Communications of the ACM 2009.

        >>> Limits(1000, 20).holds_back(Work("", flops=10**9, values=10**6), 2)
        'compute'
        """
        return "compute" if work.flops / self.rate > work.values * width / self.bandwidth else "memory"


def conv_work(layer: nn.Module, x: Tensor, out: Tensor) -> Work:
    """Of a convolution, transposed or not, from what goes in and comes out.

    >>> layer, x = nn.Conv3d(2, 4, 3, padding=1), torch.empty(1, 2, 5, 5, 5)
    >>> conv_work(layer, x, layer(x)).flops == 2 * 2 * 4 * 27 * 125
    True
    """
    weight: Any = layer.weight
    # a transposed kernel is put down once a voxel of the input, a plain one is read once a voxel of the output
    places = x if isinstance(layer, nn.ConvTranspose3d) else out
    flops = 2 * weight.numel() * math.prod(places.shape[2:]) * len(x)
    channels, sizes = f"{x.shape[1]} → {out.shape[1]}", "x".join(map(str, layer.kernel_size))  # type: ignore[arg-type]
    stride = "" if max(layer.stride) == 1 else f" /{max(layer.stride)}"  # type: ignore[arg-type]
    words = f"{channels}, {sizes}{stride}{' transposed' if places is x else ''} → {'x'.join(map(str, out.shape[2:]))}"
    return Work(words, flops, x.numel() + out.numel() + weight.numel())


@torch.no_grad()
def network_work(network: nn.Module, shape: tuple[int, ...]) -> dict[str, Work]:
    """The work of every convolution by its flat name, for an image (C, D, H, W); nothing is computed."""
    found: dict[str, Work] = {}
    layers = {name: module for name, module in network.named_modules() if isinstance(module, CONVOLUTIONS)}

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, inputs, out: found.update({flat(name): conv_work(module, inputs[0], out)})

    handles = [layer.register_forward_hook(note(name)) for name, layer in layers.items()]
    hollow = {name: tensor.to("meta") for name, tensor in network.state_dict().items()}
    torch.func.functional_call(network, hollow, (torch.empty(1, *shape, device="meta"),))
    for handle in handles:
        handle.remove()
    return found


def flat(name: str) -> str:
    """A layer's name without dots, without the number that a graph puts in front and that of a part of its channels.

    >>> flat("part12_encoder_1_0_conv1") == flat("encoder_1.0.conv1") == flat("part12_encoder_1_0_conv1_of0")
    True
    """
    return re.sub(r"^.*\bpart\d+_|_of\d+$", "", name).replace(".", "_")


class Clock:
    """Seconds of each of some layers in the passes of a network, and of the whole pass.

    Args:
        network: As it is run.
        names: Flat names of the layers.
        device: Where it runs; on CUDA each layer waits for the one before, so that the whole pass is timed apart.
    """

    def __init__(self, network: nn.Module, names: Mapping[str, Any], device: str = "cpu") -> None:
        self.network, self.device = network, device
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.passes: list[float] = []
        self._parts = [(flat(name), part) for name, part in network.named_modules() if flat(name) in names]

    def run(self, x: Tensor) -> None:
        """One pass with the clock at every layer; the parts of a layer count together."""
        spent: dict[str, float] = defaultdict(float)
        forwards = [part.forward for _, part in self._parts]
        for name, part in self._parts:
            part.forward = self._with_clock(name, part.forward, spent)
        try:
            self.passes.append(timed(lambda: self.network(x), self.device))
        finally:
            for (_, part), forward in zip(self._parts, forwards, strict=True):
                part.forward = forward
        for name, seconds in spent.items():
            self.seconds[name].append(seconds)

    @property
    def layers(self) -> list[str]:
        """Flat names of the layers that were found."""
        return list(dict.fromkeys(name for name, _ in self._parts))

    def median(self, name: str) -> float:
        """Seconds of one layer."""
        return statistics.median(self.seconds[name])

    def _with_clock(self, name: str, forward: Callable[..., Tensor], spent: dict[str, float]) -> Callable[..., Tensor]:
        def clocked(*args: Any, **kwargs: Any) -> Tensor:
            found: list[Tensor] = []
            spent[name] += timed(lambda: found.append(forward(*args, **kwargs)), self.device)
            return found[0]

        return clocked
