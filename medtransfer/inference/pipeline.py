"""Three steps over many items at once: the next is read, this one computed, the last one written."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")
Computed = TypeVar("Computed")
Record = TypeVar("Record")


def run_overlapped(
    items: Sequence[Item],
    read: Callable[[Item], Read],
    compute: Callable[[Read], Computed],
    finish: Callable[[Item, Future[Computed]], Record],
) -> Generator[Record, None, None]:
    """Records of all items in order; at most three items are in memory, one in each step.

    ``read`` runs in a thread, ``compute`` in the caller's, ``finish`` in a third. An exception of the first two steps
    stops nothing: ``finish`` gets it, as the future's. What ``finish`` raises, or an interrupt of the caller, ends the
    run after the steps that had begun.

    >>> def finish(item, result):
    ...     return (item, str(result.exception() or result.result()))
    >>> list(run_overlapped([1, 0, 4], lambda item: 8 // item, lambda read: read + 1, finish))
    [(1, '9'), (0, 'integer division or modulo by zero'), (4, '3')]
    """
    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
        reading = [reader.submit(read, item) for item in items[:1]]
        writing: Future[Record] | None = None
        for index, item in enumerate(items):
            wait(reading)
            result, reading = (
                reading.pop(),
                [reader.submit(read, following) for following in items[index + 1 : index + 2]],
            )
            computed = apply(compute, result)
            del result
            if writing is not None:
                yield writing.result()
            writing = writer.submit(finish, item, computed)
            del computed
        if writing is not None:
            yield writing.result()


def apply(step: Callable[[Read], Computed], before: Future[Read]) -> Future[Computed]:
    """A step after another: what it gives, or the exception of either, as a future that is settled."""
    after: Future[Computed] = Future()
    try:
        after.set_result(step(before.result()))
    except Exception as error:
        after.set_exception(error)
    return after
