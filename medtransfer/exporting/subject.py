"""What is exported: a copy of the network in the form that torch's exporters take, and what is said of it."""

from __future__ import annotations

import copy
import keyword
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoint.card import ModelCard
from ..errors import ModelError
from ..lowering.lower import tensors_in
from .axes import Axes

INPUT, OUTPUT = "image", "logits"
_NOISY = ("torch.onnx", "torch.export", "torch._dynamo", "torch.fx", "onnxscript", "onnx_ir")


@dataclass(frozen=True)
class Subject:
    """A network to export.

    Attributes:
        network: In eval mode and float32 on the CPU, without gradients.
        card: What scans must be like for it, and what comes out.
        axes: What it may be fed.
        texts: File name -> text that travels with it: the card, and what is not in the graph.
        outputs: Name -> (shape behind the batch, of which spatial axes are -1).
    """

    network: nn.Module
    card: ModelCard
    axes: Axes
    texts: Mapping[str, str]
    outputs: Mapping[str, tuple[int, ...]]

    def example(self) -> Tensor:
        """Noise of the traced shape."""
        return noise(self.axes.traced())


def noise(shape: Sequence[int]) -> Tensor:
    """Standard normal numbers, always the same for a shape: what a z-score makes of a scan, and no constant.

    >>> noise((1, 1, 2)).shape, torch.equal(noise((3,)), noise((3,)))
    (torch.Size([1, 1, 2]), True)
    """
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(sum(shape)))


def exportable(network: nn.Module) -> nn.Module:
    """A copy in eval mode and float32 on the CPU, whose parts have names that generated code can hold.

    Raises:
        ModelError: a detector, a network without values, or one that cannot be copied.
    """
    if getattr(network, "task", None) == "detection":
        reason = f"{type(network).__name__} chooses its boxes by steps whose number depends on the scan"
        raise ModelError(f"{reason}, which no exported graph holds", hint="Run it with medtransfer predict")
    if any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers())):
        raise ModelError("has weights without values, on the device meta", hint="Load its weights first")
    try:
        found = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    except RuntimeError as error:  # torch.nn.utils.weight_norm keeps a tensor that autograd made
        raise ModelError(f"cannot be copied: {str(error).split('.')[0]}") from error
    for module in found.modules():
        _rename_keywords(module)
    return found


def named_outputs(network: nn.Module, axes: Axes) -> dict[str, tuple[int, ...]]:
    """Name -> shape behind the batch of what a network gives; spatial axes, which follow the input's, are -1.

    Raises:
        ModelError: it gives something else than a tensor or tensors by name, or nothing finite.
    """
    with torch.no_grad():
        found = network(noise(axes.traced()))
    named = {OUTPUT: found} if isinstance(found, Tensor) else found
    if not isinstance(named, Mapping) or not all(isinstance(one, Tensor) for one in named.values()):
        raise ModelError(f"gives {type(found).__name__}, not a tensor or tensors by name")
    lost = [name for name, one in named.items() if not one.isfinite().all()]
    if lost:
        raise ModelError(f"gives NaN or infinite values for noise: {', '.join(lost)}")
    return {name: (one.shape[1], *[-1] * (one.ndim - 2)) for name, one in named.items()}


def difference(given: Any, wanted: Any) -> float:
    """The largest of max |given - wanted| / max |wanted| over all tensors; infinite where shapes differ or one is NaN.

    >>> difference(torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0]))
    0.25
    """
    pairs = list(zip(tensors_in(given), tensors_in(wanted), strict=True))
    return max(_difference(*pair) for pair in pairs)


def _difference(given: Tensor, wanted: Tensor) -> float:
    if given.shape != wanted.shape or not given.isfinite().all():
        return float("inf")
    scale = float(wanted.abs().max()) or 1.0
    return float((given - wanted).abs().max()) / scale


def _rename_keywords(module: nn.Module) -> None:
    """mmcv names an instance norm ``in``; the code that torch generates for a graph cannot say that."""
    for name in [name for name in module._modules if keyword.iskeyword(name)]:
        module._modules = {key + "_" * (key == name): part for key, part in module._modules.items()}
        for attribute, value in vars(module).items():
            if isinstance(value, str) and value == name:
                setattr(module, attribute, f"{name}_")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what torch's exporters say of themselves off the terminal."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
