"""What the processes of the distributed tests run, started by torchrun or by :func:`processes`.

A plan is a list of ``{"arguments": [...], "disturb": {...}, "weights": FOLDER}``: the arguments of ``medtransfer
train``, what goes wrong in which process, and where each process writes the network that it ends with.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from medtransfer.cli import main
from medtransfer.training import run as room
from medtransfer.training.runner import TrainingRunner
from medtransfer.training.tasks import Segmenter

Plan = Sequence[dict[str, Any]]


def fail() -> None:
    raise ValueError("a fault of the test")


ACTIONS: dict[str, Callable[[], Any]] = {
    "hang": lambda: time.sleep(1000),
    "raise": fail,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "term": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "usr1": lambda: os.kill(os.getpid(), signal.SIGUSR1),
    "parent_term": lambda: os.kill(os.getppid(), signal.SIGTERM),
    "parent_usr1": lambda: os.kill(os.getppid(), signal.SIGUSR1),
    "nan": lambda: float("nan"),
}


def disturb(rank: int, when: int | str, action: str) -> None:
    """Act in that process while the loss of a step is computed, or in place of a function of training.run."""
    if rank != int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))):
        return
    if isinstance(when, str):
        setattr(room, when, lambda *arguments: ACTIONS[action]())
        return
    honest, steps = Segmenter.compute_loss, iter(range(1, 1000))

    def disturbed(self: Segmenter, output: Any, label: Any) -> torch.Tensor:
        loss = honest(self, output, label)
        factor = ACTIONS[action]() if next(steps) == when else None
        return loss if factor is None else loss * factor

    Segmenter.compute_loss = disturbed  # type: ignore[method-assign]


def follow(plan: Plan) -> int:
    """Run a plan up to the first command that fails; its exit code."""
    runners: list[TrainingRunner] = []
    honest = TrainingRunner.train

    def train(self: TrainingRunner) -> Any:
        runners.append(self)
        return honest(self)

    TrainingRunner.train = train  # type: ignore[method-assign]
    for part in plan:
        if part.get("disturb"):
            disturb(*part["disturb"])
        code = main.run(["train", *part["arguments"]])
        if code:
            return code
        if part.get("weights"):
            weights = {name: value.clone() for name, value in runners[-1].model.module.state_dict().items()}
            torch.save(weights, Path(part["weights"]) / f"rank{os.environ['RANK']}.pt")
    return 0


class Ended(NamedTuple):
    """How a process ended: its exit code (negative: the signal), and what it wrote."""

    code: int
    text: str


def processes(plan: Plan, folder: Path, limit: float = 60, launcher: str = "pytorch") -> list[Ended]:
    """Two processes, told of each other as torchrun or srun does it; nobody looks after them.

    They are forks of this one, which has imported torch already.

    Raises:
        AssertionError: they take longer than ``limit`` seconds.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    outputs = [folder / f"process{rank}.txt" for rank in (0, 1)]
    running = {_fork(plan, rank, port, outputs[rank], launcher): rank for rank in (0, 1)}
    codes, deadline = {}, time.monotonic() + limit
    while running and time.monotonic() < deadline:
        for pid in list(running):
            if (ended := os.waitpid(pid, os.WNOHANG))[0]:
                codes[running.pop(pid)] = os.waitstatus_to_exitcode(ended[1])
        time.sleep(0.05)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert not running, f"processes {sorted(running.values())} were still at work after {limit} s"
    return [Ended(codes[rank], outputs[rank].read_text()) for rank in (0, 1)]


def _fork(plan: Plan, rank: int, port: str, output: Path, launcher: str) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with output.open("w") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        names = {"pytorch": ("RANK", "WORLD_SIZE", "LOCAL_RANK")}.get(
            launcher, ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
        )
        os.environ.update(dict(zip(names, (str(rank), "2", str(rank)), strict=True)), MASTER_PORT=port)
        os.environ.update(OMP_NUM_THREADS="1", **({"MASTER_ADDR": "127.0.0.1"} if launcher == "pytorch" else {}))
        code = follow(plan)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException as error:
        os.write(2, f"the child failed: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(follow(json.loads(Path(sys.argv[1]).read_text())))
