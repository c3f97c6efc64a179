"""The names of the classes by their numbers in the masks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..checkpoint.strict_json import parse_json
from ..data.class_names import FILE, names_by_number
from ..errors import DatasetError, UsageError
from .masks import Masks

Names = dict[int, str]
_DEFINED = re.compile(r"(\d+)=(.+)")


def class_names(
    predictions: Masks, references: Masks, chosen: Sequence[str] | Mapping[int, str] | None
) -> Names | None:
    """Names by label, without the background; None if nothing names them.

    They come from the dataset of the references, from a ``dataset.json`` or ``labels.json`` beside or above the
    references, or from the ``labels.json`` of the prediction folder.

    Args:
        predictions: The predicted masks.
        references: The reference masks.
        chosen: Names as a mapping or as words ``1=liver``; or which of the known names (or numbers) to score.

    Raises:
        UsageError: a chosen class is unknown.
        DatasetError: a file of names cannot be read.
    """
    known = _known(predictions, references)
    if chosen is None:
        return known
    if isinstance(chosen, Mapping):
        return _distinct([(int(label), name) for label, name in chosen.items()])
    defined = [_DEFINED.fullmatch(word) for word in chosen]
    if all(defined):
        return _distinct([(int(found[1]), found[2]) for found in defined if found])
    return (
        {label: known[label] for label in (_label(word, known or {}) for word in chosen)} if known else _unknown(chosen)
    )


def all_labels(predictions: Masks, references: Masks, names: Names | None) -> frozenset[int] | None:
    """The labels that masks may hold: all known ones, also those that are not scored; None if any may occur."""
    known = _known(predictions, references)
    return None if names is None else frozenset({*names, *(known or {})})


def _distinct(pairs: Sequence[tuple[int, str]]) -> Names:
    """Without the background; a name or a number that comes twice would hide a class."""
    for place in (0, 1):
        given = [pair[place] for pair in pairs]
        twice = next((one for one in given if given.count(one) > 1), None)
        if twice is not None:
            raise UsageError(f"classes: {twice} is given twice", hint="Give each label its own name")
    return {label: name for label, name in pairs if label}


def _unknown(chosen: Sequence[str]) -> Names:
    numbers = [word for word in chosen if word.isdecimal() and int(word)]
    if len(numbers) != len(chosen):
        word = next(word for word in chosen if word not in numbers)
        raise UsageError(f"there is no class {word!r}: nothing names the classes", hint="Write them as 1=NAME 2=NAME")
    return {int(word): word for word in numbers}


def _label(word: str, known: Names) -> int:
    by_name = {name: label for label, name in known.items()}
    label = by_name.get(word, int(word) if word.isdecimal() else None)
    if label not in known:
        raise UsageError(f"there is no class {word!r}", hint=f"The classes are {', '.join(known.values())}")
    return label


def _known(predictions: Masks, references: Masks) -> Names | None:
    if references.layout and references.layout.classes:
        return _without_background(dict(enumerate(references.layout.classes)))
    home = references.path if references.path.is_dir() else references.path.parent
    places = [home / FILE, home / "dataset.json", home.parent / "dataset.json", predictions.path / FILE]
    file = next((place for place in places if place.is_file()), None)
    return read_names(file) if file else None


def read_names(file: Path) -> Names:
    """Names from a ``labels.json`` or the ``labels`` of a ``dataset.json``.

    Understood are lists, ``{"1": "liver"}``, ``{"liver": 1}`` and ``{"1": {"name": "liver"}}``; labels may have gaps.

    Raises:
        DatasetError: it holds something else.
    """
    try:
        document = parse_json(file.read_bytes())
        labels = document["labels"] if file.name == "dataset.json" else document
        return _without_background(names_by_number(labels))
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise DatasetError(f"names no classes: {error}", path=file, hint='Write {"1": "liver", ...}') from error


def _without_background(names: Names) -> Names:
    return {label: name for label, name in names.items() if label != 0}
