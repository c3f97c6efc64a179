"""What a path leads to, told by its first bytes: a weight file that can be read, or something else with a name."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from ..errors import CheckpointError
from .wording import COPY_AGAIN, shown

Result = TypeVar("Result")
FileKind = Literal["torch", "torch-legacy", "safetensors"]

#: How torch < 1.6 began its files: the pickled number 0x1950a86a20f9469cfc6c.
TORCH_LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."

_ATTEMPTS = 5
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_ARCHIVE_HINT = "Unpack it and name the weight file inside"
_CONVERT_HINT = "Save a state dict with torch.save or safetensors in the framework that wrote it"
_FOREIGN: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs", "is a git-lfs pointer, not the weights themselves", "Run git lfs pull"),
    (0, b"\x1f\x8b", "not a checkpoint: gzip data", _ARCHIVE_HINT),
    (0, b"7z\xbc\xaf", "not a checkpoint: a 7z archive", _ARCHIVE_HINT),
    (257, b"ustar", "not a checkpoint: a tar archive", _ARCHIVE_HINT),
    (0, b"\x89HDF", "not a checkpoint: an HDF5 file (Keras?)", _CONVERT_HINT),
    (0, b"\x93NUMPY", "not a checkpoint: a numpy array", _CONVERT_HINT),
    (0, b"GGUF", "not a checkpoint: a GGUF file", _CONVERT_HINT),
    (0, b"\x80", "not a checkpoint: a bare Python pickle, which is never opened", _CONVERT_HINT),
)


def refuse_url(path: str | os.PathLike[str]) -> None:
    """Raise if what should be a file or folder is a URL, whose slashes a Path may have merged.

    Raises:
        CheckpointError: it is one.
    """
    if _URL.match(os.fspath(path)):
        hint = "Download it first and name the file"
        raise CheckpointError("is a URL, and local files only are read", path=os.fspath(path), hint=hint)


def local_path(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` as a Path to something that exists on this machine.

    Raises:
        CheckpointError: a URL, or nothing there; names alike in the same folder are offered.

    >>> local_path("https://example.org/resnet.pth")
    Traceback (most recent call last):
    medtransfer.errors.CheckpointError: https:/example.org/resnet.pth: ... Download it first and name the file.
    """
    refuse_url(path)
    path = Path(path)
    try:
        path.stat()
    except PermissionError as error:
        raise _denied(path) from error
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise CheckpointError("no such file", path=path, hint=_near_names(path)) from error
    return path


def identify(path: Path) -> FileKind:
    """Tell by content, not by suffix, what kind of weight file stands at ``path``.

    Raises:
        CheckpointError: it is not a regular file, not readable, empty, or not a weight file.
    """
    if not path.is_file():
        raise CheckpointError("is not a regular file", path=path)
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except PermissionError as error:
        raise _denied(path) from error
    except OSError as error:
        raise unreadable(path, error) from error
    if not head:
        raise CheckpointError("the file is empty", path=path, hint=COPY_AGAIN)
    if head.startswith(b"PK\x03\x04"):
        return "torch"
    if head.startswith(TORCH_LEGACY_MAGIC):
        return "torch-legacy"
    if _looks_like_safetensors(path, head):
        return "safetensors"
    raise _foreign(path, head)


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """The refusal of what the system does not let be read.

    >>> str(unreadable(Path("a.pth"), PermissionError(13, "Permission denied")))
    'a.pth: cannot be read: permission denied'
    """
    return CheckpointError(f"cannot be read: {(error.strerror or str(error)).lower()}", path=path)


def read_steadily(path: Path, read: Callable[[Path], Result]) -> Result:
    """Call ``read(path)``, again if the file or folder was replaced meanwhile: what comes is all old or all new.

    A file is opened more than once on the way (to check it, then to map it), and a training run may save in between.

    Raises:
        CheckpointError: what ``read`` raises, or the path is never at rest.
    """
    for _ in range(_ATTEMPTS):
        before = _stamps(path)
        try:
            result = read(path)
        except CheckpointError:
            if _stamps(path) == before:
                raise
            continue
        if _stamps(path) == before:
            return result
    raise CheckpointError("changes while it is read", path=path, hint="Wait until it is written, or read a copy")


def _stamps(path: Path) -> list[tuple[int, ...] | None]:
    """What changes when a file is replaced or written to; of a model folder, that of the two files that count."""
    return [_stamp(path), _stamp(path / "model.json"), _stamp(path / "model.safetensors")]


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def file_sha256(path: str | Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a"
    >>> _ = path.write_bytes(b"a")
    >>> file_sha256(path)[:8]
    'ca978112'
    """
    digest = hashlib.sha256()
    with Path(path).open("rb", buffering=0) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _looks_like_safetensors(path: Path, head: bytes) -> bool:
    """Eight bytes of length, then JSON; a file that is named so and damaged is one too, to be told what is wrong."""
    length = int.from_bytes(head[:8], "little")
    return (head[8:9] == b"{" and length < 1 << 32) or (path.suffix == ".safetensors" and not _is_text(head))


def _foreign(path: Path, head: bytes) -> CheckpointError:
    for start, magic, reason, hint in _FOREIGN:
        if head[start:].startswith(magic):
            return CheckpointError(reason, path=path, hint=hint)
    if re.match(rb"\s*(<!doctype html|<html|<\?xml|<head)", head, re.IGNORECASE):
        reason, hint = "looks like a web page: the download failed?", "Open the address in a browser, download again"
        return CheckpointError(reason, path=path, hint=hint)
    content = "text" if _is_text(head) else "unknown data"
    hint = "Give a file written by torch.save or safetensors, or a model folder"
    return CheckpointError(f"not a checkpoint: {content}", path=path, hint=hint)


def _is_text(head: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in head) and b"\x7f" not in head


def _near_names(path: Path) -> str:
    try:
        names = os.listdir(path.parent)
    except OSError:
        return "Check the folder's name" if path.parent.name else "Check the name"
    near = difflib.get_close_matches(path.name, names, n=3)
    return f"Did you mean {' or '.join(map(shown, near))}?" if near else "Check the name"


def _denied(path: Path) -> CheckpointError:
    return CheckpointError("permission denied", path=path, hint="Make it readable (chmod u+r)")
