"""Writing that is complete or absent: a ``.part`` beside the target, fsync, rename; and where it may happen at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from .errors import MedTransferError, OutputExistsError, ResourceError, UsageError


def refuse_existing(path: str | Path, overwrite: bool = False) -> Path:
    """Return ``path``, or raise if something stands there and ``overwrite`` is false.

    Raises:
        OutputExistsError: the output exists.
    """
    path = Path(path)
    if os.path.lexists(path) and not overwrite:
        raise OutputExistsError("the output exists already", path=path, hint="Name another, or pass --overwrite")
    return path


def refuse_inside(output: str | Path, folder: str | Path, what: str) -> None:
    """Raise if ``output`` is ``folder``, lies in it or holds it; ``what`` names the folder in the message.

    Raises:
        UsageError: it does.

    >>> refuse_inside("model/masks", "model", "the model folder")
    Traceback (most recent call last):
    medtransfer.errors.UsageError: model/masks: is inside the model folder, which stays as it is. ...
    """
    target, home = Path(output).resolve(), Path(folder).resolve()
    relation = "is" if target == home else "is inside" if home in target.parents else "holds"
    if relation != "holds" or target in home.parents:
        raise UsageError(f"{relation} {what}, which stays as it is", path=output, hint="Name a folder elsewhere")


def refuse_unusable_folder(folder: str | Path) -> None:
    """Raise if ``folder`` can neither be used nor made.

    Raises:
        UsageError: it, or the nearest parent that exists, is a file or is not writable.
    """
    folder = Path(folder)
    nearest = next(path for path in (folder, *folder.absolute().parents) if _is_there(path))
    if not nearest.is_dir():
        raise UsageError("is a file, but a folder is to be written there", path=nearest, hint="Name another output")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError("cannot be written: permission denied", path=nearest, hint="Name another output")


def refuse_foreign(folder: str | Path, marker: str | Path, reason: str) -> None:
    """Raise unless ``folder`` may be replaced whole: it is free or empty, or holds ``marker`` as our own do.

    Raises:
        UsageError: a file, or for ``reason`` a folder of something else.
    """
    folder = Path(folder)
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise UsageError("is a file, but a folder is to be written", path=folder, hint="Name another output")
    if any(folder.iterdir()) and not (folder / marker).is_file():
        raise UsageError(reason, path=folder, hint="Name another, or empty it yourself")


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:  # a name that is too long, or that holds a NUL
        reason = f"cannot be written: {getattr(error, 'strerror', None) or error}"
        raise UsageError(reason, path=path, hint="Name another output") from error
    return True


def refuse_outputs(outputs: Iterable[Path], inputs: Iterable[Path], overwrite: bool) -> None:
    """Raise if an output is one of the inputs, whatever ``overwrite`` says, or exists without ``overwrite``.

    Raises:
        UsageError: an output is an input.
        OutputExistsError: an output exists.
    """
    sources = set(map(os.path.realpath, inputs))  # not `resolve`, which fails at links in a circle
    for output in outputs:
        if os.path.realpath(output) in sources:
            raise UsageError("would overwrite an input", path=output, hint="Name another output folder")
        refuse_existing(output, overwrite)


@contextmanager
def atomic_file(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path beside ``path``; when the block ends well it becomes ``path``, else it is removed.

    The temporary name keeps the suffixes (``scan.nii.gz`` is written as ``scan.part.nii.gz``), since writers choose
    the format by them.

    Raises:
        OutputExistsError: the output exists and ``overwrite`` is false.
        UsageError: a folder stands there.
        ResourceError: the disk is full or the folder cannot be written.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_file(folder / "a.txt") as part:
    ...     _ = part.write_text("whole")
    >>> (folder / "a.txt").read_text()
    'whole'
    """
    path = refuse_existing(path, overwrite)
    if path.is_dir():
        raise UsageError("is a folder, but a file is to be written", path=path)
    part = path.with_name(_part_name(path.name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        _sync(part)
        os.replace(part, path)
        _sync(path.parent)
    except MedTransferError:
        raise  # some of ours are OSErrors too
    except OSError as error:
        raise ResourceError(f"cannot be written: {error.strerror or error}", path=path) from error
    finally:
        with suppress(OSError):  # missing, or its folder is a file
            part.unlink()


def write_json(path: str | Path, document: object, overwrite: bool = True) -> None:
    """Write a document of plain data, dataclasses or msgspec structs as indented JSON; NaN and infinity become null.

    Raises:
        OutputExistsError: the output exists and ``overwrite`` is false.
        ResourceError: the disk is full or the folder cannot be written.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "scores.json"
    >>> write_json(file, {"dice": float("nan")})
    >>> file.read_text()
    '{\\n  "dice": null\\n}\\n'
    """
    with atomic_file(path, overwrite) as part:
        part.write_bytes(msgspec.json.format(_encode(document), indent=2) + b"\n")


def text_of(name: str) -> str:
    """A name that can be written as UTF-8: a file's name may hold bytes that are no text.

    >>> text_of("scan\\udce9"), text_of("Größe")
    ('scan\\\\udce9', 'Größe')
    """
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _encode(document: object) -> bytes:
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:  # JSON has no escape for such names that all readers take
        return msgspec.json.encode(_as_text(msgspec.to_builtins(document)))


def _as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {_as_text(key): _as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    return text_of(value) if isinstance(value, str) else value


@contextmanager
def atomic_folder(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside ``path`` that takes its place, whole, when the block ends well.

    Raises:
        OutputExistsError: the output exists and ``overwrite`` is false.
        ResourceError: the disk is full or the folder cannot be written.
    """
    path = refuse_existing(path, overwrite)
    part, old = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.old")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        for file in part.iterdir():
            _sync(file)
        _swap(part, path, old)
    except MedTransferError:
        raise  # some of ours are OSErrors too
    except OSError as error:
        raise ResourceError(f"cannot be written: {error.strerror or error}", path=path) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _swap(new: Path, path: Path, old: Path) -> None:
    """Put ``new`` at ``path``; what stood there is deleted last, or put back if the rename fails."""
    existed = path.exists()
    if existed:
        os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        if existed:
            os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)
    _sync(path.parent)


def _part_name(name: str) -> str:
    stem, dot, suffixes = name.partition(".")
    return f"{stem}.part{dot}{suffixes}"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
