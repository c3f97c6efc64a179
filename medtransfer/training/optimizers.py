"""AdamW that is right and quick whatever layout in memory the parameters have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .registry import OPTIMIZERS

_MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")


class AdamW(torch.optim.AdamW):
    """torch's, which takes the place of that name; results are the same bit for bit.

    With ``fused=True`` on a CPU torch 2.13 goes through the memory of parameter, gradient and moments side by side,
    whatever their strides: of two layouts it makes nonsense, without a word. (A run in ``channels_last_3d`` that is
    resumed without it has such moments.) And parameters that are dense but not contiguous are copied there and back,
    which takes longer than the step itself. So all four are brought to one layout, and handed over as contiguous views.

    Args:
        params: See torch.
        **arguments: See torch (``lr``, ``betas``, ``eps``, ``weight_decay``, ``fused``).
    """

    def _init_group(self, group: dict[str, Any], params: list[Tensor], *lists: list[Tensor]) -> bool:
        # torch calls this in each step, to list what the step is made with
        if group["fused"]:
            for parameter in group["params"]:
                self._lay_out(parameter)
        result: bool = super()._init_group(group, params, *lists)
        if group["fused"]:
            # grads and moments; the numbers of steps are the last
            for values in (*lists[:-1], params):
                values[:] = [_dense(value, like) for value, like in zip(values, params, strict=False)]
        return result

    def _lay_out(self, parameter: Tensor) -> None:
        """Give gradient and moments the layout of the parameter."""
        if parameter.grad is not None:
            parameter.grad = _as(parameter, parameter.grad)
        state = self.state.get(parameter, {})
        for name in _MOMENTS:
            if name in state:
                state[name] = _as(parameter, state[name])


def _as(parameter: Tensor, value: Tensor) -> Tensor:
    if value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _dense(value: Tensor, parameter: Tensor) -> Tensor:
    """A contiguous view, if the parameter is dense."""
    strides = parameter.stride()
    return value.permute(sorted(range(value.ndim), key=lambda axis: -strides[axis]))


OPTIMIZERS.register_module(module=AdamW, force=True)
