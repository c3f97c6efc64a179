"""Which folders a command may replace: checked before any work is done."""

from __future__ import annotations

from pathlib import Path

from medtransfer.checkpoint.card import CARD_NAME
from medtransfer.files import refuse_existing, refuse_foreign, refuse_inside, refuse_unusable_folder

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
    reason = f"is a folder without {marker}, so not one of ours: --overwrite would delete what is in it"
    refuse_foreign(refuse_existing(folder, overwrite), marker, reason)


def refuse_unusable_model_folder(output: str | Path, source: str | Path, overwrite: bool) -> None:
    """Raise unless a model folder made from ``source`` may be written to ``output``.

    Raises:
        UsageError: its place cannot be used, or lies in, is or holds the source.
        OutputExistsError: it exists and is not to be replaced, or is no model folder.
    """
    refuse_unusable_folder(Path(output).parent)
    refuse_inside(output, source, "the source")
    refuse_foreign_folder(output, CARD_NAME, overwrite)
