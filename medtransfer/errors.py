"""Every error that medtransfer raises on purpose: one sentence, the file it is about, and its exit code."""

from __future__ import annotations

import errno
from pathlib import Path


class MedTransferError(Exception):
    """Base of all errors raised on purpose.

    The message reads ``<file>: <reason>. <what to do>``; the command line prints it on one line and exits with
    ``exit_code``.

    Args:
        reason: What must hold and what was got, without a final stop.
        path: The file or folder that is meant, if one is.
        hint: What to do about it, as an imperative sentence without a final stop.

    >>> str(VolumeError("the affine is singular", path="scan.nii", hint="Re-export the scan"))
    'scan.nii: the affine is singular. Re-export the scan.'
    """

    exit_code = 1

    def __init__(self, reason: str, *, path: str | Path | None = None, hint: str | None = None) -> None:
        self.reason = reason
        self.path = None if path is None else Path(path)
        self.hint = hint
        super().__init__(self._message())

    def _message(self) -> str:
        subject = "" if self.path is None else f"{self.path}: "
        advice = "" if self.hint is None else f". {self.hint}"
        advice += "." if advice and not advice.endswith((".", "?")) else ""
        return f"{subject}{self.reason}{advice}"

    def __reduce__(self) -> tuple[object, ...]:
        # keyword-only arguments, and what was added later, would be lost when a process sends the error to its parent
        return (_rebuild, (type(self), self.reason, self.path, self.hint), vars(self))


def _rebuild(kind: type[MedTransferError], reason: str, path: Path | None, hint: str | None) -> MedTransferError:
    return kind(reason, path=path, hint=hint)


class UsageError(MedTransferError, ValueError):
    """An argument or option that cannot be used."""

    exit_code = 2


class ConfigError(MedTransferError, ValueError):
    """A training config that cannot be used."""

    exit_code = 2


class OutputExistsError(MedTransferError, FileExistsError):
    """An output that stands already and may not be overwritten."""

    exit_code = 2


class MissingExtraError(MedTransferError, ImportError):  # type: ignore[misc]
    """An optional dependency is missing; the hint names the extra that brings it."""

    exit_code = 2


class VolumeError(MedTransferError, ValueError):
    """A scan or label volume that was refused."""

    exit_code = 3


class DatasetError(MedTransferError, ValueError):
    """A dataset layout or case list that was refused.

    ``problems`` holds what is wrong one by one, where several things were found in one pass.
    """

    exit_code = 3
    problems: tuple[str, ...] = ()


class CheckpointError(MedTransferError, ValueError):
    """A weight file or model folder that was refused."""

    exit_code = 4


class ModelError(MedTransferError, ValueError):
    """A network that cannot be built, or is used in a way that its architecture does not allow."""

    exit_code = 4


class TransferError(MedTransferError, ValueError):
    """Weights that do not fit the target; the target was not touched.

    ``report`` is the TransferReport of what would have moved, where it got that far.
    """

    exit_code = 4
    report: object | None = None


class ResourceError(MedTransferError, RuntimeError):
    """Memory, disk, device or network that is not to be had."""

    exit_code = 6


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM, errno.EMFILE}


def describe_error(error: BaseException) -> tuple[str, int]:
    """The message and the exit code of any error, raised on purpose or not.

    >>> describe_error(VolumeError("no such file", path="scan.nii"))
    ('scan.nii: no such file', 3)
    >>> describe_error(KeyError("spacing"))
    ("unexpected KeyError: 'spacing'. Run it again with --debug to see where, and report it.", 1)
    """
    known = error if isinstance(error, MedTransferError) else _resource_error(error)
    if known is not None:
        return str(known), known.exit_code
    text = f"unexpected {type(error).__name__}: {error}".rstrip(": ")
    return f"{text}. Run it again with --debug to see where, and report it.", 1


def _resource_error(error: BaseException) -> ResourceError | None:
    """The error as one of memory or disk, if that is what it is; torch's is known by name, to import no torch."""
    is_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    if isinstance(error, MemoryError) or is_torch:
        detail = f": {error}" if str(error) else ""
        return ResourceError(f"memory ran out{detail}", hint="Free some, or give a smaller input")
    if isinstance(error, OSError) and error.errno in _FULL:
        return ResourceError(f"cannot be written: {error.strerror}", path=error.filename, hint="Free some space")
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return ResourceError("its name is too long for the file system", path=error.filename, hint="Shorten it")
    return None
