"""A run that is told to stop ends after its step, with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any, NoReturn

import torch
from mmengine.dist import all_reduce, barrier, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from .checkpoint_hooks import save_position
from .registry import HOOKS

TERMINATED = 143  # as a shell reports SIGTERM
SOON = 0.5  # seconds within which a signal reaches all processes of a job
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class StopOnSignal(Hook):
    """Save and end within a step when SIGTERM, SIGUSR1 (SLURM's notice) or an interrupt arrives.

    The first two end the process with exit code 143; an interrupt is raised as ``KeyboardInterrupt`` after the step is
    saved, and a second one at once. Only a run in the main thread is told of signals.
    """

    priority = "LOWEST"  # the step is complete, and whatever else is written at this step is written

    def __init__(self) -> None:
        self._asked: int | None = None
        self._before: dict[int, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Listen."""
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        if get_world_size() == 1:  # other processes would not be at the same place
            loops = [loop for loop in (runner.train_loop, runner.val_loop) if loop is not None]
            for loop in loops:
                loop.dataloader.on_fault = lambda: self._stop_if_asked_soon(runner)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # a worker process: the parent still needs its batch, and ends it when the step is done
            if number == signal.SIGTERM:
                os._exit(TERMINATED)
            return
        if number == signal.SIGINT and self._asked == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = number

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Save and stop, if asked to."""
        self._stop_if_asked(runner, runner.iter + 1)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Save and stop, if asked to; the validation is done again when the run goes on."""
        self._stop_if_asked(runner, runner.iter)

    def after_train(self, runner: Runner) -> None:
        """The run is over: signals mean what they meant before."""
        self.close()

    def close(self) -> None:
        """Give the signals back, also after an error."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _stop_if_asked_soon(self, runner: Runner) -> None:
        """A worker process was lost: the signal that took it may be on its way to this one too."""
        deadline = time.monotonic() + SOON
        while self._asked is None and time.monotonic() < deadline:
            time.sleep(SOON / 10)
        self._stop_if_asked(runner, runner.iter)

    def _stop_if_asked(self, runner: Runner, step: int) -> None:
        number = self._asked_of_any()
        if number:
            self._stop(runner, step, number)

    def _asked_of_any(self) -> int:
        """The signal that any process got: all must leave after the same step."""
        asked = self._asked or 0
        if get_world_size() == 1:
            return asked
        number = torch.tensor(asked, device=torch.cuda.current_device() if torch.cuda.is_available() else "cpu")
        all_reduce(number, op="max")
        return int(number)

    def _stop(self, runner: Runner, step: int, number: int) -> NoReturn:
        path = save_position(runner, f"iter_{step}.pth", runner.epoch, step)
        barrier()  # the first process writes: nobody leaves before it has
        name = signal.Signals(number).name
        runner.logger.warning(f"{name}: step {step} is saved in {path.name}; go on with --resume auto")
        self.close()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(TERMINATED)


HOOKS.register_module(module=StopOnSignal)
