"""Which layout a folder or file has, told by its content, and the cases in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import DatasetError
from .bids import find_bids
from .box_list import BoxFormat, find_boxes, is_box_list
from .cases import SUFFIXES, Found, Layout, is_junk, refused
from .decathlon import find_decathlon, listing_of
from .fields import read_document
from .nnunet import OWN_KEYS, find_nnunet
from .rows import read_columns
from .scans import find_scans
from .table import find_table, is_image_column

__all__ = ["Found", "find_layout", "read_layout"]

Finder = Callable[[Path], Found]
Names: TypeAlias = "Sequence[str] | None"
LISTING = "dataset.json"
HINT = (
    "Give a dataset.json (Decathlon or nnU-Net), a list of scans with boxes, a table with the columns image and label, "
    "or a BIDS folder"
)


def read_layout(
    path: str | Path,
    channels: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    select: Mapping[str, Any] | None = None,
) -> Layout:
    """The layout of a dataset of any kind that :func:`find_layout` knows; the content tells which.

    Args:
        path: A folder (Decathlon, nnU-Net, BIDS, scans without labels), a ``dataset.json``, or a CSV or TSV table.
        channels: Names of the channels, where the dataset does not say them or others are wanted.
        classes: Names of the classes in order, where the dataset does not say them.
        select: For BIDS: entities that the files must have, as ``{"run": 1}``.

    Raises:
        DatasetError: there are problems; all of them are named, and are in the error's ``problems`` one by one.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in "ab":
    ...     (folder / f"{name}.nii.gz").touch()
    >>> _ = (folder / "cases.csv").write_text("image,label\\na.nii.gz,ill\\nb.nii.gz,healthy\\n")
    >>> layout = read_layout(folder)
    >>> layout.task, layout.classes, [case.label for case in layout.cases]
    ('classification', ('healthy', 'ill'), [1, 0])
    """
    return find_layout(path, channels, classes, select).checked()


def find_layout(
    path: str | Path,
    channels: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    select: Mapping[str, Any] | None = None,
    boxes: BoxFormat | None = None,
) -> Found:
    """What is found of a dataset: the cases that can be used, and all that is wrong, in one pass.

    The content tells the layout, in this order: a ``dataset.json`` of nnU-Net (``channel_names``, ``file_ending``); a
    JSON list of scans with boxes (``training`` with ``box``); a ``dataset.json`` of the Decathlon (``modality``,
    ``training``); BIDS (``dataset_description.json``, or files that are named so in
    folders ``sub-*``); a CSV or TSV table with columns of images; any folder of NIfTI files, which are then scans
    without labels.

    Args:
        path: A folder, a ``dataset.json``, or a table.
        channels: Names of the channels, where the dataset does not say them or others are wanted; see each layout.
        classes: Names of the classes in order, where the dataset does not say them.
        select: For BIDS: entities that the files must have, as ``{"run": 1}``.
        boxes: For a list of boxes: what their numbers mean, where the list does not say it.
    """
    path = Path(path)
    try:
        return _finder(path, channels, classes, select, boxes)(path)
    except DatasetError as error:
        return refused(error, path)


def _finder(
    path: Path, channels: Names, classes: Names, select: Mapping[str, Any] | None, boxes: BoxFormat | None
) -> Finder:
    """The reader for what is there.

    Raises:
        DatasetError: nothing is there, or nothing that is known.
    """
    if path.suffix == ".json" or (path / LISTING).is_file():
        return partial(_find_listing, channels=channels, classes=classes, boxes=boxes)
    if path.is_file():
        _refuse_scan(path)
        return partial(find_table, channels=channels, classes=classes)
    if not path.is_dir():
        raise DatasetError("no such file or folder", path=path, hint="Name the dataset's folder or table")
    if (path / "dataset_description.json").is_file() or any(path.glob("sub-*/**/sub-*_*.nii*")):
        return partial(find_bids, channels=channels, classes=classes, select=select)
    tables = _tables(path)
    if tables:
        return lambda _: find_table(_only(tables, path), channels, classes)
    _refuse_unlisted(path)
    return partial(find_scans, channels=channels)


def _find_listing(path: Path, channels: Names, classes: Names, boxes: BoxFormat | None) -> Found:
    """The layout of a ``dataset.json``, told by its keys."""
    document = read_document(listing_of(path), f"a {LISTING}")
    keys = set(document)
    if OWN_KEYS & keys:
        return _renamed(find_nnunet(path), channels, classes)
    if is_box_list(document):
        return find_boxes(listing_of(path), channels, classes, boxes)
    if {"modality", "training"} & keys:
        return _renamed(find_decathlon(path), channels, classes)
    listed = ", ".join(sorted(keys)[:12]) or "no key"
    raise DatasetError(
        f"holds neither the keys of nnU-Net nor those of the Decathlon, but {listed}", path=path, hint=HINT
    )


def _refuse_scan(path: Path) -> None:
    if path.name.lower().endswith(SUFFIXES):
        raise DatasetError("is one scan, not a dataset", path=path, hint=HINT)


def _refuse_unlisted(path: Path) -> None:
    """Folders named as in a dataset whose list is missing: without it nobody knows the classes."""
    if (path / "imagesTr").is_dir():
        raise DatasetError(f"holds imagesTr, but no {LISTING}", path=path, hint=HINT)
    if not any(file.name.lower().endswith((".nii", ".nii.gz")) for file in path.rglob("*.nii*")):
        raise DatasetError("holds no dataset", path=path, hint=HINT)


def _renamed(found: Found, channels: Sequence[str] | None, classes: Sequence[str] | None) -> Found:
    """With other names for channels and classes, as many as there are."""
    if found.layout is None:
        return found
    layout = found.layout
    known = {"channels": (channels, layout.channels), "classes": (classes, layout.classes)}
    problems = [
        f"{len(names)} {field} are named, but there are {len(there)}: {', '.join(there)}"
        for field, (names, there) in known.items()
        if names and len(names) != len(there)
    ]
    named = replace(layout, channels=tuple(channels or layout.channels), classes=tuple(classes or layout.classes))
    return replace(found, layout=named, problems=(*found.problems, *problems))


def _tables(folder: Path) -> list[Path]:
    """Tables with a column of images; others, as BIDS's participants.tsv, are none."""
    files = (file for file in sorted(folder.iterdir()) if file.suffix.lower() in (".csv", ".tsv") and file.is_file())
    return [file for file in files if not is_junk(file.name) and any(map(is_image_column, read_columns(file)))]


def _only(tables: Sequence[Path], folder: Path) -> Path:
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables)
        raise DatasetError(f"holds {len(tables)} tables of images: {names}", path=folder, hint="Name one of them")
    return tables[0]
