"""Found boxes from prediction folders and tables, and reference boxes from lists, masks and folders, by case."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ..data.cases import Case, Layout, ListedBoxes
from ..data.class_names import find_class_names
from ..data.layouts import read_layout
from ..data.rows import Row, read_columns, read_rows
from ..errors import DatasetError
from ..reporting.boxes_table import HEADER as COLUMNS
from ..reporting.boxes_table import NAME as TABLE
from ..reporting.spreadsheet import unquoted
from .documents import LOOKED_AT, read_documents, refuse_unreadable
from .masks import TABLES, Masks, find_masks

BACKGROUND = "background"
_Corners = Annotated[list[float], Meta(min_length=6, max_length=6)]
_Point = Annotated[list[float], Meta(min_length=3, max_length=3)]
_FIELDS = {"box": 6, "center_mm": 3, "size_mm": 3}


class FoundBox(msgspec.Struct, rename={"name": "class"}):
    """A box as ``CASE.json`` has it: voxels of the scan, and if known millimetres of the world and along its axes."""

    name: str
    box: _Corners
    score: float = 1.0
    center_mm: _Point | None = None
    size_mm: _Point | None = None


class BoxDocument(msgspec.Struct):
    """What is read of the ``CASE.json`` of a detector."""

    case: str
    boxes: list[FoundBox]
    classes: list[str] = []


@dataclass(frozen=True)
class BoxSource:
    """Boxes by case, each in the form in which it stands somewhere.

    Args:
        path: Where they were looked for.
        sources: A document, a case of a list, or the mask that the boxes are to be derived from.
        layout: What names the classes, if anything does.
        patients: By case, where known.
        is_table: Whether it lists boxes only, so that a case without any is not named.
    """

    path: Path
    sources: Mapping[str, Mapping[str, Any] | Case | Path]
    layout: Layout | None = None
    patients: Mapping[str, str] = field(default_factory=dict)
    is_table: bool = False

    @property
    def masks(self) -> Masks:
        """The names of the cases, to be matched as those of masks; each stands for its file."""
        return Masks(self.path, {case: Path(case) for case in self.sources}, self.layout)


def is_detection(place: object) -> bool:
    """Whether there are boxes: a folder with the ``CASE.json`` of a detector, one of these, or a ``boxes.csv``."""
    if not isinstance(place, str | os.PathLike):
        return False
    path = Path(place)
    if path.is_file() and path.suffix.lower() in TABLES:
        return path.name == TABLE or set(COLUMNS[3:9]) <= set(read_columns(path))
    return (path / TABLE).is_file() or bool(_documents(path, LOOKED_AT))


def read_found(place: str | os.PathLike[str]) -> BoxSource:
    """The boxes of a prediction folder, of one of its ``CASE.json``, or of a ``boxes.csv``.

    Raises:
        DatasetError: there are none, the table is wrong, or a file of the folder is damaged.
    """
    path = Path(place)
    documents = _documents(path)
    if documents:
        refuse_unreadable(path)
        sources = {str(one["case"]): one for one in documents}
        if len(sources) < len(documents):
            raise DatasetError("two files are of the same case", path=path, hint="Remove one")
        return BoxSource(path, sources, _layout(path, documents))
    table = path if path.is_file() else path / TABLE
    if not table.is_file():
        raise DatasetError("holds no boxes", path=path, hint=f"Give a detector's prediction folder, or a {TABLE}")
    return BoxSource(table, _from_table(table), _named_beside(table), is_table=True)


def read_references(place: str | os.PathLike[str] | Sequence[Any]) -> BoxSource:
    """Reference boxes, told by content: documents as of a prediction, a list of scans with boxes, or masks.

    Raises:
        DatasetError: there are none.
        VolumeError: there is no such file or folder.
    """
    if isinstance(place, str | os.PathLike):
        path = Path(place)
        if is_detection(path):
            return read_found(path)
        layout = read_layout(path) if path.suffix == ".json" or (path / "dataset.json").is_file() else None
        if layout and layout.task == "detection":
            return _from_list(path, layout)
    masks = find_masks(place)
    return BoxSource(masks.path, masks.files, masks.layout, masks.patients)


def read_document(document: Mapping[str, Any], path: Path) -> BoxDocument:
    """A document, if its fields are what they should be.

    Raises:
        DatasetError: says which field is not.
    """
    try:
        return msgspec.convert(document, BoxDocument)
    except msgspec.ValidationError as error:
        raise DatasetError(f"case {document.get('case')}: {error}", path=path) from error


def _from_list(path: Path, layout: Layout) -> BoxSource:
    sources = {case.id: case for case in layout.cases if isinstance(case.label, ListedBoxes)}
    return BoxSource(path, sources, layout, {case.id: case.patient for case in layout.cases if case.patient})


def _documents(folder: Path, most: int | None = None) -> list[dict[str, Any]]:
    """The documents of a detector."""
    return [one for one in read_documents(folder, most) if one.get("task") == "detection"]


def _layout(path: Path, documents: Sequence[Mapping[str, Any]]) -> Layout | None:
    stated = next((one["classes"] for one in documents if isinstance(one.get("classes"), list)), None)
    if not stated:
        return None
    classes = [str(name) for name in stated]
    return named_layout(path, classes if classes[0] == BACKGROUND else [BACKGROUND, *classes])


def named_layout(path: Path, classes: Sequence[str]) -> Layout:
    """A layout that only names classes, background first."""
    task: Literal["detection"] = "detection"
    return Layout(path, task, (), (), tuple(classes))


def _named_beside(table: Path) -> Layout | None:
    """What the ``labels.json`` names that prediction writes beside its table."""
    names = find_class_names(table.parent, [])
    return named_layout(table, names) if names else None


def _from_table(path: Path) -> dict[str, dict[str, Any]]:
    # a header alone: no box was found in any case
    is_empty = len(path.read_text(encoding="utf-8-sig", errors="replace").strip().splitlines()) == 1
    nothing: tuple[list[str], list[Row], list[str]] = (read_columns(path), [], [])
    columns, rows, problems = nothing if is_empty else read_rows(path)
    lacking = [name for name in COLUMNS[:9] if name not in columns]
    if lacking or problems:
        raise DatasetError("; ".join([*(f"column {name} is missing" for name in lacking), *problems][:8]), path=path)
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        case = unquoted(row.get("case"))
        try:
            box = _box({name: row.get(name) for name in COLUMNS})
        except ValueError as error:
            raise DatasetError(f"line {row.line}: {error}", path=path) from None
        found.setdefault(case, {"case": case, "boxes": []})["boxes"].append(box)
    return found


def _box(cells: Mapping[str, str]) -> dict[str, Any]:
    box: dict[str, Any] = {"class": unquoted(cells["class"]), "score": float(cells["score"])}
    for name, size in _FIELDS.items():
        numbers = [cells[column] for column in COLUMNS if column.startswith(f"{name}_")]
        assert len(numbers) == size
        if all(numbers):
            box[name] = [float(number) for number in numbers]
    return box
