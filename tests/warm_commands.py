"""``medtransfer`` and ``python`` as commands that start at once, for pages with many of them.

One process imports what commands need; each command is run by a fork of it, with the arguments, folder, environment and
streams of whoever called it. What a command does is the same, but for the seconds of its imports.

``python -m tests.warm_commands FOLDER`` writes the commands into FOLDER, says ``ready`` and serves until its input
ends.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import stat
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("medtransfer", "python")
WARM = (
    *("monai.transforms", "monai.losses", "matplotlib.pyplot", "medtransfer.training.run"),
    *("medtransfer.inference.predictor", "medtransfer.inference.batch", "medtransfer.evaluation.evaluate"),
    *("medtransfer.adapter.convert", "medtransfer.training.preview", "medtransfer.cli.main"),
)
CLIENT = """#!{python} -ISs
import json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    call = json.dumps([{name!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(call).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(call)
    answers = server.makefile()
    pid = int(answers.readline())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: os.kill(pid, number))
    sys.exit(int(answers.readline() or 1))
"""


@contextmanager
def warm_commands(folder: Path) -> Iterator[Path]:
    """A folder for the front of the PATH, with the commands in it."""
    command = [sys.executable, "-m", "tests.warm_commands", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield folder
        server.stdin.close()


def serve(folder: Path) -> None:
    """Answer calls until the standard input ends."""
    for module in WARM:
        import_module(module)
    address = str(folder / "calls")
    for name in COMMANDS:
        path = folder / name
        path.write_text(CLIENT.format(python=sys.executable, address=address, name=name))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        threading.Thread(target=_end_with_input, daemon=True).start()
        while True:
            caller, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _answer(caller)
            caller.close()


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


def _answer(caller: socket.socket) -> None:
    """Be the command that was called, and end with its exit code."""
    size, streams, _, _ = socket.recv_fds(caller, 8, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # those of the first process remember what kind of file they were
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    name, arguments, folder, environment = json.loads(_received(caller, int.from_bytes(size, "big")))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    caller.sendall(f"{os.getpid()}\n".encode())
    threading.Thread(target=_end_with_caller, args=(caller,), daemon=True).start()
    code = _run(name, arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    caller.sendall(f"{code}\n".encode())
    os._exit(code)


def _end_with_caller(caller: socket.socket) -> None:
    caller.recv(1)
    os._exit(1)


def _received(caller: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        parts += caller.recv(size - len(parts))
    return parts


def _run(name: str, arguments: list[str]) -> int:
    try:
        if name == "medtransfer":
            from medtransfer.cli.main import run

            return run(arguments)
        sys.argv = arguments
        sys.path[0] = str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as stop:
        if isinstance(stop.code, str):
            sys.stderr.write(f"{stop.code}\n")
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
