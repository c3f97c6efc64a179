"""A batch shared among processes: which scans are whose, and one report of them all."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..errors import UsageError

Document = dict[str, Any]
Case = TypeVar("Case")
#: what torchrun tells its processes
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RUN_ID")
#: seconds by which the clocks and the starts of a run's processes may differ
_APART = 1.0
_POLL = 0.2


@dataclass(frozen=True)
class Part:
    """One of ``count`` processes that share a batch.

    Args:
        number: From 0, as nnU-Net counts its parts.
        count: How many there are.
        run: What tells this run of torchrun from others; empty where the parts were started by hand.
        local: The number of the process on its machine, by which it takes its GPU.
        begun: When it began, in seconds since 1970.
    """

    number: int = 0
    count: int = 1
    run: str = ""
    local: int | None = None
    begun: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.number < self.count:
            reason = f"part {self.number} of {self.count}: parts are numbered from 0 to their number - 1"
            raise UsageError(reason, hint="Give, for two processes, --num-parts 2 --part-id 0 and --part-id 1")

    @classmethod
    def of_process(
        cls, number: int | None = None, count: int | None = None, environment: Mapping[str, str] = os.environ
    ) -> Part:
        """The part that the options name, or else the one that torchrun gave this process, or else everything.

        Raises:
            UsageError: one option without the other, a number out of range, or options under torchrun.

        >>> part = Part.of_process(1, 4, {})
        >>> part.number, part.count
        (1, 4)
        """
        launched = all(name in environment for name in TORCHRUN)
        if (number is None) != (count is None):
            raise UsageError("num_parts and part_id belong together", hint="Give both, or neither")
        if number is not None and count is not None:
            if launched and int(environment["WORLD_SIZE"]) > 1:
                raise UsageError("torchrun's processes are the parts already", hint="Leave out num_parts and part_id")
            return cls(number, count)
        return cls._of_torchrun(environment) if launched else cls()

    @classmethod
    def _of_torchrun(cls, environment: Mapping[str, str]) -> Part:
        rank, size, local = (int(environment[name]) for name in TORCHRUN[:3])
        run = f"{environment['TORCHELASTIC_RUN_ID']}:{environment.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        return cls(rank, size, run, local) if size > 1 else cls()

    @property
    def leads(self) -> bool:
        """Whether this process speaks for all: it waits for the others, shows the results, and ends with their code."""
        return not self.run or self.number == 0

    def take(self, cases: Sequence[Case], name: Callable[[Case], str]) -> list[Case]:
        """The cases of this part: every ``count``-th by sorted name, so that all parts take all, and none twice.

        >>> Part(1, 2).take("dacb", str)
        ['b', 'd']
        """
        return list(cases) if self.count == 1 else sorted(cases, key=name)[self.number :: self.count]

    def report_name(self, number: int | None = None) -> str:
        """The file of this part's report, or of another's.

        >>> Part(1, 4).report_name(), Part().report_name()
        ('report.part-1-of-4.json', 'report.json')
        """
        number = self.number if number is None else number
        return f"report.part-{number}-of-{self.count}.json" if self.count > 1 else "report.json"

    def stamp(self, document: Document, order: str) -> Document:
        """A report with what tells whose it is; ``order`` stands for what was to be done."""
        part = {"number": self.number, "of": self.count, "run": self.run, "order": order, "written": time.time()}
        return {**document, "part": part}

    def gather(self, folder: Path, order: str) -> list[Document] | None:
        """The reports of all parts in order, if it falls to this process to merge them.

        By hand it is the one whose report was written last. Under torchrun it is the first process, which waits for
        the others; one that dies is torchrun's to notice.
        """
        if self.run:
            return self._wait(folder, order) if self.leads else None
        found = self._reports(folder, order)
        if found is None:
            return None
        ages = [((folder / self.report_name(number)).stat().st_mtime_ns, number) for number in range(self.count)]
        return found if max(ages)[1] == self.number else None

    def _wait(self, folder: Path, order: str) -> list[Document]:
        while (found := self._reports(folder, order)) is None:
            time.sleep(_POLL)
        return found

    def _reports(self, folder: Path, order: str) -> list[Document] | None:
        """The reports of all parts; None as soon as one is missing, however many there are to be."""
        found = []
        for number in range(self.count):
            document = read_json(folder / self.report_name(number))
            if not self._belongs(document, order):
                return None
            found.append(document or {})
        return found

    def _belongs(self, document: Document | None, order: str) -> bool:
        """Whether a report is of this run: not one that an earlier run has left there."""
        part = (document or {}).get("part") or {}
        if not self.run:
            return part.get("order") == order
        return part.get("run") == self.run and part.get("written", 0) > self.begun - _APART


def merge_reports(reports: Sequence[Document]) -> Document:
    """One report of all parts, the cases by name; ``seconds`` is that of the slowest part.

    >>> parts = [{"cases": [{"case": name, "status": status}], "seconds": 2.5} for name, status in
    ...          (("b", "done"), ("a", "failed"))]
    >>> merged = merge_reports(parts)
    >>> [case["case"] for case in merged["cases"]], merged["done"], merged["failed"]
    (['a', 'b'], 1, ['a'])
    """
    cases = sorted((case for report in reports for case in report["cases"]), key=lambda case: case["case"])
    rest = {key: value for key, value in reports[0].items() if key != "part"}
    return {**rest, **counted(cases), "seconds": max(report["seconds"] for report in reports)}


def counted(cases: Sequence[Document]) -> Document:
    """What a report says of its cases: how many are done, now or before, which failed, and all of them."""
    failed = [case["case"] for case in cases if case["status"] == "failed"]
    return {"done": len(cases) - len(failed), "failed": failed, "cases": list(cases)}


def read_json(path: Path) -> Document | None:
    """A JSON object, or None if there is none that can be read."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None
