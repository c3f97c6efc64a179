"""How far a batch is: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol

from .messages import PROGRAM, write_error, write_log

#: seconds between two lines in a log
INTERVAL = 10.0
#: warnings that are shown; those of all cases are in the report
MOST_WARNINGS = 20


class _Display(Protocol):
    def show(self, name: str, number: int, total: int) -> None: ...


class Progress(AbstractContextManager["Progress"]):
    """Shows errors and warnings of the cases of a batch as they come, and how far it is.

    Args:
        total: How many cases there are; of a single one only its warnings are shown.
        debug: Show where an error happened that nobody foresaw.
    """

    def __init__(self, total: int, debug: bool = False) -> None:
        self._stack, self._debug = ExitStack(), debug
        self._warnings = 0
        on_terminal = sys.stderr is not None and sys.stderr.isatty()
        kind = _Nothing if total == 1 else _Bar if on_terminal else _Lines
        self._display: _Display = kind(total, self._stack)

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def __call__(self, record: Mapping[str, Any], number: int, total: int) -> None:
        """Show what is to be said of a case that is finished."""
        if self._debug and "traceback" in record and sys.stderr is not None:
            sys.stderr.write(record["traceback"])
        if record["status"] == "failed":
            write_error(record["error"])
        for text in record.get("warnings", ()) if record["status"] == "done" else ():
            self._warn(f"{record['inputs'][0]}: {text}")
        self._display.show(record["case"], number, total)

    def _warn(self, text: str) -> None:
        self._warnings += 1
        if self._warnings <= MOST_WARNINGS:
            write_log(f"{PROGRAM}: warning: {text}")
        if self._warnings == MOST_WARNINGS + 1:
            write_log(f"{PROGRAM}: warning: there are more; report.json has them all")


class _Nothing:
    def __init__(self, total: int, stack: ExitStack) -> None: ...

    def show(self, name: str, number: int, total: int) -> None: ...


class _Lines:
    """A line at most every ten seconds, so that a log of 10 000 cases stays short."""

    def __init__(self, total: int, stack: ExitStack) -> None:
        self._begin = self._last = time.monotonic()

    def show(self, name: str, number: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last < INTERVAL or number == total:
            return
        self._last = now
        left = (now - self._begin) / number * (total - number)
        write_log(f"{PROGRAM}: {number} of {total} cases, about {duration(left)} left")


class _Bar:
    """A bar with an estimate; what is logged meanwhile appears above it."""

    def __init__(self, total: int, stack: ExitStack) -> None:
        from rich import progress
        from rich.console import Console

        columns = (
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("about"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("left  {task.fields[name]}", markup=False),
        )
        console = Console(stderr=True, soft_wrap=True)
        self._bar = stack.enter_context(progress.Progress(*columns, console=console, transient=True))
        self._task = self._bar.add_task("", total=total, name="")

    def show(self, name: str, number: int, total: int) -> None:
        shown = name if name.isprintable() else ascii(name)[1:-1]
        self._bar.update(self._task, completed=number, name=shown[-40:])


def duration(seconds: float) -> str:
    """Seconds as a reader wants them.

    >>> duration(42.4), duration(200), duration(9000)
    ('42 s', '3 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
