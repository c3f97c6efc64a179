"""The check of a dataset: every case once, then all of them together."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path

from ..data.cases import Layout
from ..data.layouts import Found, find_layout
from ..data.targets import TargetLayout
from ..errors import UsageError
from ..files import refuse_existing, refuse_unusable_folder, write_json
from .across import class_names, dataset_problems
from .boxes import box_notes
from .checkup import Checkup
from .exam import Examined, examine
from .facts import Problem, in_order
from .outliers import dataset_notes, unlike_the_others
from .targets import look_at_targets, target_notes, with_targets

DOCUMENT, PAGE = "check.json", "check.html"
WORKERS = 2
Progress = Callable[[int, int], None]


def check(
    data: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    workers: int = WORKERS,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Checkup:
    """Look at a whole dataset before any training: every problem of every case, in one pass.

    Nothing that is wrong with the data raises: it is in the ``problems`` of what is returned. Scans are read one by
    one; only their measures stay in memory.

    Args:
        data: A folder or file that `medtransfer.data.layouts.find_layout` knows; or a table of several targets.
        folder: Where ``check.json`` and ``check.html`` are written, if anywhere.
        workers: Cases that are read at the same time, each in a thread.
        overwrite: Replace those two files.
        progress: Called after every case with the number of those done and of all.

    Raises:
        UsageError: ``workers`` is below 1, or the folder cannot be used.
        OutputExistsError: a file to be written exists and ``overwrite`` is false.

    >>> checkup = check("no/such/folder")
    >>> checkup.ok, checkup.problems[0].text
    (False, "no such file or folder. Name the dataset's folder or table")
    """
    if workers < 1:
        raise UsageError(f"workers must be at least 1, got {workers}")
    outputs = _outputs(folder, overwrite)
    start = time.perf_counter()
    found = with_targets(find_layout(Path(data)))
    report = outputs[1] if outputs else None
    checkup = _checked(Path(data), found, workers, progress, start, report)
    if outputs:
        # matplotlib takes a while to be read
        from .page import write_report

        write_report(checkup, outputs[1], workers)
        write_json(outputs[0], checkup.to_dict())
    return checkup


def _outputs(folder: str | os.PathLike[str] | None, overwrite: bool) -> list[Path]:
    if folder is None:
        return []
    refuse_unusable_folder(Path(folder))
    return [refuse_existing(Path(folder) / name, overwrite) for name in (DOCUMENT, PAGE)]


def _checked(
    data: Path, found: Found, workers: int, progress: Progress | None, start: float, report: Path | None
) -> Checkup:
    # without a layout there is one problem, and the hint is the way out of it
    way_out = f". {found.hint}" if found.layout is None and found.hint else ""
    problems = [Problem("error", "layout", f"{text}{way_out}", file=found.path) for text in found.problems]
    problems += [Problem("warning", "layout", text, file=found.path) for text in found.warnings]
    layout = found.layout
    if layout is not None and layout.ignore is not None:
        text = f"the label {layout.ignore} is to be ignored, which training refuses: losses count every voxel"
        problems.append(Problem("error", "layout", text, file=found.path))
    if layout is None:
        seconds = time.perf_counter() - start
        return Checkup(data, problems=tuple(problems), seconds=seconds, report=report)
    examined = _examined(layout, workers, progress)
    cases = [facts for facts, _ in examined]
    problems += [problem for _, own in examined for problem in own]
    problems += [*dataset_problems(layout, cases), *unlike_the_others(layout, cases)]
    if isinstance(layout, TargetLayout):
        cases, of_targets = look_at_targets(layout, cases, lambda one: _examined(one, workers, progress))
        problems += of_targets
    return Checkup(
        data,
        layout.task,
        layout.channels,
        layout.classes or ("background", *class_names(layout.task, (), cases)),
        tuple(cases),
        in_order(problems),
        (*target_notes(layout), *box_notes(layout, cases), *dataset_notes(layout, cases)),
        time.perf_counter() - start,
        report,
    )


def _examined(layout: Layout, workers: int, progress: Progress | None) -> list[Examined]:
    """All cases in the order of the layout."""
    done: dict[int, Examined] = {}
    for number, result in _as_they_end(layout, workers):
        done[number] = result
        if progress is not None:
            progress(len(done), len(layout.cases))
    return [done[number] for number in range(len(layout.cases))]


def _as_they_end(layout: Layout, workers: int) -> Iterator[tuple[int, Examined]]:
    """Numbers of cases and what was found; no more cases are under way than there are workers."""
    waiting = enumerate(layout.cases)
    with ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(examine, case, layout): number for number, case in islice(waiting, workers)}
        while running:
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                yield running.pop(future), future.result()
            for number, case in islice(waiting, len(ended)):
                running[pool.submit(examine, case, layout)] = number
