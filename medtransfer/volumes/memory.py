"""How much memory this process may still take: the machine's, the container's and the process's own limit."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from ..errors import ResourceError

_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Bytes that can still be allocated; the smallest of the limits that are known.

    >>> available_memory() > 0
    True
    """
    known = [value for value in (_machine(), _cgroup(), _address_space()) if value is not None]
    return max(0, min(known))


def require_memory(needed: int, what: str, path: str | os.PathLike[str] | None = None) -> None:
    """Refuse before allocating.

    Raises:
        ResourceError: ``needed`` bytes are more than what is available; says both.
    """
    available = available_memory()
    if needed > available:
        raise ResourceError(
            f"{what} needs about {size_text(needed)} of memory, {size_text(available)} are available",
            path=None if path is None else Path(path),
            hint="Check the header's dimensions, or use a machine with more memory",
        )


def size_text(size: float) -> str:
    """A number of bytes for people.

    >>> size_text(3 * 2**30)
    '3.0 GiB'
    """
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cgroup() -> int | None:
    """The container's limit less what it holds; its file cache can be given back and counts as free."""
    try:
        limit, used = int((_CGROUP / "memory.max").read_text()), int((_CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such limit ("max"), or another system
        return None
    return limit - used + int(stat.get("inactive_file", 0))


def _address_space() -> int | None:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return limit
    return limit - pages * os.sysconf("SC_PAGE_SIZE")
