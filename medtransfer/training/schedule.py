"""Learning-rate schedules that take their length from the training loop."""

from __future__ import annotations

from typing import Any

from mmengine.optim import OneCycleLR

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


PARAM_SCHEDULERS.register_module(module=OneCycle)
