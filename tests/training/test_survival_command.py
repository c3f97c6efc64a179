"""The real command, told to stop from outside: its exit code, what it leaves, and how it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medtransfer.training.lock import LOCK
from medtransfer.training.run import find_config

from .interruptions import LONGER, Train, assert_same_end, newest

#: a config is code: this one says at its third step that it is there, and waits until it may go on
CONFIG = """
_base_ = {base!r}

def wait_in_third_step():
    import time
    from pathlib import Path
    from medtransfer.training.tasks import Segmenter

    honest, steps, here = Segmenter.compute_loss, iter(range(1, 100)), Path({here!r})

    def compute_loss(self, output, label):
        if next(steps) == 3:
            here.touch()
            while here.exists():
                time.sleep(0.02)
        return honest(self, output, label)

    Segmenter.compute_loss = compute_loss

if {waits}:
    wait_in_third_step()
"""


class Command:
    """``medtransfer train`` in a process of its own."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        self.folder, self.here = folder, folder.with_name("in_third_step")
        longer = {key.replace("__", "."): value for key, value in LONGER.items()}
        self.options = [f"{key}={value}" for key, value in {**options, **longer}.items()]
        self.process: subprocess.Popen[str] | None = None

    def start(self, waits: bool, *more: str) -> None:
        config = self.folder.with_name("resunet18_hippocampus.py")
        base = str(find_config("resunet18_hippocampus"))
        config.write_text(CONFIG.format(base=base, here=str(self.here), waits=waits))
        words = ["train", str(config), "--work-dir", str(self.folder), *more, "--cfg-options", *self.options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "medtransfer", *words],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def send(self, *numbers: int) -> None:
        """Send signals while the third step is being made; with one only, the step then goes on."""
        assert self.process is not None
        wait_for(lambda: self.here.exists() or self.process is None or self.process.poll() is not None)
        for number in numbers:
            self.process.send_signal(number)
            time.sleep(0.3)
        if len(numbers) == 1:
            self.here.unlink()

    def end(self) -> tuple[int, str]:
        assert self.process is not None
        _, said = self.process.communicate(timeout=120)
        return self.process.returncode, said


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def command(tmp_path: Path, options: dict[str, Any]) -> Iterator[Command]:
    running = Command(tmp_path / "run", options)
    yield running
    if running.process is not None:
        running.process.kill()
        running.process.wait()


def check_that_it_saves_and_goes_on(command: Command, train: Train, whole: Path, number: int, code: int) -> None:
    command.start(True)
    command.send(number)
    ended, said = command.end()
    assert ended == code, said
    assert "step 3 is saved in iter_3.pth; go on with --resume auto" in said
    assert "Traceback" not in said
    assert [path.name for path in command.folder.glob("*.pth")] == ["iter_3.pth"]
    assert newest(command.folder)["meta"]["iter"] == 3
    assert not (command.folder / LOCK).exists()
    assert_same_end(whole, train("run", resume="auto", **LONGER))


def test_e05_the_command_saves_at_sigterm_and_goes_on(command: Command, train: Train, whole: Path) -> None:
    check_that_it_saves_and_goes_on(command, train, whole, signal.SIGTERM, 143)


@pytest.mark.slow
def test_e05_the_command_saves_at_sigusr1_and_goes_on(command: Command, train: Train, whole: Path) -> None:
    check_that_it_saves_and_goes_on(command, train, whole, signal.SIGUSR1, 143)


@pytest.mark.slow
def test_e06_the_command_saves_at_one_interrupt_and_goes_on(command: Command, train: Train, whole: Path) -> None:
    check_that_it_saves_and_goes_on(command, train, whole, signal.SIGINT, 130)


@pytest.mark.slow
def test_e06_the_command_ends_at_once_at_two_interrupts(command: Command) -> None:
    command.start(True)
    command.send(signal.SIGINT, signal.SIGINT)  # the step never ends
    ended, said = command.end()
    assert ended == 130, said
    assert "Traceback" not in said
    assert not list(command.folder.glob("*.pth"))
    assert not (command.folder / LOCK).exists()


@pytest.mark.slow
def test_e03_the_command_killed_and_resumed(command: Command, whole: Path) -> None:
    command.options.append("default_hooks.checkpoint={'type': 'KeepCheckpoints', 'by_epoch': False, 'interval': 1}")
    command.start(True)
    command.send(signal.SIGKILL)
    assert command.end()[0] == -signal.SIGKILL
    assert newest(command.folder)["meta"]["iter"] == 2
    command.start(False, "--resume")
    ended, said = command.end()
    assert ended == 0, said
    assert_same_end(whole, command.folder)
