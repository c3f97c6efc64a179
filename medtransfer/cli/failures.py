"""Errors as one line on stderr and an exit code; the traceback only with ``--debug``."""

from __future__ import annotations

import traceback

from medtransfer.errors import describe_error

from .messages import write_error


class Terminated(BaseException):
    """SIGTERM arrived; raised in the main thread so that clean-up runs as it does for an interrupt."""


def report(error: BaseException, debug: bool = False) -> int:
    """Write the error's line to stderr and return the exit code.

    >>> from medtransfer.errors import VolumeError
    >>> report(VolumeError("no such file", path="scan.nii"))
    3
    """
    if debug:
        traceback.print_exception(error)
    message, code = describe(error)
    write_error(message)
    return code


def describe(error: BaseException) -> tuple[str, int]:
    """The message and the exit code of any error, interrupts too.

    >>> describe(KeyboardInterrupt())
    ('interrupted', 130)
    """
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    if isinstance(error, Terminated):
        return "terminated", 143
    return describe_error(error)
