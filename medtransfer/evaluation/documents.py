"""The ``CASE.json`` files of a prediction folder, as they are, and those of one head of a network with several."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..checkpoint.strict_json import parse_json
from ..data.cases import SUFFIXES
from ..errors import DatasetError, UsageError
from .masks import Masks

LOOKED_AT = 5  # files that tell what a folder holds


def read_documents(folder: Path, most: int | None = None) -> list[dict[str, Any]]:
    """The documents of a folder, or a file, that are of a case; other files, and those that are no JSON, are none."""
    parsed = map(_parsed, _files(folder)[:most])
    return [one for one in parsed if isinstance(one, dict) and "case" in one]


def refuse_unreadable(folder: Path) -> None:
    """See that no file of a prediction folder is damaged: its case would count as one that was not predicted.

    Raises:
        DatasetError: one is no JSON.
    """
    for file in _files(folder):
        if _parsed(file) is None:
            raise DatasetError("is no JSON", path=file, hint="Predict its case again, or remove the file")


def find_heads(place: object) -> dict[str, str]:
    """The tasks of a network's heads by name, where a prediction folder is of one with several; else nothing."""
    if not isinstance(place, str | os.PathLike):
        return {}
    documents = read_documents(Path(place), LOOKED_AT)
    heads: Mapping[str, Any] = next((one["heads"] for one in documents if isinstance(one.get("heads"), Mapping)), {})
    return {str(name): str(one.get("task")) for name, one in heads.items() if isinstance(one, Mapping)}


def chosen_task(place: object, head: str | None) -> str | None:
    """The task of the chosen head; None where there are no heads.

    Raises:
        UsageError: there are heads, and none or another one is named; or there are none.
    """
    heads = find_heads(place)
    if head is None and not heads:
        return None
    shown = ", ".join(f"{name} ({task})" for name, task in heads.items())
    if not heads:
        raise UsageError(f"head {head!r} is asked for, but the predictions are not of a network with several heads")
    if head not in heads:
        asked = "holds the results of several heads" if head is None else f"there is no head {head!r}"
        hint = f"Name one, such as --head {next(iter(heads))}: {shown}"
        raise UsageError(asked, path=Path(place), hint=hint)  # type: ignore[arg-type]
    return heads[head]


def head_documents(folder: Path, head: str | None) -> list[dict[str, Any]]:
    """All documents; with a head, what they say of it, as if the network had no other."""
    documents = read_documents(folder)
    if head is None:
        return documents
    parts = [(one["case"], one["heads"].get(head)) for one in documents if isinstance(one.get("heads"), Mapping)]
    return [{"case": case, **part} for case, part in parts if isinstance(part, Mapping)]


def head_masks(place: str | os.PathLike[str], head: str) -> Masks:
    """The masks of one head, ``CASE_HEAD.nii.gz``, by case.

    Raises:
        DatasetError: there are none.
    """
    folder = Path(place)
    cases = {str(one["case"]): _mask(folder, f"{one['case']}_{head}") for one in head_documents(folder, head)}
    files = {case: file for case, file in cases.items() if file is not None}
    if not files:
        raise DatasetError(f"holds no masks of head {head}, such as CASE_{head}.nii.gz", path=folder)
    return Masks(folder, files)


def _mask(folder: Path, name: str) -> Path | None:
    places = (folder / f"{name}{suffix}" for suffix in SUFFIXES)
    return next((place for place in places if place.is_file()), None)


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() and place.suffix == ".json" else sorted(place.glob("*.json"))


def _parsed(file: Path) -> Any:
    try:
        return parse_json(file.read_bytes())
    except (ValueError, OSError):
        return None
