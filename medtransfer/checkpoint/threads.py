"""A few threads for passes over large memory, whose loops (checksums, sums, copies) run outside Python's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

#: More do not help: then memory is what they wait for.
MAX_THREADS = 4

#: Below this, starting threads takes longer than they save.
SMALL_BYTES = 16 << 20

Item = TypeVar("Item")
Result = TypeVar("Result")


class Background(Generic[Item, Result]):
    """Calls a function for each item, in threads that run while the caller goes on; in order of the items' sizes.

    The largest first: a thread that needs Python's lock waits for the caller's work, so it should need it seldom.
    Leaving the ``with`` block waits for what has begun and drops the rest.

    >>> with Background(len, ["a", "bc"], sizes=[1, 1 << 30]) as lengths:
    ...     lengths.results()
    [1, 2]
    """

    def __init__(self, function: Callable[[Item], Result], items: Sequence[Item], sizes: Sequence[int]) -> None:
        self._function, self._items = function, items
        self._found: dict[int, Result] = {}
        self._open = deque(sorted(range(len(items)), key=lambda index: -sizes[index]))
        workers = min(MAX_THREADS, os.cpu_count() or 1) if sum(sizes) >= SMALL_BYTES else 0
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None
        self._running: list[Future[None]] = [self._pool.submit(self._work) for _ in range(workers) if self._pool]

    def __enter__(self) -> Background[Item, Result]:
        return self

    def __exit__(self, *_error: object) -> None:
        self._open.clear()
        if self._pool is not None:
            self._pool.shutdown()

    def results(self) -> list[Result]:
        """One result for each item, in the items' order; the caller's thread helps with what is left."""
        self._work()
        for future in self._running:
            future.result()
        return [self._found[index] for index in range(len(self._items))]

    def _work(self) -> None:
        while self._open:
            try:
                index = self._open.popleft()
            except IndexError:  # another thread took the last
                return
            self._found[index] = self._function(self._items[index])


def map_threads(function: Callable[[Item], Result], items: Sequence[Item], sizes: Sequence[int]) -> list[Result]:
    """``list(map(function, items))``, in threads if the items, of ``sizes`` bytes, are large together.

    >>> map_threads(len, ["a", "bc"], sizes=[1, 1])
    [1, 2]
    """
    with Background(function, items, sizes) as background:
        return background.results()
