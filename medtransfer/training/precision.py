"""Mixed precision on CPU and CUDA, with the CPU's wrong bfloat16 convolutions kept out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from ..devices import has_matrix_units
from ..errors import ConfigError
from ..model_zoo.bfloat16 import guard_for
from .convolutions import quick_convolutions
from .registry import OPTIM_WRAPPERS

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def fast_dtype(device: torch.device) -> torch.dtype:
    """The number format that ``dtype="auto"`` means: bfloat16 where the device is quicker in it, else float32.

    Not :func:`medtransfer.devices.fastest_dtype`: on CUDA that is float16, which needs loss scaling, and on a CPU it is
    measured, while a resumed run must compute as the one before.
    """
    on_cuda = device.type == "cuda" and torch.cuda.is_bf16_supported()
    # without AMX a step in bfloat16 was measured to take 1.6 times as long as one in float32
    on_cpu = device.type == "cpu" and has_matrix_units()
    return torch.bfloat16 if on_cuda or on_cpu else torch.float32


class MixedPrecision(OptimWrapper):
    """mmengine's optimizer wrapper with autocast, on a CPU too (``AmpOptimWrapper`` refuses one).

    With ``accumulative_counts=K`` the optimizer steps after every K batches, with the mean of their gradients, and
    after the last batch of the run. Whatever else counts steps (schedules, averages, phases, checkpoints, validations)
    goes by batches. A run that is stopped amid K batches keeps the gradients that wait, and goes on bit for bit.

    Args:
        dtype: ``"bfloat16"``, ``"float16"`` (CUDA only, with loss scaling), ``"float32"`` (no autocast) or ``"auto"``.
        **arguments: Those of ``OptimWrapper``: ``optimizer``, ``accumulative_counts``, ``clip_grad``.

    Raises:
        ConfigError: an unknown format, or float16 on a CPU.
    """

    def __init__(self, dtype: str = "auto", **arguments: Any) -> None:
        super().__init__(**arguments)
        self.device = next(tensor.device for group in self.optimizer.param_groups for tensor in group["params"])
        self.dtype = chosen_dtype(dtype, self.device)
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.dtype == torch.float16)
        self._guard = guard_for(self.device, self.dtype)
        self._quick = quick_convolutions(self.device, self.dtype)
        self.latest_norm: Tensor | None = None

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Forward pass: autocast, guarded where this machine needs it."""
        autocast = torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)
        with super().optim_context(model), autocast, self._guard or nullcontext(), self._quick or nullcontext():
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Backward pass, guarded where this machine needs it."""
        with nullcontext() if self._guard is None else self._guard.backward(), self._quick or nullcontext():
            # not loss.backward(), within which torch sets such modes aside: checkpointing must compute as before
            torch.autograd.backward(self.scaler.scale(loss), **kwargs)
        self._inner_count += 1
        # schedules go by batches; they would warn that no step of the optimizer came before theirs
        self._global_step = max(getattr(self, "_global_step", 0), 0)

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """mmengine's, which says of a run resumed amid an accumulation that gradients are lost: they are not."""
        super().initialize_count_status(model, 0, max_counts)
        self._inner_count = init_counts

    def step(self, **kwargs: Any) -> None:
        """Clip if asked to, then update; a float16 step with inf or NaN gradients is left out."""
        if self.clip_grad_kwargs:
            self.scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()

    def _clip_grad(self) -> None:
        """Clip; mmengine's would ask the device for the norm at once, :class:`RuntimeInfo` logs it when it is there."""
        groups = self.optimizer.param_groups
        parameters = [value for group in groups for value in group["params"] if value.grad is not None]
        self.latest_norm = self.clip_func(parameters, **self.clip_grad_kwargs) if parameters else None

    def state_dict(self) -> dict[str, Any]:
        """That of the optimizer, with the loss scale."""
        return {**super().state_dict(), "loss_scaler": self.scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` gave; the argument is left as it is."""
        state = dict(state_dict)
        self.scaler.load_state_dict(state.pop("loss_scaler", {}) or self.scaler.state_dict())
        super().load_state_dict(state)


def chosen_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number format of a name of :data:`DTYPES` or ``auto``.

    Raises:
        ConfigError: an unknown name, or float16 on a CPU.

    >>> chosen_dtype("float32", torch.device("cpu"))
    torch.float32
    """
    if name == "auto":
        return fast_dtype(device)
    if name not in DTYPES:
        raise ConfigError(f"optim_wrapper.dtype must be auto, {', '.join(DTYPES)}, got {name!r}")
    if name == "float16" and device.type == "cpu":
        raise ConfigError("float16 does not train on a CPU", hint="Use dtype='bfloat16' or 'auto'")
    return DTYPES[name]


OPTIM_WRAPPERS.register_module(module=MixedPrecision)
