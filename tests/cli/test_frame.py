"""The frame of the command line: every kind of ending has one line and its exit code."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import warnings

import pytest

from medtransfer import errors
from medtransfer.cli import main
from medtransfer.version import __version__

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MedTransferError)]


def raising(error: BaseException):
    def run(options, results):
        raise error

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_each_error_is_one_line_with_its_exit_code(command, capsys, kind):
    command(raising(kind("the affine\nis singular", path="scan.nii", hint="Export it again")))
    assert main.run(["fake"]) == kind.exit_code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "medtransfer: error: scan.nii: the affine is singular. Export it again.\n"


class OutOfMemoryError(RuntimeError):
    """Named as torch's own."""


@pytest.mark.parametrize(
    "error, code, words",
    [
        (KeyError("spacing"), 1, "unexpected KeyError: 'spacing'. Run it again with --debug"),
        (AssertionError(), 1, "unexpected AssertionError. Run it again"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 6, "memory ran out. Free some"),
        (OutOfMemoryError("CUDA out of memory"), 6, "memory ran out: CUDA out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes"), 6, "memory ran out"),
        (OSError(errno.ENOSPC, "No space left on device", "a.nii"), 6, "a.nii: cannot be written: No space left"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a"), 1, "unexpected FileNotFoundError"),
    ],
)
def test_other_errors_are_one_line_too(command, capsys, error, code, words):
    command(raising(error))
    assert main.run(["fake"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert words in err


def test_debug_gives_the_traceback_wherever_it_stands(command, capsys):
    command(raising(errors.VolumeError("broken")))
    for arguments in (["fake", "--debug"], ["--debug", "fake"]):
        assert main.run(arguments) == 3
        err = capsys.readouterr().err
        assert "Traceback" in err
        assert err.endswith("medtransfer: error: broken\n")


def test_a_file_name_cannot_send_control_codes(command, capsys):
    command(raising(errors.VolumeError("broken", path="a\x1b[31m\nb\udc80.nii")))
    assert main.run(["fake"]) == 3
    err = capsys.readouterr().err
    assert err == "medtransfer: error: a\\x1b[31m b\\udc80.nii: broken\n"


def test_sigterm_ends_with_143_after_clean_up(command, capsys):
    cleaned = []

    def run(options, results):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            cleaned.append(True)

    command(run)
    before = signal.getsignal(signal.SIGTERM)
    assert main.run(["fake"]) == 143
    assert cleaned == [True]
    assert capsys.readouterr().err == "medtransfer: error: terminated\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a13_what_libraries_print_goes_to_stderr(command, capsys):
    def run(options, results):
        print("a library's chatter")  # noqa: T201
        warnings.warn("a library's warning", stacklevel=1)
        results.write_json({"dice": float("nan")})
        return 5

    command(run)
    assert main.run(["fake", "--json"]) == 5
    out, err = capsys.readouterr()
    assert out == '{\n  "dice": null\n}\n'
    assert err == "a library's chatter\n"


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "a command is needed"),
        (["fkae"], "unknown command 'fkae'. Did you mean 'fake'?"),
        (["--vresion"], "unknown option '--vresion'. Did you mean '--version'?"),
        (["fake", "--jsn"], "unknown option '--jsn'. Did you mean '--json'?"),
        (["fake", "--js"], "unknown option '--js'. Did you mean '--json'?"),
        (["fake", "--numbr=3"], "unknown option '--numbr'. Did you mean '--number'?"),
        (["fake", "--number", "three"], "invalid int value: 'three'"),
        (["fake", "a", "b"], "unexpected argument 'b'"),
    ],
)
def test_a01_a_slip_gets_usage_and_a_suggestion(command, capsys, arguments, words):
    command(raising(AssertionError("must not run")))
    assert main.run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    usage, error = err.splitlines()
    assert usage.startswith("usage: medtransfer ")
    assert error.startswith("medtransfer: error: ")
    assert words in error


def test_version_and_help_are_results(capsys):
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == f"medtransfer {__version__}\n"
    assert main.run(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in main.COMMANDS)


@pytest.mark.parametrize("name", list(main.COMMANDS))
def test_each_command_has_help_without_importing_torch(python, name):
    code = f"import sys; from medtransfer.cli.main import run; run(['{name}', '--help']); "
    done = python("-c", f"{code}sys.exit('torch' in sys.modules)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: medtransfer {name} ")


_TALKER = """
import sys
from pathlib import Path
from types import ModuleType
from medtransfer.cli import main

def work(options, results):
    for number in range(20000):
        results.write("line " * 10)
    Path(sys.argv[1]).touch()
    return 0

fake = ModuleType("fake")
fake.USAGE, fake.run, fake.add_arguments = "", work, lambda parser: None
sys.modules["medtransfer.cli.fake"] = fake
main.COMMANDS["fake"] = ""
sys.exit(main.run(["fake"]))
"""


def test_a12_a_reader_that_left_does_not_stop_the_work(tmp_path):
    command = [sys.executable, "-c", _TALKER, str(tmp_path / "done")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("redirection, code", [(">&-", 0), ("2>&-", 0), (">/dev/full", 6)])
def test_a12_closed_and_full_streams_do_not_crash(python, redirection, code):
    run = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1], shell=True).returncode)"
    done = python("-c", run, f"{sys.executable} -m medtransfer info {redirection}")
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_a12_a_plain_c_locale_works(python):
    done = python("-m", "medtransfer", "info", "/no/such/ordner-ä", env={**os.environ, "LC_ALL": "C", "NO_COLOR": "1"})
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr


def test_an_empty_argument_is_no_path(capsys):
    assert main.run(["predict", "-m", "model", "-i", "", "-o", "out"]) == 2
    assert "-i/--input: must not be empty" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["nan", "inf", "x"])
def test_a09_a_value_for_nan_is_finite(capsys, value):
    assert main.run(["predict", "-m", "model", "-i", "scan.nii", "-o", "out", "--nan", value]) == 2
    assert "must be a number that is finite" in capsys.readouterr().err
