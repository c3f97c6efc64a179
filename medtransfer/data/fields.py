"""The fields of a ``dataset.json``, read one by one, so that everything that is wrong is named in one pass."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import msgspec

from ..checkpoint.strict_json import parse_json
from ..errors import DatasetError

_Value = TypeVar("_Value")
MOST_CLASSES = 4096


def read_document(path: Path, what: str) -> dict[str, Any]:
    """A JSON file that holds an object.

    Args:
        path: The file.
        what: What it should be, as in ``a Decathlon dataset.json``.

    Raises:
        DatasetError: there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise DatasetError("no such file", path=path, hint="Set data_root to the folder that holds dataset.json")
    try:
        document = parse_json(path.read_bytes())
    except ValueError as error:
        raise DatasetError(f"is not {what}: {error}", path=path) from error
    if not isinstance(document, dict):
        raise DatasetError(f"is not {what}: it holds no object", path=path)
    return document


def take(document: dict[str, Any], key: str, kind: type[_Value], problems: list[str], default: _Value) -> _Value:
    """A field that must be there; if it is not, or is of the wrong kind, the problem is added and the default taken."""
    if key not in document:
        problems.append(f"missing required field `{key}`")
        return default
    return convert(document[key], kind, f"$.{key}", problems, default)


def convert(value: Any, kind: type[_Value], trail: str, problems: list[str], default: _Value) -> _Value:
    """A value as ``kind``, or the default and one problem more.

    >>> problems = []
    >>> convert({"a": 1}, dict[str, str], "$.labels", problems, {}), problems
    ({}, ['Expected `str`, got `int` - at `$.labels[...]`'])
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        problems.append(f"{text} - at `{trail}{place.removesuffix('`')}`")
        return default


def take_names(document: dict[str, Any], key: str, problems: list[str]) -> tuple[str, ...]:
    """A field that gives numbers their names, ``{"0": "background", "1": "liver"}``, as names in order."""
    before = len(problems)
    names = take(document, key, dict[str, str], problems, {})
    return ordered_names(names, key, problems) if len(problems) == before else ()


def ordered_names(names: dict[str, str], key: str, problems: list[str]) -> tuple[str, ...]:
    """Names in the order of their numbers, which must be 0, 1, 2 ... since they are array indices; no name twice.

    Where numbers are missing in between, stand-ins let the rest be looked at.

    >>> problems = []
    >>> ordered_names({"0": "background", "2": "liver"}, "labels", problems)
    ('background', 'labels 1', 'liver')
    >>> problems
    ["the numbers of 'labels' must be 0, 1, 2 ..., got 0, 2"]
    """
    if not names or sorted(names) != sorted(str(number) for number in range(len(names))):
        problems.append(f"the numbers of {key!r} must be 0, 1, 2 ..., got {', '.join(names) or 'none'}")
    problems += [
        f"{key!r} gives {name!r} to several numbers" for name, times in Counter(names.values()).items() if times > 1
    ]
    numbers = [int(number) for number in names if number.isdecimal() and len(number) < 6]
    last = min(max(numbers, default=-1), MOST_CLASSES)
    return tuple(names.get(str(number), f"{key} {number}") for number in range(last + 1))


def leads_out(name: str) -> bool:
    """Whether a path of a listing leaves its folder: listings are data from somewhere else.

    >>> leads_out("imagesTr/a.nii.gz"), leads_out("../a.nii.gz"), leads_out("/etc/passwd"), leads_out("C:\\\\a")
    (False, True, True, True)
    """
    windows = name.replace("\\", "/")
    return windows.startswith("/") or windows[1:2] == ":" or ".." in PurePosixPath(windows).parts


def inside(root: Path, name: str) -> Path:
    """The file that a listing names, in its folder."""
    return root / PurePosixPath(name)


def listed_file_problems(name: str, root: Path) -> list[str]:
    """What is wrong with a file that a listing names: it leaves the folder, or is not there."""
    if leads_out(name):
        return [f"{name!r} leads out of the dataset's folder"]
    return [] if inside(root, name).is_file() else [f"{name!r} is listed but missing"]
