"""Zip archives that two readers read differently, or that hold less than they say. ``ARCHIVES``: name -> builder."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from tests.attacks.hostile_pickles import called, name, number, pack, state, word
from tests.attacks.payloads import deflated_bomb, rewrite

EVIL = called("torch", "FloatStorage", number(2**31))
"""What must not be opened: it would ask for 8 GB."""


def whole() -> bytes:
    """A sound archive of one tensor ``w``."""
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(2)}, buffer)
    return buffer.getvalue()


def with_entry(path: Path, entry: str, content: bytes = EVIL) -> Path:
    return rewrite(path, whole(), replace={entry: content})


def patched(path: Path, change: Callable[[bytearray], None]) -> Path:
    data = bytearray(rewrite(path, whole()).read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def cut_name(path: Path) -> Path:
    """``archive/data.pkl\\0x``, which Python's reader cuts to ``archive/data.pkl``."""
    with_entry(path, "archive/data.pklX0")
    path.write_bytes(path.read_bytes().replace(b"archive/data.pklX0", b"archive/data.pkl\0x"))
    return path


def second_directory(path: Path) -> Path:
    """A whole archive in the comment of another: which directory is the last?"""
    with_entry(path, "archive/version", b"3\n")
    evil = with_entry(path.with_name("evil"), "archive/data.pkl").read_bytes()
    path.with_name("evil").unlink()
    data = bytearray(path.read_bytes())
    data[-2:] = struct.pack("<H", len(evil))
    path.write_bytes(data + evil)
    return path


def in_front(path: Path) -> Path:
    """Another archive in front, whose first entry is at the file's beginning."""
    front = whole()
    path.write_bytes(front + rewrite(path, whole()).read_bytes())
    return path


def other_locator(path: Path) -> Path:
    """A zip64 directory that one reader finds by its pointer, another just before the locator."""
    data = rewrite(path, whole()).read_bytes()
    end = data[-22:]
    count, size, offset = struct.unpack("<H2L", end[10:20])
    body = data[:-22]
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(body), 1)
    path.write_bytes(body + record + record + locator + end)
    return path


def claims(size: int) -> Callable[[bytearray], None]:
    """The directory says that the largest entry has this size."""

    def change(data: bytearray) -> None:
        at = data.rindex(b"PK\1\2")
        data[at + 20 : at + 28] = struct.pack("<2L", size, size)

    return change


def overlapping(data: bytearray) -> None:
    """The last entry of the directory begins where the first does."""
    at = data.rindex(b"PK\1\2")
    data[at + 42 : at + 46] = bytes(4)


def encrypted(data: bytearray) -> None:
    data[data.rindex(b"PK\1\2") + 8] |= 1


def zip64_size(data: bytearray) -> None:
    """The size is in an extra field that is not there."""
    claims(0xFFFFFFFF)(data)


def torchscript(path: Path) -> Path:
    return with_entry(path, "archive/constants.pkl")


def many_views(path: Path) -> Path:
    """Two hundred tensors over the same 400 kB: together 80 MB, all to be copied."""
    base = torch.zeros(100_000)
    torch.save({f"w{index}": base.view(10, 10_000) for index in range(200)}, path)
    return path


def compressed_twice(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("archive/data.pkl", EVIL)
        archive.writestr("archive/data/0", bytes(1 << 20))
    return path


ARCHIVES: dict[str, Callable[[Path], Path]] = {
    "c40 a member above the archive": lambda path: with_entry(path, "../evil.txt"),
    "c40 a member at an absolute place": lambda path: with_entry(path, "/tmp/evil.txt"),
    "c40 a member on another drive": lambda path: with_entry(path, "archive/..\\..\\evil.txt"),
    "c40 a member beside the top folder": lambda path: with_entry(path, "other/data.pkl"),
    "c12 a second pickle in capitals": lambda path: with_entry(path, "archive/DATA.PKL"),
    "c12 a second pickle behind a zero byte": cut_name,
    "c12 a second directory in the comment": second_directory,
    "c12 a second directory by zip64": other_locator,
    "c12 another archive in front": in_front,
    "c12 a call in the place of data.pkl": lambda path: with_entry(
        path, "archive/data.pkl", state(word("w"), name("os", "system") + pack(word("touch flag")) + b"R")),
    "c14 the mark of TorchScript": torchscript,
    "c19 deflated": lambda path: deflated_bomb(path, megabytes=8),
    "c19 compressed otherwise": compressed_twice,
    "c19 an entry of 4 GB": lambda path: patched(path, claims(0xFFFFFFFE)),
    "c19 an entry of zip64 size": lambda path: patched(path, zip64_size),
    "c19 an encrypted entry": lambda path: patched(path, encrypted),
    "c20 entries that overlap": lambda path: patched(path, overlapping),
    "c20 many views of one storage": many_views,
}  # fmt: skip
