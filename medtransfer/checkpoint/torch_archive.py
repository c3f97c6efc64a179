"""The zip archive that ``torch.save`` writes: its shape and its checksums, told before torch opens it."""

from __future__ import annotations

import itertools
import mmap
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple, cast

import torch
from isal import isal_zlib
from torch import UntypedStorage

from ..errors import CheckpointError
from .pickle_machine import MAX_PICKLE_BYTES
from .plain_numbers import FINITE, always, never
from .tensor_checks import MAX_TENSORS
from .threads import Background
from .wording import COPY_AGAIN, shown

_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END_64_BYTES = 56
_CHUNK = 1 << 20
_SMALL = 16


class Archive(NamedTuple):
    """An archive whose shape is sound: the bytes of ``data.pkl``, and the entries by name below the top folder.

    It is ``usual`` if it says no more of itself than torch has written since 1.6: version 3, little-endian.
    """

    pickle: bytes
    members: dict[str, zipfile.ZipInfo]
    has_sums: bool
    is_little_endian: bool
    is_usual: bool


def read_archive(path: Path) -> Archive:
    """Check the archive's shape, and give what must be known before torch opens it.

    Every entry must be stored plainly, so that no compressed bomb gets through; torch does not look. Nor may the
    archive be one of those that two readers read differently.

    Raises:
        CheckpointError: the file is not a torch checkpoint, or damaged.
    """
    with _damage_told(path), _mapped(path) as (file, data):
        _check_ends(path, data)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
        name = _check_members(path, members, len(data))
        _refuse_overlap([_content_range(data, member) for member in members])
        has_sums = any(member.CRC for member in members)
        pickle = next(member for member in members if member.filename == name)
        begin, end = _content_range(data, pickle)
        if has_sums and _checked(data, (begin, end, None))[0] != pickle.CRC:
            raise _differs(path, pickle)
        named = {_short(member): member for member in members}
        order, version = (_content(data, named.get(name)) for name in ("byteorder", "version"))
        is_usual = order == (b"little" if "byteorder" in named else b"") and version == b"3\n"
        return Archive(data[begin:end], named, has_sums, order in (b"", b"little"), is_usual)


class Checks(NamedTuple):
    """Of an archive that is mapped: its bytes, where each entry's stand, and the checks that are under way.

    ``all_finite`` waits for their end, and says whether all numbers are finite, False if that is not sure; it raises
    a CheckpointError if a checksum differs.
    """

    mapped: UntypedStorage
    ranges: dict[str, tuple[int, int]]
    all_finite: Callable[[], bool]


@contextmanager
def checking(path: Path, archive: Archive, kinds: Mapping[str, str]) -> Iterator[Checks]:
    """Compare each entry with its checksum, in threads, while the block's own work goes on.

    Args:
        path: The file.
        archive: What :func:`read_archive` gave for it.
        kinds: Name of an entry -> the type of the numbers in it, such as ``torch.FloatStorage``.
    """
    members = list(archive.members.values())

    def all_finite() -> bool:
        found = background.results()
        for member, (checksum, _) in zip(members, found, strict=True):
            if archive.has_sums and checksum != member.CRC:
                raise _differs(path, member)
        return all(finite for _, finite in found)

    with _damage_told(path):
        mapped = _mapped_storage(path)
        data = torch.empty(0, dtype=torch.uint8, device="cpu").set_(mapped).numpy().data
        ranges = {name: _content_range(data, member) for name, member in archive.members.items()}
        entries = [(*ranges[name], kinds.get(name)) for name in ranges]
        with Background(partial(_checked, data), entries, [member.file_size for member in members]) as background:
            yield Checks(mapped, ranges, all_finite)


@contextmanager
def _mapped(path: Path) -> Iterator[tuple[IO[bytes], mmap.mmap]]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield file, data


def _mapped_storage(path: Path) -> UntypedStorage:
    """The file in memory as tensors can use it: what is written there goes into copies, never into the file."""
    try:
        return cast(UntypedStorage, UntypedStorage.from_file(str(path), False, path.stat().st_size))
    except RuntimeError as error:
        reason = f"truncated or damaged ({shown(str(error).partition(chr(10))[0], 160)})"
        raise CheckpointError(reason, path=path, hint=COPY_AGAIN) from error


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zipfile.LargeZipFile, struct.error, ValueError, OverflowError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"truncated or damaged ({shown(error)})", path=path, hint=COPY_AGAIN) from error
    except (NotImplementedError, RuntimeError) as error:
        raise CheckpointError(f"not a checkpoint: {shown(error)}", path=path) from error
    except OSError as error:
        raise CheckpointError(f"truncated or damaged ({error.strerror or error})", path=path) from error


def _check_ends(path: Path, data: mmap.mmap) -> None:
    """The directory's end must be the file's: a reader that searches for it could otherwise find another directory."""
    end = len(data) - _END.size
    if end < 0 or data[end : end + 4] != b"PK\5\6" or data[end + 20 :] != b"\0\0":
        reason = "truncated or damaged (the archive's directory is not at the end of the file)"
        raise CheckpointError(reason, path=path, hint=COPY_AGAIN)
    locator = end - _LOCATOR.size
    if locator >= 0 and data[locator : locator + 4] == b"PK\6\7":
        pointed = _LOCATOR.unpack_from(data, locator)[2]
        if pointed != locator - _END_64_BYTES or data[pointed : pointed + 4] != b"PK\6\6":
            reason = "truncated or damaged (the archive's directory is not where it says)"
            raise CheckpointError(reason, path=path, hint=COPY_AGAIN)


