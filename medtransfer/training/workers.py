"""Worker processes of a loader: one that is lost is named, none is waited for in vain, none is left behind."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from ..errors import MedTransferError
from . import faults

PATIENCE = 1.0  # seconds for what takes none, unless a process died in the midst of it


def warn_of_many(count: int) -> None:
    """Warn of more worker processes than processors: they only take memory and time from each other."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if count > cores:
        warnings.warn(f"num_workers is {count}, but there are {cores} processors", UserWarning, stacklevel=2)


@contextmanager
def at_death(handler: Any) -> Iterator[None]:
    """Have this called inside when a child process ends, in place of what torch has set.

    torch sets its handler once in a process, and it raises wherever the program is. Here it is to raise while a loader
    waits for a batch, whatever loop that is in, and never in a step; before the next batch the loader asks.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        yield
        return
    before = signal.signal(signal.SIGCHLD, handler)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGCHLD) == handler:  # else torch has set its own meanwhile, once and for all
            signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)  # None: not set from Python


def raise_its_error(number: int, frame: Any) -> None:
    """A handler for :func:`at_death`.

    Raises:
        RuntimeError: a worker process has ended that was not to.
    """
    torch._C._error_if_any_worker_fails()


class _Told:
    """torch's word to worker processes that they may end, given in bounded time.

    It is an event with a lock, which a process that is killed while it looks at the event keeps for ever.
    """

    def __init__(self, event: Any) -> None:
        self.event, self._told = event, False

    def is_set(self) -> bool:
        return self._told

    def set(self) -> None:
        self._told = True
        telling = threading.Thread(target=self.event.set, daemon=True)
        telling.start()
        telling.join(PATIENCE)


def bound(iterator: Any) -> None:
    """Let an iterator of torch over batches end in bounded time, whatever becomes of its worker processes."""
    event = getattr(iterator, "_workers_done_event", None)
    if event is not None and not isinstance(event, _Told):
        iterator._workers_done_event = _Told(event)


def end(iterator: Any) -> None:
    """End the worker processes now, those that hang too; later, when nobody holds the error, would be too late."""
    if not hasattr(iterator, "_workers"):
        return
    with at_death(signal.SIG_DFL):
        try:
            iterator._shutdown_workers()
        finally:
            _kill(iterator._workers)


def _kill(workers: Any) -> None:
    for worker in workers:
        worker.kill()  # one that was stopped does not hear that it is to end
    for worker in workers:
        worker.join(PATIENCE)


def fault(error: BaseException, iterator: Any, places: Mapping[int, str]) -> MedTransferError | None:
    """The fault of the machine behind an error, if it is one, with the processes and cases; they are ended.

    Args:
        error: What waiting for a batch gave.
        iterator: The one that was asked.
        places: The cases that worker processes are at, by their numbers.
    """
    found, workers = faults.describe(error), list(getattr(iterator, "_workers", ()))
    if not workers:
        return found
    for worker in workers:
        worker.join(0 if found else PATIENCE / len(workers))  # its connections close a little before it is gone
    gone = [worker.pid for worker in workers if not worker.is_alive()]
    if found is None and gone:
        found = faults.lost_worker(", ".join(map(str, gone)))
    if found is None:
        return None
    busy = {workers[number].pid: case for number, case in places.items()}
    named = [pid for pid in gone if pid in busy] or list(busy) or gone or [worker.pid for worker in workers]
    said = ", ".join(f"process {pid} {f'at {busy[pid]}' if pid in busy else 'between two cases'}" for pid in named)
    with at_death(signal.SIG_DFL):
        _kill(workers)
    return type(found)(f"{found.reason} ({said})", path=found.path, hint=found.hint)
