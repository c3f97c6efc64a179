"""Where a command may write: checked before any work is done."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from medtransfer.checkpoint.card import CARD_NAME
from medtransfer.errors import UsageError
from medtransfer.files import refuse_existing


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
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise UsageError("is a file, but a folder is to be written there", path=nearest, hint="Name another output")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError("cannot be written: permission denied", path=nearest, hint="Name another output")


def refuse_outputs(outputs: Iterable[Path], inputs: Iterable[Path], overwrite: bool) -> None:
    """Raise if an output is one of the inputs, whatever ``overwrite`` says, or exists without ``overwrite``.

    Raises:
        UsageError: an output is an input.
        OutputExistsError: an output exists.
    """
    sources = {path.resolve() for path in inputs}
    for output in outputs:
        if output.resolve() in sources:
            raise UsageError("would overwrite an input", path=output, hint="Name another output folder")
        refuse_existing(output, overwrite)


def refuse_foreign_folder(folder: str | Path, marker: str, overwrite: bool) -> None:
    """Raise unless ``folder`` is free, or may be replaced whole: it is empty, or holds ``marker`` as our own do.

    Raises:
        OutputExistsError: it exists and ``overwrite`` is false.
        UsageError: something stands there that ``overwrite`` must not delete.
    """
    folder = refuse_existing(folder, overwrite)
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise UsageError("is a file, but a folder is to be written", path=folder, hint="Name another output")
    if any(folder.iterdir()) and not (folder / marker).is_file():
        reason = f"is a folder without {marker}, so not one of ours: --overwrite would delete what is in it"
        raise UsageError(reason, path=folder, hint="Name another, or empty it yourself")


def refuse_unusable_model_folder(output: str | Path, source: str | Path, overwrite: bool) -> None:
    """Raise unless a model folder made from ``source`` may be written to ``output``.

    Raises:
        UsageError: its place cannot be used, or lies in, is or holds the source.
        OutputExistsError: it exists and is not to be replaced, or is no model folder.
    """
    refuse_unusable_folder(Path(output).parent)
    refuse_inside(output, source, "the source")
    refuse_foreign_folder(output, CARD_NAME, overwrite)