def _check_members(path: Path, members: list[zipfile.ZipInfo], size: int) -> str:
    """Refuse what no ``torch.save`` writes, and return the name of the pickle."""
    names = [member.filename for member in members]
    if len(members) > MAX_TENSORS + 16:
        raise CheckpointError(f"holds {len(members)} entries, more than {MAX_TENSORS} tensors", path=path)
    unsafe = [name for name in names if name.startswith("/") or "\\" in name or ".." in name.split("/")]
    if unsafe:
        raise CheckpointError(f"not a checkpoint: the archive names {shown(unsafe[0])!r}, outside itself", path=path)
    top = names[0].partition("/")[0] if names else ""
    pickle_name = f"{top}/data.pkl"
    if pickle_name not in names:
        hint = "Name the weight file inside, or a model folder"
        raise CheckpointError("not a checkpoint: a zip archive without data.pkl", path=path, hint=hint)
    if f"{top}/constants.pkl" in names or any(name.startswith(f"{top}/code/") for name in names):
        hint = "Load it where it was made and torch.save its state_dict()"
        raise CheckpointError("TorchScript, which holds code: export weights first", path=path, hint=hint)
    _check_names(path, members, top)
    _check_sizes(path, members, size)
    return pickle_name


def _check_names(path: Path, members: list[zipfile.ZipInfo], top: str) -> None:
    """Each name once, whatever its case (torch's own zip reader ignores it), whole, and in the top folder."""
    names = {member.filename.lower() for member in members}
    whole = all(member.filename == member.orig_filename for member in members)  # Python cuts a name at a zero byte
    inside = all(member.filename.startswith(f"{top}/") for member in members)
    at_start = min(member.header_offset for member in members) == 0
    if len(names) < len(members) or not (whole and inside and at_start):
        raise CheckpointError("not a checkpoint: entries of the archive are repeated or out of place", path=path)


def _check_sizes(path: Path, members: list[zipfile.ZipInfo], size: int) -> None:
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            hint = "Write it with torch.save, which does not compress"
            raise CheckpointError(f"{shown(member.filename)} is compressed, which is not opened", path=path, hint=hint)
        if member.flag_bits & 0x1:
            raise CheckpointError(f"{shown(member.filename)} is encrypted", path=path)
        if member.filename.endswith("/data.pkl") and member.file_size > MAX_PICKLE_BYTES:
            raise CheckpointError(f"{member.filename} is larger than {MAX_PICKLE_BYTES >> 20} MiB", path=path)
    if sum(member.file_size for member in members) > size:
        raise CheckpointError("truncated or damaged (entries of the archive overlap)", path=path, hint=COPY_AGAIN)


def _checked(data: mmap.mmap | memoryview, entry: tuple[int, int, str | None]) -> tuple[int, bool]:
    """The checksum of an entry, and whether its numbers are finite: in one pass, while they are in the cache."""
    begin, end, kind = entry
    is_finite = always if kind is None else FINITE.get(kind, never)
    checksum, finite = 0, True
    with memoryview(data) as whole:
        for start in range(begin, end, _CHUNK):
            with whole[start : min(start + _CHUNK, end)] as chunk:
                checksum = isal_zlib.crc32(chunk, checksum)
                finite = finite and is_finite(chunk)
    return checksum, finite


def _content(data: mmap.mmap, member: zipfile.ZipInfo | None) -> bytes:
    """Of a small entry; nothing, if there is none."""
    begin, end = (0, 0) if member is None else _content_range(data, member)
    return data[begin : min(end, begin + _SMALL)]


def _differs(path: Path, member: zipfile.ZipInfo) -> CheckpointError:
    reason = f"truncated or damaged: the checksum of {shown(_short(member))} differs"
    return CheckpointError(reason, path=path, hint=COPY_AGAIN)


def _short(member: zipfile.ZipInfo) -> str:
    return member.filename.partition("/")[2]


def _refuse_overlap(ranges: list[tuple[int, int]]) -> None:
    ordered = sorted(ranges)
    if any(end > begin for (_, end), (begin, _) in itertools.pairwise(ordered)):
        raise ValueError("entries of the archive overlap")


def _content_range(data: mmap.mmap | memoryview, member: zipfile.ZipInfo) -> tuple[int, int]:
    """Where the bytes of a member begin and end, as its local header says (torch reads that header too)."""
    start = member.header_offset
    header = _LOCAL_HEADER.unpack_from(data, start)
    name_length, extra_length = header[9], header[10]
    name_start = start + _LOCAL_HEADER.size
    name = data[name_start : name_start + name_length]
    begin = name_start + name_length + extra_length
    end = begin + member.file_size
    if header[0] != b"PK\x03\x04" or name != member.orig_filename.encode() or end > len(data):
        raise ValueError(f"the entry {member.filename[:80]!r} is not where the archive says")
    return begin, end
