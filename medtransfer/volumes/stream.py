"""The bytes of a scan file: regular files only, packing undone, read to the end so that its checksum counts."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, Protocol

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from ..errors import VolumeError

_CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
_GZIP_BITS, _ZLIB_BITS = 31, 15  # zlib's wbits

#: ``by content`` sees gzip by its first bytes; ``deflate`` is gzip or zlib, whichever it looks like.
Packing = Literal["by content", "none", "deflate"]


class _Stream(Protocol):
    def readinto1(self, buffer: memoryview, /) -> int: ...


class ByteSource:
    """An open scan file, uncompressed on the way.

    Args:
        stream: What is read.
        path: The file, for messages.
        size: Bytes on disk from where the reading starts.
        packed: Whether these are gzip or zlib, whatever the name says.
    """

    def __init__(self, stream: _Stream, path: Path, size: int, packed: bool) -> None:
        self.stream, self.path, self.size, self.packed = stream, path, size, packed
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
            raise VolumeError(
                "ends early: the end of the packed stream is missing", path=self.path, hint="Copy it again"
            )
        return extra

    def _step(self, view: memoryview) -> int:
        try:
            # not readinto, which loses what it had when the gzip stream is cut in the middle of a chunk
            got = self.stream.readinto1(view)
        except EOFError:  # the caller knows how many bytes it wanted, and says so
            self.cut, got = True, 0
        except isal_zlib.error as error:  # type: ignore[misc]
            raise VolumeError(_damage(error), path=self.path, hint="Copy or download the file again") from error
        except OSError as error:
            raise VolumeError(f"cannot be read: {error.strerror or error}", path=self.path) from error
        self.position += got
        return got


class _Unpacked:
    """A gzip stream of one member or more, or a zlib stream as MetaImage has it; checksums are compared.

    Not isal's own gzip file, which loses what it had when the stream is cut in the middle of a chunk.
    """

    def __init__(self, raw: IO[bytes], gzipped: bool) -> None:
        self._raw, self._bits = raw, _GZIP_BITS if gzipped else _ZLIB_BITS
        self._inflate, self._ahead = isal_zlib.decompressobj(self._bits), b""

    def readinto1(self, buffer: memoryview, /) -> int:
        """Fill the beginning of ``buffer``; 0 at the end of the stream.

        Raises:
            EOFError: the file ends before the stream does.
        """
        while not self._inflate.eof or self._begin_member():
            packed = self._ahead or self._raw.read(_CHUNK)
            data = self._inflate.decompress(packed, len(buffer))
            self._ahead = self._inflate.unconsumed_tail
            if data:
                buffer[: len(data)] = data
                return len(data)
            if not packed:
                raise EOFError
        return 0

    def _begin_member(self) -> bool:
        """Go on with the next member of a gzip file, if one follows; zeros in between are padding."""
        rest = self._inflate.unused_data.lstrip(b"\0")
        while not rest and (chunk := self._raw.read(_CHUNK)):
            rest = chunk.lstrip(b"\0")
        if not rest or self._bits == _ZLIB_BITS:
            return False
        self._inflate, self._ahead = isal_zlib.decompressobj(self._bits), rest
        return True


def _damage(error: Exception) -> str:
    return "gzip checksum differs, the file is damaged" if "checksum" in str(error) else "the gzip data are damaged"


@contextmanager
def open_scan(path: Path, start: int = 0, packing: Packing = "by content") -> Iterator[ByteSource]:
    """Open a regular file for reading from byte ``start`` on; packing is undone on the way.

    Raises:
        VolumeError: there is no such file, it is a folder, a device, a pipe or a loop of links, or may not be read.
    """
    size = require_regular(path)
    try:
        raw = path.open("rb")
    except OSError as error:
        raise VolumeError(f"cannot be opened: {error.strerror}", path=path) from error
    with raw:
        raw.seek(start)
        gzipped = packing != "none" and raw.read(len(_GZIP)) == _GZIP
        raw.seek(start)
        packed = gzipped or packing == "deflate"
        stream = _Unpacked(raw, gzipped) if packed else raw
        yield ByteSource(stream, path, max(0, size - start), packed)


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
