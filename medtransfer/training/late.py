"""Numbers of a step, read without making the device wait.

Asking a GPU for a number stops the program until all that was queued is done, and the GPU then stands idle until more
is queued. Numbers are copied to the host on the way instead, and read a step later, when the next step is queued.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

import torch
from mmengine.hooks import RuntimeInfoHook
from mmengine.runner import Runner
from torch import Tensor

from .registry import HOOKS

Note = TypeVar("Note")
#: steps that a number may come after its own, by the kind of device; where nothing is queued there is nothing to gain
DELAYS = {"cuda": 1}
_Waiting = tuple[Any, list[str], Tensor, Any]


class LateNumbers(Generic[Note]):
    """A queue of numbers on their way from the device.

    >>> numbers = LateNumbers[int]()
    >>> numbers.put(1, {"loss": torch.tensor(0.5)})
    >>> list(numbers.come())
    [(1, {'loss': 0.5})]
    """

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._delay = 0

    def put(self, note: Note, values: Mapping[str, Any]) -> None:
        """Send single numbers on their way.

        Args:
            note: What is given back with them.
            values: Tensors of one element, and plain numbers.
        """
        tensors = [value for value in values.values() if isinstance(value, Tensor)]
        device = tensors[0].device if tensors else torch.device("cpu")
        # float64 holds whatever a loss is in
        parts = [torch.as_tensor(value).detach().to(device, torch.float64).reshape(()) for value in values.values()]
        copy, arrival = _to_host(torch.stack(parts)) if parts else (torch.empty(0), None)
        self._waiting.append((note, list(values), copy, arrival))
        self._delay = DELAYS.get(device.type, 0)

    def come(self, all_of_them: bool = False) -> Iterator[tuple[Note, dict[str, float]]]:
        """Those that are due, in order; with ``all_of_them`` also those that the device may still be computing."""
        while len(self._waiting) > (0 if all_of_them else self._delay):
            note, names, copy, arrival = self._waiting.popleft()
            if arrival is not None:
                arrival.synchronize()
            yield note, dict(zip(names, copy.tolist(), strict=True))


def _to_host(numbers: Tensor) -> tuple[Tensor, Any]:
    """A copy in the host's memory, and the event after which it is whole."""
    if numbers.device.type != "cuda":
        return numbers, None
    copy = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
    copy.copy_(numbers, non_blocking=True)
    arrival = torch.cuda.Event()
    arrival.record()
    return copy, arrival


class RuntimeInfo(RuntimeInfoHook):
    """mmengine's ``RuntimeInfoHook``, which takes the place of that name and asks the device for nothing.

    Whatever reads the histories (a log, a validation, a checkpoint) finds all of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._numbers = LateNumbers[int]()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Send losses and the gradients' norm on their way, and note those that came."""
        wrapper = runner.optim_wrapper
        norm = getattr(wrapper, "latest_norm", None)
        if norm is not None:
            wrapper.latest_norm = None  # the next batch may be accumulated only
            outputs = {**(outputs or {}), wrapper.grad_name: norm}
        self._numbers.put(runner.iter, outputs or {})
        self._note(runner, all_of_them=_is_logged(runner, batch_idx))

    def before_val(self, runner: Runner) -> None:
        """Note all."""
        super().before_val(runner)
        self._note(runner, all_of_them=True)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note all; the checkpoint holds the histories."""
        self._note(runner, all_of_them=True)
        checkpoint["message_hub"] = runner.message_hub.state_dict()

    def after_train(self, runner: Runner) -> None:
        """Note all."""
        super().after_train(runner)
        self._note(runner, all_of_them=True)

    def _note(self, runner: Runner, all_of_them: bool) -> None:
        for _, values in self._numbers.come(all_of_them):
            for name, value in values.items():
                runner.message_hub.update_scalar(f"train/{name}", value)


def _is_logged(runner: Runner, batch: int) -> bool:
    """Whether the log speaks of this step, or an epoch or the run ends with it."""
    intervals = [hook.interval for hook in runner.hooks if type(hook).__name__ == "LoggerHook"]
    ends = batch + 1 == len(runner.train_dataloader) or runner.iter + 1 == runner.max_iters
    return ends or any((batch + 1) % interval == 0 for interval in intervals)


HOOKS.register_module(name="RuntimeInfoHook", module=RuntimeInfo, force=True)
