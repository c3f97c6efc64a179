"""How everything here is measured: in turn, in one process; memory in a fresh one.

A shared machine can be three times slower in one minute than in the next. So nothing is measured alone: the ways that
are compared run in turn, A B A B, and the ratio is taken within each round. The median of those ratios counts, their
smallest and largest stand beside it.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
#: in these units less is better, so that the rival's number is divided by ours; in all others ours by the rival's
COSTS = ("s", "ms", "s/Mvoxel", "MiB")
MIB = 1 << 20
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        what: What was measured.
        ours: The median of ours, in ``unit``; None if it failed or could not be run.
        theirs: The median of what stands beside it.
        ratio: Median over the rounds, above 1 where ours is better.
        low: The smallest ratio of a round.
        high: The largest.
        unit: See ``COSTS``.
        beside: What ours is measured against.
        target: What issue or page promised of the ratio, of ``ours`` where there is none; "" for no promise.
        note: What a reader must know of this line.
        detail: Stands in a table of its own, below.
    """

    what: str
    ours: float | None
    theirs: float | None
    ratio: float | None
    low: float | None
    high: float | None
    unit: str = "s"
    beside: str = ""
    target: str = ""
    note: str = ""
    detail: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the file of results."""
        return asdict(self)


@dataclass(frozen=True)
class Peak:
    """The memory of one call in a fresh process, in bytes.

    Args:
        process: The whole process at its highest: interpreter, libraries, network and input as well.
        call: What the call added to what there was before it.
        device: Highest memory allocated on the CUDA device, 0 on a CPU.
        seconds: What the call took, the first in its process.
    """

    process: int
    call: int
    device: int = 0
    seconds: float = 0.0

    def mib(self, device: str) -> float:
        """What the call took, in MiB: of the process on a CPU, of the device on a GPU."""
        return (self.call if device == "cpu" else self.device) / MIB


def alternate(
    functions: Mapping[str, Callable[[], object]], rounds: int, device: str = "cpu", warm: bool = True
) -> dict[str, list[float]]:
    """Seconds of every call: each function once to warm up, then all in turn, ``rounds`` times.

    Every other round runs backwards, so that none always follows the same.

    >>> sorted(alternate({"a": int, "b": dict}, rounds=3))
    ['a', 'b']
    """
    for function in functions.values() if warm else ():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds):
        for name in list(functions)[:: -1 if number % 2 else 1]:
            seconds[name].append(timed(functions[name], device))
    return seconds


def timed(function: Callable[[], object], device: str = "cpu") -> float:
    """Seconds of one call, to the end of what it started on a CUDA device."""
    _synchronize(device)
    begin = time.perf_counter()
    function()
    _synchronize(device)
    return time.perf_counter() - begin


def compare(
    what: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    unit: str = "s",
    beside: str = "",
    target: str = "",
    note: str = "",
) -> Row:
    """A row from the values of both, round by round.

    >>> row = compare("a step", [1.0, 2.0, 1.0], [3.0, 4.0, 5.0])
    >>> row.ours, row.theirs, row.ratio, row.low, row.high
    (1.0, 4.0, 3.0, 2.0, 5.0)
    >>> compare("a rate", [6.0], [10.0], unit="GFLOP/s").ratio
    0.6
    """
    pairs = list(zip(ours, theirs, strict=True))
    ratios = [b / a if unit in COSTS else a / b for a, b in pairs]
    mine, rival, ratio = (statistics.median(values) for values in (ours, theirs, ratios))
    return Row(what, mine, rival, ratio, min(ratios), max(ratios), unit, beside, target, note)


def alone(what: str, ours: float | None, unit: str, target: str = "", note: str = "") -> Row:
    """A row of a number that has no rival: a share, an agreement, or the reason why there is none."""
    return Row(what, ours, None, None, None, None, unit, "", target, note)


def peak_memory(maker: str, **arguments: Any) -> Peak:
    """The memory that one call takes, in a fresh process.

    Args:
        maker: ``module:function``. It is called with ``arguments`` (plain values), imports and builds all that the
            call needs, and gives the call back: what it took is the baseline. Of them, ``device`` tells where.

    Raises:
        RuntimeError: the process failed; the last line of what it said.
    """
    command = [sys.executable, "-m", "benchmarks.speed.measure", maker, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        raise RuntimeError(f"{maker} failed in a process of its own: {said[-1]}")
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def measure_peak(call: Callable[[], object], device: str = "cpu") -> Peak:
    """What :func:`peak_memory` does in its process."""
    before = _reset_peak()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = timed(call, device)
    highest = _highest()
    on_device = torch.cuda.max_memory_allocated(device) if device != "cpu" else 0
    return Peak(highest, highest - before, on_device, seconds)


def _reset_peak() -> int:
    """Bytes in use now, from which on the peak counts; where the system cannot reset it, the peak until now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _highest()
    return _status("VmRSS:")


def _highest() -> int:
    # ru_maxrss remembers what the process was before exec: a child of a large process would look large
    if _STATUS.is_file():
        return _status("VmHWM:")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _status(name: str) -> int:
    return next(int(line.split()[1]) << 10 for line in _STATUS.read_text().splitlines() if line.startswith(name))


def _synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def _main(maker: str, arguments: str) -> None:
    module, _, name = maker.partition(":")
    given = json.loads(arguments)
    peak = measure_peak(getattr(import_module(module), name)(**given), given.get("device", "cpu"))
    print(json.dumps(asdict(peak)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
