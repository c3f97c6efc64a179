"""The entry point: find the command, run it, turn what happens into results, one line of error and an exit code."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module

from medtransfer.requirements import refuse_old_packages
from medtransfer.version import __version__

from . import failures
from .messages import PROGRAM, write_log
from .parser import Parser, did_you_mean, refuse
from .results import Results

#: command -> what it does; each has a module of its name with `USAGE`, `add_arguments` and `run`
COMMANDS = {
    "demo": "the whole path on an embedded brain scan: pretrain, transfer, fine-tune, predict, report",
    "info": "versions, devices and models; or the card of a model folder",
    "inspect": "what is in a weight file, without running anything in it",
    "diff": "how two weight files differ, tensor by tensor and part by part",
    "convert": "a weight file of another project into a model folder that computes the same",
    "transfer": "move a weight file into a network for another task, as a model folder",
    "train": "train from an mmengine config",
    "check": "every problem of a dataset in one pass: layout, geometry, labels, leakage",
    "predict": "run a model folder over scans",
    "export": "a model folder as ONNX, torch.export, TorchScript or a MONAI bundle, compared after writing",
    "evaluate": "scores of predictions against references, with intervals; two models compared",
    "compare": "whether a transfer helped: from scratch and from pretrained weights, at equal budget",
    "rank": "which source fits the data best, before any training",
    "push": "a model folder to a Hugging Face hub",
    "pull": "a model folder from a Hugging Face hub, at one commit",
}

Command = Callable[[Namespace, Results], int]


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: What follows ``medtransfer``; from the process when not given.

    >>> run(["--version"])
    medtransfer ...
    0
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in arguments
    _prepare_streams()
    results = Results(sys.stdout)
    try:
        with _interruptible():
            code = _run_command(arguments, results, debug)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException as error:  # whatever happened, the user gets one line and the right code
        code = failures.report(error, debug)
    results.close()
    return code


def _run_command(arguments: Sequence[str], results: Results, debug: bool) -> int:
    arguments = [argument for argument in arguments if argument != "--debug"]
    name, rest = _split(arguments, results)
    if name is None:
        return 0
    module = import_module(f"{__package__}.{name}")
    parser = Parser(f"{PROGRAM} {name}", f"{COMMANDS[name].capitalize()}.", f"{PROGRAM} {name} {module.USAGE}")
    module.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error, and all warnings")
    options = parser.parse(rest)
    options.debug = debug
    if name != "info":  # it shows the versions, old ones too
        refuse_old_packages()
    command: Command = module.run
    with contextlib.redirect_stdout(sys.stderr), _quiet(debug):
        return command(options, results)


def _split(arguments: Sequence[str], results: Results) -> tuple[str | None, Sequence[str]]:
    """The command and its arguments; ``--version`` and ``--help`` are answered here, and the command is None."""
    first = arguments[0] if arguments else ""
    if first in COMMANDS:
        return first, arguments[1:]
    if first in ("--version", "-V"):
        results.write(f"{PROGRAM} {__version__}")
        return None, ()
    if first in ("--help", "-h", "help"):
        results.write(_help())
        return None, ()
    if first.startswith("-"):
        problem = f"unknown option {first!r}{did_you_mean(first, ('--version', '--help', '--debug'))}"
    else:
        problem = f"unknown command {first!r}{did_you_mean(first, COMMANDS)}" if first else "a command is needed"
    return refuse(f"usage: {PROGRAM} {{{','.join(COMMANDS)}}} ...", problem, PROGRAM)


def _help() -> str:
    lines = [f"  {name:<10}{summary}" for name, summary in COMMANDS.items()]
    return "\n".join([
        f"usage: {PROGRAM} COMMAND [options]",
        "",
        "Transfer learning on 3-D medical images: move pretrained weights into the network that a task needs.",
        "",
        "commands:",
        *lines,
        "",
        "options:",
        "  -h, --help     this text, or that of a command: medtransfer COMMAND --help",
        "  -V, --version  the version",
        "  --debug        show the traceback of an error, and all warnings",
        "",
        "Results go to stdout, logs to stderr. Exit codes: 0 done, 1 unexpected, 2 usage or config, 3 scan, label or",
        "dataset refused, 4 checkpoint or model refused, 5 some cases of a batch failed, "
        "6 memory, disk, device or network.",
    ])  # fmt: skip


def _prepare_streams() -> None:
    """A name that the terminal's encoding lacks is escaped, not an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end the command like an interrupt does; only the main thread may ask for that."""

    def stop(number: int, frame: object) -> None:
        raise failures.Terminated

    try:
        previous = signal.signal(signal.SIGTERM, stop)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextlib.contextmanager
def _quiet(debug: bool) -> Iterator[None]:
    """Keep the libraries' warnings off stderr, and write our own as one line."""
    if debug or sys.warnoptions:
        yield
        return
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", module=PROGRAM)
        warnings.showwarning = _write_warning
        yield


def _write_warning(message: Warning | str, category: type[Warning], *place: object, **more: object) -> None:
    if category is UserWarning:
        write_log(f"{PROGRAM}: warning: {message}")
