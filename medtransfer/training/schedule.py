"""Learning-rate schedules that take their length from the training loop.

They go by batches, also where gradients of several batches make a step of the optimizer: that step is made with the
learning rate of its last batch.
"""

from __future__ import annotations

import math
from typing import Any

from mmengine.optim import OneCycleLR
from mmengine.optim.scheduler import _ParamScheduler

from ..errors import ConfigError
from .registry import PARAM_SCHEDULERS


class OneCycle(OneCycleLR):
    """Smith's one-cycle schedule over all steps of the run: up to ``eta_max`` in the first 30 %, then down to almost 0.

    mmengine's own needs the number of steps a second time, and fails late if it differs from the loop's.

    Args:
        optimizer: Given by the Runner.
        eta_max: Highest learning rate; a group of the optimizer with an ``lr_scale`` has so many times as much.
        end: Number of steps, given by the Runner since the schedule goes ``by_epoch=False``.
        **arguments: See mmengine's ``OneCycleLR``.

    Raises:
        ConfigError: the schedule is to go by epochs.
    """

    def __init__(self, optimizer: Any, eta_max: float, end: int, by_epoch: bool = True, **arguments: Any) -> None:
        if by_epoch:
            raise ConfigError("param_scheduler: OneCycle goes by steps", hint="Set by_epoch=False")
        arguments.pop("epoch_length", None)
        # groups that are slower or faster than others stay so
        highest = [eta_max * group.get("lr_scale", 1.0) for group in optimizer.param_groups]
        super().__init__(optimizer, eta_max=highest, total_steps=end, end=end, by_epoch=False, **arguments)


class WarmupCosine(_ParamScheduler):
    """A linear warm-up over a share of the steps of the run, then half a cosine down to the end of it.

    It equals mmengine's ``LinearLR`` followed by ``CosineAnnealingLR``, whose numbers of steps would have to be changed
    with every change of the run's length. Each group of the optimizer goes from and to multiples of its own rate.

    Args:
        optimizer: Given by the Runner.
        end: Number of steps, given by the Runner since the schedule goes ``by_epoch=False``.
        warmup: Share of the steps in which the rate rises to that of the optimizer.
        start_factor: What it begins with, as a multiple of that.
        end_factor: What it ends with.
        by_epoch: Must be False.
        **arguments: See mmengine's schedules (``verbose``).

    Raises:
        ConfigError: the schedule is to go by epochs, or a number is not between 0 and 1.

    Source: Loshchilov and Hutter, ICLR 2017; the warm-up of Goyal et al., 2017.
    """

    def __init__(
        self,
        optimizer: Any,
        end: int,
        warmup: float = 0.1,
        start_factor: float = 0.01,
        end_factor: float = 0.0,
        by_epoch: bool = True,
        **arguments: Any,
    ) -> None:
        if by_epoch:
            raise ConfigError("param_scheduler: WarmupCosine goes by steps", hint="Set by_epoch=False")
        for name, value in (("warmup", warmup), ("start_factor", start_factor), ("end_factor", end_factor)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ConfigError(f"param_scheduler.{name} must be a number from 0 to 1, got {value!r}")
        arguments.pop("epoch_length", None)
        self.steps, self.warm_steps = end, min(round(warmup * end), end - 1)
        self.start_factor, self.end_factor = start_factor, end_factor
        super().__init__(optimizer, param_name="lr", end=end, by_epoch=False, **arguments)

    def _get_value(self) -> list[float]:
        return [base * self._factor(self.last_step) for base in self.base_values]

    def _factor(self, step: int) -> float:
        if step < self.warm_steps:
            return self.start_factor + (1 - self.start_factor) * step / self.warm_steps
        share = (step - self.warm_steps) / (self.steps - self.warm_steps)
        return self.end_factor + (1 - self.end_factor) * (1 + math.cos(math.pi * share)) / 2


for _schedule in (OneCycle, WarmupCosine):
    PARAM_SCHEDULERS.register_module(module=_schedule)
