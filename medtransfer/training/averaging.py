"""The moving average of the weights: what is validated and kept as ``best``, while the weights themselves train on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmengine.hooks import EMAHook
from mmengine.runner import Runner

from .registry import HOOKS

#: between BestModel, which is to see the average, and KeepCheckpoints, which is to see the weights themselves
PRIORITY = 80


class WeightAverage(EMAHook):
    """mmengine's ``EMAHook``, which takes the place of that name, for runs that may be stopped in a validation.

    In a validation the network holds the average. mmengine's own then writes it into a checkpoint as the weights that
    train, and the weights as their average; a resumed run goes on with the two exchanged.

    The average moves with each batch, whether the optimizer steps after it or gradients are accumulated.
    """

    in_network = False

    def _swap_ema_parameters(self) -> None:
        super()._swap_ema_parameters()
        self.in_network = not self.in_network

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """The average under ``state_dict``, the weights that train under ``ema_state_dict``, as mmengine has it."""
        if self.in_network:
            checkpoint["ema_state_dict"] = self.ema_model.state_dict()
        else:
            super().before_save_checkpoint(runner, checkpoint)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """The weights train on."""
        if self.in_network:
            self._swap_ema_parameters()


@contextmanager
def averaged(runner: Runner) -> Iterator[None]:
    """Let the network hold the average inside, if the run keeps one and the network does not hold it already."""
    hook = next((hook for hook in runner.hooks if isinstance(hook, WeightAverage) and not hook.in_network), None)
    if hook is None:
        yield
        return
    hook._swap_ema_parameters()
    try:
        yield
    finally:
        hook._swap_ema_parameters()


HOOKS.register_module(name="EMAHook", module=WeightAverage, force=True)
