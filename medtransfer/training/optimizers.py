"""Optimizers of torch that are right and quick whatever layout in memory the parameters have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .registry import OPTIMIZERS

# what torch's optimizers that have `fused` keep of each parameter, in the parameter's shape
_MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "sum")


class _OneLayout(torch.optim.Optimizer):
    """Gives gradient and moments the layout of their parameter, for ``fused=True``.

    On a CPU torch 2.13 goes through the memory of all of them side by side then, whatever their strides: of two layouts
    it makes nonsense, without a word. (A run in ``channels_last_3d`` that is resumed without it has such moments.)
    """

    def _init_group(self, group: dict[str, Any], params: list[Tensor], *lists: list[Any]) -> bool:
        # torch calls this in each step, to list what the step is made with
        if group["fused"]:
            for parameter in group["params"]:
                self._lay_out(parameter)
        result: bool = super()._init_group(group, params, *lists)  # type: ignore[misc]
        return result

    def _lay_out(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            parameter.grad = _as(parameter, parameter.grad)
        # not `self.state[parameter]`, which would make an entry
        state = self.state.get(parameter, {})
        for name in _MOMENTS:
            if isinstance(state.get(name), Tensor):
                state[name] = _as(parameter, state[name])


class _ContiguousViews(_OneLayout):
    """Hands them over as contiguous views besides.

    Parameters that are dense but not contiguous are copied there and back, which takes longer than the step itself.
    """

    def _init_group(self, group: dict[str, Any], params: list[Tensor], *lists: list[Any]) -> bool:
        result = super()._init_group(group, params, *lists)
        if group["fused"]:
            # grads and moments; the numbers of steps are the last
            for values in (*lists[:-1], params):
                values[:] = [_dense(value, like) for value, like in zip(values, params, strict=False)]
        return result


class AdamW(_ContiguousViews, torch.optim.AdamW):
    """torch's, which takes the place of that name; results are the same bit for bit.

    With ``fused=True`` parameters, gradients and moments may have any layouts.

    Args:
        params: See torch.
        **arguments: See torch (``lr``, ``betas``, ``eps``, ``weight_decay``, ``fused``).
    """


class Adam(_ContiguousViews, torch.optim.Adam):
    """torch's, as :class:`AdamW` is."""


class SGD(_OneLayout, torch.optim.SGD):
    """torch's, as :class:`AdamW` is, without its speed: torch keeps what it is given, so views would be its moments."""


class Adagrad(_OneLayout, torch.optim.Adagrad):
    """torch's, as :class:`AdamW` is, without its speed."""


def _as(parameter: Tensor, value: Tensor) -> Tensor:
    if value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _dense(value: Tensor, parameter: Tensor) -> Tensor:
    """A contiguous view, if the parameter is dense."""
    strides = parameter.stride()
    return value.permute(sorted(range(value.ndim), key=lambda axis: -strides[axis]))


for _kind in (AdamW, Adam, SGD, Adagrad):
    OPTIMIZERS.register_module(module=_kind, force=True)
