"""``medtransfer check``: every problem of a dataset in one pass, before any training."""

from __future__ import annotations

import math
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .messages import write_error
from .options import add_json, add_overwrite
from .parser import number_between
from .results import Results

USAGE = "DATA [-o FOLDER] [options]"
REFUSED = 3


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    data = (
        "a folder with dataset.json (Decathlon, nnU-Net), a table with the columns image and label, or with several "
        "targets, or BIDS"
    )
    add("data", metavar="DATA", help=data)
    add("-o", "--output", metavar="FOLDER", help="write check.json and check.html, a page with pictures, here")
    add("--workers", metavar="N", type=number_between(1, math.inf, int), default=2,
        help="cases that are read at the same time (2)")  # fmt: skip
    add("--strict", action="store_true", help="warnings count as errors for the exit code")
    add_overwrite(parser)
    add_json(parser)


def run(options: Namespace, results: Results) -> int:
    """Check; the exit code is 3 where there are errors."""
    from medtransfer.checking.run import check
    from medtransfer.checking.summary import refusal

    with _progress() as move:
        checkup = check(options.data, options.output, options.workers, options.overwrite, move)
    text = str(checkup) + (f"\nreport: {checkup.report}" if checkup.report else "")
    results.write_either(checkup.to_dict(), text, options.json)
    if checkup.ok and not (options.strict and checkup.problems):
        return 0
    write_error(refusal(options.data, checkup.problems))
    return REFUSED


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr, if that is a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("cases", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
