"""What the text headers of NRRD and MetaImage files share: strict fields, and which bytes are the voxels.

Only the claims that say where and how the voxels are stored are read; what the geometry means is ITK's to say.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import VolumeError
from .stream import Packing, require_regular

HEADER_BYTES = 1 << 20
MAX_AXES = 6


@dataclass(frozen=True)
class TextHeader:
    """The claims of a text header that concern the bytes.

    Attributes:
        path: The header's file.
        sizes: Along every axis, the fastest first, channels included.
        dtype: Type of the numbers, byte order included.
        channel_axis: Which of the axes is no axis of the image, if one is.
        data: The file with the voxels, which may be ``path`` itself.
        start: The byte where they, or their packing, begin.
        at_end: Whether the voxels are the last bytes of the file instead.
        skip: Unpacked bytes to pass over.
        packing: How the voxels are packed.
        oriented: Whether the axes' directions are said.
        unit: ``mm``, ``meter`` or ``micron``.
    """

    path: Path
    sizes: tuple[int, ...]
    dtype: np.dtype
    channel_axis: int | None
    data: Path
    start: int
    at_end: bool
    skip: int
    packing: Packing
    oriented: bool
    unit: str = "mm"

    @property
    def first_byte(self) -> int:
        """Where the reading starts in ``data``, given how large the file is."""
        if not self.at_end:
            return self.start
        return max(self.start, self.data.stat().st_size - math.prod(self.sizes) * self.dtype.itemsize)


class Fields:
    """The fields of a text header, by keys in lower case without spaces.

    Args:
        path: The header's file, for messages.
        lines: One field each; empty ones are passed over.
        pattern: Finds ``key`` and ``value`` in a line.

    Raises:
        VolumeError: a line is no field, or a key comes twice: ITK could take the other.
    """

    def __init__(self, path: Path, lines: Sequence[str], pattern: re.Pattern[str]) -> None:
        self.path = path
        self.values: dict[str, str] = {}
        for line in filter(str.strip, lines):
            found = pattern.fullmatch(line)
            if found is None:
                raise self.error(f"a line of its header is no field: {line[:60]!r}")
            key = found["key"].lower().replace(" ", "")
            if key in self.values:
                raise self.error(f"its header says {key!r} twice")
            self.values[key] = found["value"].strip()

    def error(self, reason: str, hint: str | None = "Export it again") -> VolumeError:
        """The refusal of this file."""
        return VolumeError(reason, path=self.path, hint=hint)

    def text(self, key: str) -> str:
        """The value; empty if there is none."""
        return self.values.get(key, "")

    def whole(self, key: str, default: int) -> int:
        """The value as a whole number."""
        try:
            return int(self.values.get(key, default))
        except ValueError:
            raise self.error(f"{key!r} must be a whole number, got {self.text(key)!r}") from None

    def flag(self, key: str) -> bool:
        """The value as True or False; False if there is none."""
        value = self.values.get(key, "false").lower()
        if value not in ("true", "false", "1", "0"):
            raise self.error(f"{key!r} must be True or False, got {value!r}")
        return value in ("true", "1")

    def sizes(self, key: str, count_key: str) -> tuple[int, ...]:
        """The sizes of all axes, which must be as many as another field says."""
        try:
            sizes, count = tuple(int(text) for text in self.text(key).split()), int(self.text(count_key))
        except ValueError:
            raise self.error(f"its header must say {count_key!r} and {key!r} in whole numbers") from None
        if len(sizes) != count or not 1 <= count <= MAX_AXES:
            raise self.error(f"its header claims {count} axes and the sizes {list(sizes)}")
        if min(sizes) < 1:
            raise self.error(f"an axis of size {min(sizes)} in shape {sizes}")
        return sizes

    def dtype(self, types: dict[str, str], key: str, big_endian: bool) -> np.dtype:
        """The type of the numbers, looked up by its name in ``types``."""
        name = self.text(key)
        if name.lower() not in types:
            reason = f"voxels are of the type {name or 'missing'!r}, not plain numbers of up to 64 bits"
            raise self.error(reason, "Convert the scan")
        return np.dtype(types[name.lower()]).newbyteorder(">" if big_endian else "<")

    def data_file(self, name: str) -> Path:
        """The one file beside or below the header that holds the voxels.

        Raises:
            VolumeError: a list or pattern of files, a file elsewhere, or one that is not there.
        """
        if "%" in name or name.upper().startswith("LIST"):
            raise self.error(f"its voxels are spread over several files ({name[:60]})", "Save the scan in one file")
        if not self._is_inside(name):
            hint = "Put both files into one folder, and name only the file in the header"
            raise self.error(f"its voxels are said to be in {name!r}, outside its own folder", hint)
        target = self.path.parent / name
        try:
            require_regular(target)
        except VolumeError as error:
            raise self.error(f"its voxels, {name}: {error.reason}", "Copy both files") from error
        return target

    def _is_inside(self, name: str) -> bool:
        parts = PurePosixPath(name)
        if not name or parts.is_absolute() or ".." in parts.parts or {"\\", "\0"} & set(name):
            return False
        homes = (self.path.parent.resolve(), self.path.resolve().parent)  # of a link, and of what it stands for
        target = (self.path.parent / name).resolve()
        return any(target.is_relative_to(home) for home in homes)


def first_bytes(path: Path) -> bytes:
    """The part of a file in which its header must end.

    Raises:
        VolumeError: no regular file, or one that may not be read.
    """
    require_regular(path)
    try:
        with path.open("rb") as file:
            return file.read(HEADER_BYTES)
    except OSError as error:
        raise VolumeError(f"cannot be opened: {error.strerror}", path=path) from error


def split_lines(block: bytes) -> list[str]:
    """Lines, which end where they do for ITK: not at the further line ends of Unicode.

    >>> split_lines(b"a\\r\\nb\\x0bc")
    ['a', 'b\\x0bc']
    """
    return [line.rstrip("\r") for line in block.decode("utf-8", "surrogateescape").split("\n")]


def not_one(path: Path, what: str) -> VolumeError:
    """The refusal of a file whose name promises something else than its first bytes."""
    return VolumeError(f"not {what}", path=path, hint="Check that it was copied whole and named for what it is")
