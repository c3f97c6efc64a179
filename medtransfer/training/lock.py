"""One run per work_dir: a file that names the process, taken over when that process is gone."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from ..errors import MedTransferError, OutputExistsError, ResourceError, UsageError

LOCK = "run.lock"
#: seconds in which a process that made a lock has written its name into it
WRITING = 2.0
_WRONG_PATH = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EINVAL}


class Holder(msgspec.Struct, frozen=True):
    """Who holds a lock: a process of a machine; ``started`` tells it from a later one with the same number."""

    pid: int
    host: str
    started: str = ""

    @classmethod
    def this(cls) -> Holder:
        """This process."""
        return cls(os.getpid(), socket.gethostname(), _started(os.getpid()))

    def is_gone(self) -> bool:
        """Whether the process has ended for certain; of another machine nothing is known."""
        if self.host != socket.gethostname() or os.name == "nt":  # there, signal 0 would end the process
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return bool(self.started) and self.started != _started(self.pid)


def _started(pid: int) -> str:
    """When a process began, in ticks since the machine's start; empty where /proc does not tell."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


@contextmanager
def locked(folder: str | Path) -> Iterator[Path]:
    """Hold a training folder, which is made if it is not there; one that stays empty is taken away again.

    Raises:
        OutputExistsError: another run holds it.
        UsageError: it cannot be a folder's name.
        ResourceError: it cannot be written.
    """
    folder = Path(folder).absolute()
    made = _make(folder)
    try:
        with held(folder / LOCK):
            yield folder
    finally:
        for path in made:
            with suppress(OSError):  # it holds something, as it should
                path.rmdir()


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock file, in a folder that is there.

    Raises:
        OutputExistsError: another process holds it.
        ResourceError: it cannot be written.
    """
    _take(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _make(folder: Path) -> list[Path]:
    """Make the folder; return what was made, innermost first."""
    with _folder_faults(folder):
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    return missing


@contextmanager
def _folder_faults(folder: Path) -> Iterator[None]:
    try:
        yield
    except MedTransferError:
        raise
    except OSError as error:
        if error.errno in _WRONG_PATH:
            raise UsageError(f"cannot be a work_dir: {error.strerror}", path=folder) from error
        hint = "Name a --work-dir on a disk that can be written and has space"
        raise ResourceError(f"cannot be written: {error.strerror}", path=folder, hint=hint) from error


def _take(path: Path) -> None:
    text = msgspec.json.encode(Holder.this())
    for _ in range(3):  # others may take over the same stale lock at the same time
        with _folder_faults(path.parent):
            try:
                with path.open("xb") as file:
                    file.write(text)
                return
            except FileExistsError:
                _remove_stale(path)
    raise OutputExistsError("another run takes this work_dir at the same time", path=path.parent)


def _remove_stale(path: Path) -> None:
    """Remove the lock of a process that is gone.

    Raises:
        OutputExistsError: it is not gone, or runs on another machine.
    """
    try:
        text = path.read_bytes()
        holder = msgspec.json.decode(text, type=Holder)
    except FileNotFoundError:
        return
    except msgspec.DecodeError:
        holder = None  # a process was killed, or the disk was full, while it wrote its name
        if _age(path) < WRITING:  # or it is about to
            raise OutputExistsError("another run takes this work_dir at the same time", path=path.parent) from None
    if holder is not None and not holder.is_gone():
        where = f"process {holder.pid} on {holder.host}"
        hint = f"Wait for it, name another --work-dir, or delete {path.name} if that process is gone"
        raise OutputExistsError(f"another run is at work in it: {where}", path=path.parent, hint=hint)
    # a rename can be looked at before it is final, other than a deletion: another run may have been faster
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        os.replace(path, aside)
        if aside.read_bytes() != text:
            os.replace(aside, path)
        aside.unlink(missing_ok=True)


def _age(path: Path) -> float:
    """Seconds since a file was written, 0 if it is gone."""
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime
    return 0.0
