"""Keeping the wrong bfloat16 convolutions of CPUs out of forward and backward passes.

oneDNN, as torch 2.13 brings it, computes 3-D convolutions of thin inputs (an axis shorter than the kernel) wrongly in
bfloat16, without a word. Found by comparing some 9,000 settings with float32:

* with AVX512-BF16: weight gradients (inf, NaN or 100 % off) where the first axis is shorter than the kernel, such as a
  kernel of 3 at depth 2;
* with AMX: the result itself of strided kernels where the last axis comes down to 1 (9x9x2: 120 % off), and of one
  channel of depth 1; weight gradients of strided kernels where the last axis is 1;
* with both: gradients of transposed kernels where an axis is 1; without AMX where it is shorter than the kernel.

Such convolutions are computed in float32. All others are right to 0.3 %.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CONVOLUTIONS = (torch.conv3d, torch.conv_transpose3d)
_FORWARD = torch.ops.aten.convolution.default
_BACKWARD = torch.ops.aten.convolution_backward.default
# (input, transposed): each shows a fault where the machine has it, the first two that of AVX512-BF16
_FIRST_AXIS = (((1, 32, 2, 2, 2), False), ((1, 32, 2, 6, 6), False))
_STRIDED = (((1, 4, 9, 9, 2), False), ((1, 4, 4, 4, 1), True))


def is_thin(x: Tensor, weight: Tensor) -> bool:
    """Whether a 3-D convolution on the CPU has an input with an axis shorter than the kernel.

    >>> is_thin(torch.empty(1, 4, 9, 9, 2), torch.empty(8, 4, 3, 3, 3))
    True
    """
    if x.device.type != "cpu" or weight.ndim != 5:
        return False
    return any(size < kernel for size, kernel in zip(x.shape[-3:], weight.shape[-3:], strict=True))


def has_wrong_result(x: Tensor, weight: Tensor, stride: Sequence[int]) -> bool:
    """Whether a 3-D convolution on the CPU is of those whose result, not only a gradient, some machine has wrong.

    >>> has_wrong_result(torch.empty(1, 4, 9, 9, 2), torch.empty(8, 4, 3, 3, 3), (2, 2, 2))
    True
    """
    return is_thin(x, weight) and (max(stride) > 1 or x.shape[-4] == 1)


class Float32Convolutions(TorchDispatchMode):
    """Compute thin bfloat16 convolutions and their gradients in float32, below autograd: results stay bfloat16.

    Args:
        unstrided: Those without stride too; only processors without AMX need it, and at the bottom of a network, where
            weights are large, it costs a fifth of a training step.
    """

    def __init__(self, unstrided: bool = True) -> None:
        super().__init__()
        self.unstrided, self.found = unstrided, False

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is _FORWARD:
            at_risk = self._is_at_risk(args[0], args[1], args[3], args[6])
        else:
            at_risk = func is _BACKWARD and self._is_at_risk(args[1], args[2], args[4], args[7])
        if not at_risk:
            return func(*args, **(kwargs or {}))
        self.found = True
        wide = (arg.float() if isinstance(arg, Tensor) else arg for arg in args)
        return _narrow(func(*wide, **(kwargs or {})))

    def _is_at_risk(self, x: Tensor, weight: Tensor, stride: Sequence[int], transposed: bool) -> bool:
        if x.dtype != torch.bfloat16 or not is_thin(x, weight):
            return False
        if transposed:
            return self.unstrided or min(x.shape[-3:]) == 1
        return self.unstrided or has_wrong_result(x, weight, stride)


def _narrow(result: Tensor | Sequence[Tensor | None] | None) -> Any:
    if isinstance(result, Tensor):
        return result.to(torch.bfloat16)
    return result if result is None else tuple(_narrow(part) for part in result)


class ThinConvolutionGuard(TorchFunctionMode):
    """Hold this around a forward pass, and :meth:`backward` around the backward pass that belongs to it.

    Costs a microsecond or two a torch call, and in the backward pass something only where such a convolution was met.

    Args:
        unstrided: See :class:`Float32Convolutions`; by default found out for this machine.

    >>> guard, layer = ThinConvolutionGuard(unstrided=True), torch.nn.Conv3d(1, 1, 3, padding=1)
    >>> with torch.autocast("cpu", dtype=torch.bfloat16), guard:
    ...     loss = layer(torch.ones(1, 1, 2, 2, 2)).float().sum()
    >>> with guard.backward():
    ...     loss.backward()
    >>> guard.found
    True
    """

    def __init__(self, unstrided: bool | None = None) -> None:
        super().__init__()
        self.unstrided = _has_fault(_FIRST_AXIS) if unstrided is None else unstrided
        self.found = False

    def __enter__(self) -> ThinConvolutionGuard:
        self.found = False
        super().__enter__()
        return self

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func not in CONVOLUTIONS or not _is_at_risk(*_operands(args, kwargs or {})):
            return func(*args, **(kwargs or {}))
        with Float32Convolutions(self.unstrided) as convolutions:
            result = func(*args, **(kwargs or {}))
        self.found = self.found or convolutions.found
        return result

    def backward(self) -> AbstractContextManager[Any]:
        """The context for the backward pass; gradient checkpointing runs the forward pass again in there."""
        return Float32Convolutions(self.unstrided) if self.found else nullcontext()


def guard_for(device: torch.device, dtype: torch.dtype) -> ThinConvolutionGuard | None:
    """A guard where this machine needs one to compute in ``dtype`` on ``device``."""
    at_risk = device.type == "cpu" and dtype == torch.bfloat16
    return ThinConvolutionGuard() if at_risk and has_wrong_convolutions() else None


def _operands(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    named = [kwargs[name] for name in ("input", "weight") if name in kwargs]
    return [*args[:2], *named][:2]


def _is_at_risk(x: Tensor, weight: Tensor) -> bool:
    """Whether it is thin and in bfloat16; torch imports its compiler for the mode that looks into it."""
    return is_thin(x, weight) and (x.dtype == torch.bfloat16 or torch.is_autocast_enabled(x.device.type))


def has_wrong_convolutions() -> bool:
    """Whether this machine shows one of the faults: four tiny convolutions are compared with float32 (milliseconds)."""
    return _has_fault(_FIRST_AXIS) or _has_fault(_STRIDED)


@cache
def _has_fault(probes: tuple[tuple[tuple[int, ...], bool], ...]) -> bool:
    return any(_error(shape, transposed) > 0.05 for shape, transposed in probes)


def _error(shape: tuple[int, ...], transposed: bool) -> float:
    """Largest relative error of result and gradients in bfloat16; inf where one is not finite."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator)
    weight = torch.randn(shape[1], shape[1], *(4 if transposed else 3,) * 3, generator=generator) * 0.1
    with torch.inference_mode(False), torch.enable_grad():
        exact, found = (_convolve(x, weight, transposed, short) for short in (False, True))
    errors = [float((one - other).norm() / other.norm()) for one, other in zip(found, exact, strict=True)]
    return max(error if error == error else float("inf") for error in errors)


def _convolve(x: Tensor, weight: Tensor, transposed: bool, short: bool) -> list[Tensor]:
    """Result, gradient of the input and gradient of the weight."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=short):
        convolve = torch.conv_transpose3d if transposed else torch.conv3d
        out = convolve(x, weight, None, 1 if x.shape[2] == 2 else 2, 1)
    back = torch.ones_like(out).cumsum(-1)
    # of a sum: where autograd is given a gradient, torch imports sympy to compare the shapes
    return [out.detach().float(), *torch.autograd.grad((out * back).sum(), [x, weight])]
