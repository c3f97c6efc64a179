"""The zip archive that ``torch.save`` writes: its shape and its checksums, told before torch opens it."""

from __future__ import annotations

import mmap
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ..errors import CheckpointError
from .tensor_checks import MAX_TENSORS
from .wording import shown

MAX_PICKLE_BYTES = 64 << 20
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_DAMAGED_HINT = "Download or copy it again"


def read_pickle(path: Path) -> tuple[bytes, list[str]]:
    """Check the archive, and give the bytes of its ``data.pkl`` and notes for the user.

    Every member must be stored plainly and agree with its checksum, so that no flipped bit and no compressed bomb
    gets through; torch looks at neither.

    Raises:
        CheckpointError: the file is not a torch checkpoint, or damaged.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
            name = _check_members(path, members, len(data))
            notes = _check_sums(path, members, data)
            return _content(data, _named(members, name)), notes
    except (zipfile.BadZipFile, zipfile.LargeZipFile, struct.error, ValueError, OverflowError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"truncated or damaged ({shown(error)})", path=path, hint=_DAMAGED_HINT) from error
    except (NotImplementedError, RuntimeError) as error:
        raise CheckpointError(f"not a checkpoint: {shown(error)}", path=path) from error
    except OSError as error:
        raise CheckpointError(f"truncated or damaged ({error.strerror or error})", path=path) from error


def _check_members(path: Path, members: list[zipfile.ZipInfo], size: int) -> str:
    """Refuse what no ``torch.save`` writes, and return the name of the pickle."""
    names = [member.filename for member in members]
    if len(members) > MAX_TENSORS + 16:
        raise CheckpointError(f"holds {len(members)} entries, more than {MAX_TENSORS} tensors", path=path)
    unsafe = [name for name in names if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts]
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
    if len(set(names)) < len(names) or not all(name.startswith(f"{top}/") for name in names):
        raise CheckpointError("not a checkpoint: entries of the archive are repeated or out of place", path=path)
    _check_sizes(path, members, size)
    return pickle_name


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
        raise CheckpointError("truncated or damaged (entries of the archive overlap)", path=path, hint=_DAMAGED_HINT)


def _check_sums(path: Path, members: list[zipfile.ZipInfo], data: mmap.mmap) -> list[str]:
    if all(member.CRC == 0 for member in members):
        return ["written without checksums (set_crc32_options(False)): damage would not be seen"]
    for member in members:
        if zlib.crc32(_content_view(data, member)) != member.CRC:
            reason = f"truncated or damaged: the checksum of {shown(member.filename.partition('/')[2])} differs"
            raise CheckpointError(reason, path=path, hint=_DAMAGED_HINT)
    return []


def _content_view(data: mmap.mmap, member: zipfile.ZipInfo) -> memoryview:
    """The bytes of a member, where its local header says that they begin (torch reads that header too)."""
    start = member.header_offset
    header = _LOCAL_HEADER.unpack_from(data, start)
    name_length, extra_length = header[9], header[10]
    name_start = start + _LOCAL_HEADER.size
    name = data[name_start : name_start + name_length]
    begin = name_start + name_length + extra_length
    end = begin + member.file_size
    if header[0] != b"PK\x03\x04" or name != member.orig_filename.encode() or end > len(data):
        raise ValueError(f"the entry {member.filename[:80]!r} is not where the archive says")
    return memoryview(data)[begin:end]


def _content(data: mmap.mmap, member: zipfile.ZipInfo) -> bytes:
    with _content_view(data, member) as view:
        return bytes(view)


def _named(members: list[zipfile.ZipInfo], name: str) -> zipfile.ZipInfo:
    return next(member for member in members if member.filename == name)
