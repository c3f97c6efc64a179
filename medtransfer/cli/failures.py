"""Errors as one line on stderr and an exit code; the traceback only with ``--debug``."""

from __future__ import annotations

import errno
import traceback

from medtransfer.errors import MedTransferError, ResourceError

from .messages import write_error

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM, errno.EMFILE}


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
    """The message and the exit code of any error.

    >>> describe(KeyboardInterrupt())
    ('interrupted', 130)
    >>> describe(KeyError("spacing"))
    ("unexpected KeyError: 'spacing'. Run it again with --debug to see where, and report it.", 1)
    """
    if isinstance(error, MedTransferError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    if isinstance(error, Terminated):
        return "terminated", 143
    resource = _resource(error)
    if resource is not None:
        return str(resource), resource.exit_code
    text = f"unexpected {type(error).__name__}: {error}".rstrip(": ")
    return f"{text}. Run it again with --debug to see where, and report it.", 1


def _resource(error: BaseException) -> ResourceError | None:
    """The error as one of memory or disk, if that is what it is; torch's is known by name, to import no torch."""
    is_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    if isinstance(error, MemoryError) or is_torch:
        detail = f": {error}" if str(error) else ""
        return ResourceError(f"memory ran out{detail}", hint="Free some, or give a smaller input")
    if isinstance(error, OSError) and error.errno in _FULL:
        return ResourceError(f"cannot be written: {error.strerror}", path=error.filename, hint="Free some space")
    return None
