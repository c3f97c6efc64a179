"""Mixed precision on CPU and CUDA, with the CPU's wrong bfloat16 weight gradients kept out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import ConfigError
from .registry import OPTIM_WRAPPERS

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Float32ShortGradients(TorchDispatchMode):
    """Compute the gradients of a 3-D convolution in float32 where its input's first axis is shorter than its kernel.

    There oneDNN's bfloat16 kernels for AVX512-BF16 give garbage weight gradients (inf, NaN or 100 % off) without a
    word; seen with torch 2.13 for a kernel of 3 at depth 2 and a kernel of 5 at depths 2 and 4. To be held around the
    backward pass; the forward pass is right. It sees every operation, gradient checkpointing's included, which costs
    about 10 ms for a ResUNet-18 on one core.
    """

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.convolution_backward.default and _is_at_risk(*args[1:3]):
            gradients = func(*(tensor.float() for tensor in args[:3]), *args[3:], **(kwargs or {}))
            return tuple(None if gradient is None else gradient.to(args[1].dtype) for gradient in gradients)
        return func(*args, **(kwargs or {}))


def _is_at_risk(x: Tensor, weight: Tensor) -> bool:
    on_cpu = x.device.type == "cpu" and x.dtype == torch.bfloat16
    return on_cpu and x.ndim == 5 and x.shape[2] < weight.shape[2]


@cache
def has_wrong_gradients() -> bool:
    """Whether this machine shows the fault: two tiny convolutions are compared with float32 (milliseconds).

    It shows on processors with AVX512-BF16 whose AMX units are absent or not used; not with N C D H W = 1 4 2 2 2, so
    the probe has 32 channels and takes two sizes.
    """
    return any(_gradient_error((1, 32, 2, *size)) > 0.05 for size in ((2, 2), (6, 6)))


def _gradient_error(shape: tuple[int, ...]) -> float:
    """Relative error of the bfloat16 weight gradient of a 3x3x3 convolution; inf where it is not finite."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator)
    weight = torch.randn(shape[1], shape[1], 3, 3, 3, generator=generator)
    out = torch.randn(shape, generator=generator)
    with torch.enable_grad():
        exact, found = (_weight_gradient(x, weight, out, enabled) for enabled in (False, True))
    error = float((found - exact).norm() / exact.norm())
    return error if error == error else float("inf")


def _weight_gradient(x: Tensor, weight: Tensor, out: Tensor, bfloat16: bool) -> Tensor:
    weight = weight.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        result = torch.conv3d(x, weight, padding=1)
    return torch.autograd.grad(result, weight, out.to(result.dtype))[0]


def fast_dtype(device: torch.device) -> torch.dtype:
    """The number format that ``dtype="auto"`` means: bfloat16 where the device computes in it, else float32."""
    on_cuda = device.type == "cuda" and torch.cuda.is_bf16_supported()
    on_cpu = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if on_cuda or on_cpu else torch.float32


class MixedPrecision(OptimWrapper):
    """mmengine's optimizer wrapper with autocast, on a CPU too (``AmpOptimWrapper`` refuses one).

    Args:
        dtype: ``"bfloat16"``, ``"float16"`` (CUDA only, with loss scaling), ``"float32"`` (no autocast) or ``"auto"``.
        **arguments: Those of ``OptimWrapper``: ``optimizer``, ``accumulative_counts``, ``clip_grad``.

    Raises:
        ConfigError: an unknown format, or float16 on a CPU.
    """

    def __init__(self, dtype: str = "auto", **arguments: Any) -> None:
        super().__init__(**arguments)
        self.device = next(tensor.device for group in self.optimizer.param_groups for tensor in group["params"])
        self.dtype = _chosen_dtype(dtype, self.device)
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.dtype == torch.float16)
        self._guards = self.device.type == "cpu" and self.dtype == torch.bfloat16 and has_wrong_gradients()

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Forward pass: autocast."""
        autocast = torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)
        with super().optim_context(model), autocast:
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Backward pass, guarded where this machine needs it."""
        with Float32ShortGradients() if self._guards else nullcontext():
            self.scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs: Any) -> None:
        """Clip if asked to, then update; a float16 step with inf or NaN gradients is left out."""
        if self.clip_grad_kwargs:
            self.scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """That of the optimizer, with the loss scale."""
        return {**super().state_dict(), "loss_scaler": self.scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` gave; the argument is left as it is."""
        state = dict(state_dict)
        self.scaler.load_state_dict(state.pop("loss_scaler", {}) or self.scaler.state_dict())
        super().load_state_dict(state)


def _chosen_dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return fast_dtype(device)
    if name not in DTYPES:
        raise ConfigError(f"optim_wrapper.dtype must be auto, {', '.join(DTYPES)}, got {name!r}")
    if name == "float16" and device.type == "cpu":
        raise ConfigError("float16 does not train on a CPU", hint="Use dtype='bfloat16' or 'auto'")
    return DTYPES[name]


OPTIM_WRAPPERS.register_module(module=MixedPrecision)
