"""Which folders a command may replace: checked before any work is done."""

from __future__ import annotations

import os
from pathlib import Path

from medtransfer.checkpoint.card import CARD_NAME
from medtransfer.errors import UsageError
from medtransfer.files import refuse_existing, refuse_inside, refuse_unusable_folder

__all__ = [
    "refuse_foreign_folder",
    "refuse_inside",
    "refuse_unusable_folder",
    "refuse_unusable_model_folder",
]


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
