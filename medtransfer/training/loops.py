"""Training by steps that starts again where it ended, at once and with the very next batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.runner import IterBasedTrainLoop as MMEngineLoop
from torch import nn

from .registry import REGISTRIES

LOOPS = REGISTRIES["LOOPS"]
assert LOOPS.parent is MMENGINE_LOOPS


class IterBasedTrainLoop(MMEngineLoop):
    """mmengine's loop by steps, without its pause of two seconds between rounds of the data.

    mmengine's own reads all the batches that were trained on already when a run is resumed.
    """

    def run(self) -> nn.Module:
        """Train until ``max_iters``."""
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        batches = self._batches(self._iter)
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(batches))
            self._decide_current_val_interval()
            if self.validates(self._iter):
                self.runner.val_loop.run()
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model

    def validates(self, step: int) -> bool:
        """Whether a validation follows this number of steps."""
        due = step % self.val_interval == 0 or step == self._max_iters
        return self.runner.val_loop is not None and step >= self.val_begin and due

    def _batches(self, step: int) -> Iterator[Any]:
        """Batches without end, from that of the given step on."""
        sampler, length = self.dataloader.sampler, len(self.dataloader)
        endless = isinstance(sampler, InfiniteSampler)
        while True:
            epoch, self.dataloader.first_batch = (0, step) if endless else divmod(step, length)
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
            for batch in self.dataloader:
                yield batch
                step += 1


LOOPS.register_module(module=IterBasedTrainLoop)
