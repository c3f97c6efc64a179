"""What machines and torch say of a run (memory, disk, lost workers) in one sentence, with what to do about it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import ConfigError, MedTransferError, ResourceError

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}  # errors of writing alone
_NO_MEMORY = re.compile(r"can't allocate memory|CUDA out of memory|not enough memory")
_TIMED_OUT = re.compile(r"DataLoader timed out after ([\d.]+) seconds")
_DIED = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)")
_KILLED = re.compile(r"killed by signal: (\w+)")


@contextmanager
def named(size: str = "") -> Iterator[None]:
    """Turn the faults of a machine that arise inside into ResourceErrors.

    Args:
        size: What took the memory, as in ``batch_size 2 of patches 96x96x96``.

    Raises:
        ResourceError: memory ran out, a disk is full, or a worker process was lost.
    """
    try:
        yield
    except MedTransferError:
        raise
    except (MemoryError, RuntimeError, OSError) as error:
        fault = describe(error, size)
        if fault is None:
            raise
        raise fault from error


@contextmanager
def told_single_values() -> Iterator[None]:
    """torch's complaint about a map of one voxel in a batch of one, as what it is.

    Raises:
        ConfigError: batch norm cannot train on what the config gives it.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        reason = "the last map of the network is a single voxel, and the batch a single sample: batch norm needs more"
        raise ConfigError(reason, hint="Raise patch_size or batch_size, or let the encoder stride less") from error


def describe(error: BaseException, size: str = "") -> ResourceError | None:
    """The fault of the machine behind an error, if it is one.

    >>> print(describe(MemoryError()))
    memory ran out. Take a smaller patch_size or batch_size, or fewer workers.
    >>> describe(RuntimeError("shape mismatch"))
    """
    text = str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or _NO_MEMORY.search(text):
        detail = f" in a step with {size}" if size else ""
        return ResourceError(f"memory ran out{detail}{_asked(text)}", hint=_LESS)
    if isinstance(error, OSError):
        return _disk(error)
    return _worker(text)


_LESS = "Take a smaller patch_size or batch_size, or fewer workers"


def _asked(text: str) -> str:
    """The size of the allocation that failed, from torch's message."""
    found = re.search(r"tried to allocate ([\d.]+ ?\w+)", text, re.IGNORECASE)
    return f", when {found[1]} more were asked for" if found else ""


def _disk(error: OSError) -> ResourceError | None:
    if error.errno not in _DISK:
        return None
    hint = "Free some space; then go on with --resume auto"
    return ResourceError(f"cannot be written: {error.strerror}", path=error.filename, hint=hint)


def _worker(text: str) -> ResourceError | None:
    late, died, signal = _TIMED_OUT.search(text), _DIED.search(text), _KILLED.search(text)
    if late:
        hint = "Raise the loader's timeout, or set num_workers=0 to see where it hangs"
        return ResourceError(f"no worker process gave a batch within {late[1]} s", hint=hint)
    if died:
        return lost_worker(died[1], f"was killed by signal {signal[1]}" if signal else "ended without a word")
    return None


def lost_worker(pid: str, how: str = "ended without a word") -> ResourceError:
    """What to say when a worker process is no longer there.

    >>> print(lost_worker("17").reason)
    the loader's worker process 17 ended without a word; often that is memory
    """
    reason = f"the loader's worker process {pid} {how}; often that is memory"
    return ResourceError(reason, hint="Set fewer workers, then go on with --resume auto")
