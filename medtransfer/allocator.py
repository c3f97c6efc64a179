"""Memory that stays with the process between one layer and the next.

glibc gives every large block back to the system as soon as it is freed, and the system zeroes each page anew when the
next layer asks for as much: on a virtual machine that costs more than many a layer's arithmetic.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

# parameters of mallopt, from glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_EVERYTHING = 2**31 - 1
# where glibc's own adaption of the two ends after large blocks were freed
_USUAL = {_MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20}
_lock = threading.Lock()
_users = 0


@contextmanager
def reused_memory() -> Iterator[None]:
    """Inside, blocks that are freed are kept for those that come; what is free at the end goes back to the system.

    May be nested and entered by several threads: the last to leave gives back. Does nothing without glibc.

    >>> with reused_memory():
    ...     total = sum(len(bytearray(1 << 20)) for _ in range(4))
    """
    _change(1)
    try:
        yield
    finally:
        _change(-1)


def _change(step: int) -> None:
    global _users
    libc = _glibc()
    with _lock:
        before, _users = _users, _users + step
        if libc is None or min(before, _users) > 0:
            return
        for parameter, usual in _USUAL.items():
            libc.mallopt(parameter, _EVERYTHING if _users else usual)
        if not _users:
            libc.malloc_trim(0)


@cache
def _glibc() -> Any:
    """The C library, if it is glibc."""
    try:
        libc = ctypes.CDLL(None)
        return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
    except (OSError, TypeError):
        return None
