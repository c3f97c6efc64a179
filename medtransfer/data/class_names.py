"""The names of the classes of label volumes: from a ``labels.json``, or measured where nothing names them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..checkpoint.strict_json import parse_json
from ..errors import DatasetError
from ..volumes.read import read_labels
from .cases import Layout
from .fields import MOST_CLASSES, ordered_names

FILE = "labels.json"


def find_class_names(folder: Path, problems: list[str]) -> tuple[str, ...]:
    """The names in a folder's ``labels.json``, in the order of their numbers; none if there is no such file.

    Understood are lists of names, ``{"0": "background", "1": "liver"}``, ``{"background": 0, "liver": 1}``, and
    ``{"1": {"name": "liver", ...}}``. Background need not be named.
    """
    path = folder / FILE
    if not path.is_file():
        return ()
    try:
        named = names_by_number(parse_json(path.read_bytes()))
    except (ValueError, TypeError, KeyError) as error:
        problems.append(f"{FILE} names no classes: {error}")
        return ()
    return ordered_names({str(number): name for number, name in {0: "background", **named}.items()}, FILE, problems)


def names_by_number(document: Any) -> dict[int, str]:
    """The names that a ``labels.json`` gives to numbers, in the order of the numbers; these may have gaps.

    Raises:
        ValueError, TypeError, KeyError: it is not of one of the forms that :func:`find_class_names` knows.

    >>> names_by_number({"background": 0, "liver": 1}), names_by_number({"2": {"name": "spleen"}})
    ({0: 'background', 1: 'liver'}, {2: 'spleen'})
    """
    if isinstance(document, list):
        document = dict(enumerate(document))
    if not isinstance(document, dict):
        raise TypeError("it holds neither a list nor an object")
    return dict(sorted(_pair(key, value) for key, value in document.items()))


def _pair(key: Any, value: Any) -> tuple[int, str]:
    if isinstance(value, int) and not isinstance(value, bool):
        return value, str(key)
    name = value["name"] if isinstance(value, dict) else value
    if not isinstance(name, str):
        raise TypeError(f"the name of {key!r} is {name!r}")
    return int(key), name


def with_classes(layout: Layout) -> Layout:
    """A layout of labelled cases with its classes, which are counted in all label files where nothing names them.

    They are then called by their numbers, and a warning says so.

    Raises:
        VolumeError: a label file was refused.
        DatasetError: there are no labels, or a label file holds numbers that cannot be those of classes.
    """
    if layout.task == "restoration":
        hint = "Give labels, or learn without them: dataset.type='Scans'"
        raise DatasetError("holds scans without labels", path=layout.path, hint=hint)
    if layout.classes or layout.task != "segmentation":
        return layout
    highest = {case.id: _highest(case.label) for case in layout.cases if isinstance(case.label, Path)}
    last = max(highest.values(), default=0)
    if last > MOST_CLASSES:
        name = max(highest, key=lambda case: highest[case])
        raise DatasetError(f"case {name}: the label {last} cannot be the number of a class", path=layout.path)
    classes = ("background", *(str(number) for number in range(1, last + 1)))
    warning = f"no file names the classes: {last + 1} were counted; a {FILE} would name them"
    return replace(layout, classes=classes, warnings=(*layout.warnings, warning))


def _highest(label: Path) -> int:
    return int(read_labels(label).array.max(initial=0))
