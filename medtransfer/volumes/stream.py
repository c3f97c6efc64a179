"""The bytes of a scan file: regular files only, gzip known by content, read to the end so that its checksum counts."""

from __future__ import annotations

import difflib
import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from ..errors import VolumeError

_CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"


class ByteSource:
    """An open scan file, uncompressed on the way.

    Args:
        stream: What is read.
        path: The file, for messages.
        size: Bytes of the file on disk.
        gzipped: Whether the content is gzip, whatever the name says.
    """

    def __init__(self, stream: IO[bytes], path: Path, size: int, gzipped: bool) -> None:
        self.stream, self.path, self.size, self.gzipped = stream, path, size, gzipped
        self.position = 0
        self.cut = False

    def read(self, count: int) -> bytes:
        """Up to ``count`` bytes; fewer only at the end of the file."""
        buffer = np.empty(count, dtype=np.uint8)
        return buffer[: self.read_into(buffer)].tobytes()

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes (a header's extensions)."""
        while count > 0 and (got := self._step(memoryview(bytearray(min(count, _CHUNK))))):
            count -= got

    def read_into(self, buffer: npt.NDArray[np.uint8]) -> int:
        """Fill ``buffer`` as far as the file goes; returns how many bytes came."""
        view, done = memoryview(buffer.data), 0
        while done < len(view) and (got := self._step(view[done : done + _CHUNK])):
            done += got
        return done

    def finish(self, limit: int) -> int:
        """Read to the end, so that the gzip checksum is compared; returns how many bytes followed.

        Raises:
            VolumeError: the checksum differs, the stream ends early, or more than ``limit`` bytes follow.
        """
        extra, scratch = 0, memoryview(bytearray(_CHUNK))
        while got := self._step(scratch):
            extra += got
            if extra > limit:
                raise VolumeError(f"holds over {limit} bytes more than its header claims", path=self.path)
        if self.cut:
            raise VolumeError("ends early: the end of the gzip stream is missing", path=self.path, hint="Copy it again")
        return extra

    def _step(self, view: memoryview) -> int:
        try:
            # not readinto, which loses what it had when the gzip stream is cut in the middle of a chunk
            got = self.stream.readinto1(view)  # type: ignore[attr-defined]
        except EOFError:  # the caller knows how many bytes it wanted, and says so
            self.cut, got = True, 0
        except (gzip.BadGzipFile, zlib.error) as error:
            raise VolumeError(_gzip_reason(error), path=self.path, hint="Copy or download the file again") from error
        except OSError as error:
            raise VolumeError(f"cannot be read: {error.strerror or error}", path=self.path) from error
        self.position += got
        return got


def _gzip_reason(error: Exception) -> str:
    return "gzip checksum differs, the file is damaged" if "CRC" in str(error) else "the gzip data are damaged"


@contextmanager
def open_scan(path: Path) -> Iterator[ByteSource]:
    """Open a regular file for reading; gzip is undone on the way.

    Raises:
        VolumeError: there is no such file, it is a folder, a device, a pipe or a loop of links, or may not be read.
    """
    size = require_regular(path)
    try:
        raw = path.open("rb")
    except OSError as error:
        raise VolumeError(f"cannot be opened: {error.strerror}", path=path) from error
    with raw:
        gzipped = raw.read(2) == _GZIP
        raw.seek(0)
        stream: IO[bytes] = gzip.GzipFile(fileobj=raw) if gzipped else raw  # type: ignore[assignment]
        yield ByteSource(stream, path, size, gzipped)


def require_regular(path: Path) -> int:
    """The size of a regular file in bytes; anything else is refused without opening it (a pipe would hang).

    Raises:
        VolumeError: not a regular file, or none at all; names a similar one if there is.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise VolumeError("no such file", path=path, hint=_near_name(path)) from None
    except (OSError, ValueError) as error:
        raise VolumeError(f"cannot be opened: {getattr(error, 'strerror', None) or error}", path=path) from error
    if stat.S_ISDIR(status.st_mode):
        raise VolumeError("is a folder, not a scan", path=path, hint="Name the file in it")
    if not stat.S_ISREG(status.st_mode):
        raise VolumeError("is not a regular file", path=path, hint="Copy the scan into a file first")
    return status.st_size


def _near_name(path: Path) -> str:
    try:
        names = [entry.name for entry in os.scandir(path.parent)]
    except OSError:
        return f"There is no folder {path.parent}"
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"Did you mean {near[0]}?" if near else "Check the name"
