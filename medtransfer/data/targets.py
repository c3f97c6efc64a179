"""Several targets of one scan in a CSV table: masks, classes and quantities, of which a case may lack some."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from ..errors import ConfigError, DatasetError
from .cases import Case, Found, Layout, refused, unique_cases
from .class_names import find_class_names, with_classes
from .occurrence import check_occurrence, classes_of
from .rows import Row, read_rows
from .table import (
    case_words,
    channel_names,
    class_problems,
    image_columns,
    is_fraction,
    label_file_problems,
    scan_problems,
    sorted_names,
)

#: cells that say, as an empty one does, that something is not known
UNKNOWN = ("", "n/a", "na", "nan")
HINT = "For example targets=dict(organs=dict(task='segmentation', column='mask'), age=dict(task='regression'))"

_MOST = 1e18  # squares of more are no float32

Columns: TypeAlias = tuple[str, ...]
Value: TypeAlias = "Path | int | tuple[float, ...]"


class Target(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What is to be learnt of each case: one head of a multi-task network.

    Attributes:
        task: ``segmentation`` (the cells name label files), ``classification`` or ``regression``.
        column: The column, by default that of the head's name; of a regression of several quantities a list of them.
        classes: Names of the classes in order. By default those of a classification are the distinct cells, those of a
            segmentation stand in a ``labels.json`` beside the table or are counted.
    """

    task: Literal["segmentation", "classification", "regression"]
    column: str | Columns | None = None
    classes: Columns = ()


@dataclass(frozen=True)
class Head:
    """A target with its name, as a table has it.

    Attributes:
        name, task: Of the head.
        columns: Where its values stand.
        classes: Names of the classes; of a regression those of its quantities.
        mean, std: Of the training cases, of each quantity; empty where nothing was measured.
    """

    name: str
    task: str
    columns: Columns
    classes: Columns = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class TargetCase(Case):
    """A case with the values of the targets that it has: a label file, a class number, or quantities."""

    values: Mapping[str, Value] = field(default_factory=dict)

    @property
    def masks(self) -> tuple[Path, ...]:
        """The label files of all segmentations."""
        return tuple(value for value in self.values.values() if isinstance(value, Path))


@dataclass(frozen=True)
class TargetLayout(Layout):
    """A layout whose cases have several targets; its classes are the names of the heads."""

    heads: tuple[Head, ...] = ()

    def single(self, head: Head, cases: Sequence[Case] | None = None) -> Layout:
        """One target alone, as the layout of a task of its own, with the cases that have it."""
        chosen = [case for case in cases or self.cases if isinstance(case, TargetCase) and head.name in case.values]
        own = tuple(Case(c.id, c.images, c.values[head.name], c.patient, c.part) for c in chosen)  # type: ignore[arg-type]
        task: Any = head.task
        return Layout(self.path, task, own, self.channels, head.classes)


def read_targets(given: Mapping[str, Any] | None) -> dict[str, Target]:
    """The config key ``targets`` as checked objects.

    Raises:
        ConfigError: no target, an unknown key, or a value of the wrong kind.

    >>> read_targets(dict(age=dict(task="regression"))).keys()
    dict_keys(['age'])
    """
    if not given:
        raise ConfigError("targets says what is learnt of the cases, and is missing", hint=HINT)
    try:
        targets = msgspec.convert(msgspec.to_builtins(dict(given)), dict[str, Target])
    except (msgspec.ValidationError, TypeError) as error:
        raise ConfigError(f"targets: {error}", hint=HINT) from error
    for name, target in targets.items():
        if target.task != "regression" and isinstance(target.column, tuple):
            raise ConfigError(f"targets.{name}: a {target.task} has one column, got {', '.join(target.column)}")
        if target.task == "regression" and target.classes:
            raise ConfigError(f"targets.{name}: a regression has no classes", hint="Its quantities are its columns")
        for word, listed in (("classes", target.classes), ("columns", _columns(name, target))):
            if len(set(listed)) < len(listed):
                raise ConfigError(f"targets.{name}: {word} must differ, got {', '.join(listed)}")
    return targets


def find_targets(path: str | Path, targets: Mapping[str, Target], channels: Sequence[str] | None = None) -> Found:
    """What is found of a table with several targets.

    Columns ``image`` (``image2``, ``image_t1`` ...), ``id``, ``patient`` and ``split`` are as in
    :func:`~medtransfer.data.table.find_table`. An empty cell, ``n/a``, ``na`` or ``nan`` is a target that is not
    known; of a regression of several quantities one such cell makes the target unknown. Rows without any known target
    are left out, with a warning.

    Args:
        path: The table.
        targets: Name of the head -> what it is.
        channels: Names of the channels, those of the columns by default.
    """
    path = Path(path)
    columns_of = {name: _columns(name, target) for name, target in targets.items()}
    try:
        columns, rows, problems = read_rows(path)
        images = image_columns(columns, path, needed=[word for words in columns_of.values() for word in words])
    except DatasetError as error:
        return refused(error, path, "table")
    names = channel_names(images, channels, problems)
    heads = tuple(_head(name, target, columns_of[name], rows) for name, target in targets.items())
    heads = _with_listed_names(heads, path.parent, problems)
    sound = [case for row in rows if (case := _case(row, list(images), heads, path.parent, problems))]
    cases = unique_cases(sound, problems, "occurs")
    known = tuple(case for case in cases if isinstance(case, TargetCase) and case.values)
    problems += [] if known or problems else [f"no case has any of the targets {', '.join(targets)}"]
    bare = [case.id for case in cases if case not in known]
    warnings = (f"{len(bare)} cases have none of the targets and are left out: {', '.join(bare[:8])}",) if bare else ()
    labels = tuple(targets)
    layout = TargetLayout(path, "multitask", known, names, labels, warnings, heads=heads) if known else None
    return Found(path, "table", layout, tuple(problems), warnings)


def _columns(name: str, target: Target) -> Columns:
    given = name if target.column is None else target.column
    # the columns of a table are read in lower case
    return tuple(word.lower() for word in ((given,) if isinstance(given, str) else given))


def _head(name: str, target: Target, columns: Columns, rows: Sequence[Row]) -> Head:
    classes = target.classes
    if target.task == "regression":
        classes = columns
    elif target.task == "classification" and not classes:
        cells = {row.get(columns[0]) for row in rows}
        classes = tuple(sorted_names({cell for cell in cells if not is_unknown(cell) and not is_fraction(cell)}))
    return Head(name, target.task, columns, classes)


def is_unknown(cell: str) -> bool:
    """Whether a cell says that something is not known.

    >>> is_unknown("NaN"), is_unknown("none")
    (True, False)
    """
    return cell.lower() in UNKNOWN


def _with_listed_names(heads: tuple[Head, ...], folder: Path, problems: list[str]) -> tuple[Head, ...]:
    """With the names of a ``labels.json``, where it is plain whose they are."""
    open_ones = [head for head in heads if head.task == "segmentation"]
    if len(open_ones) != 1 or open_ones[0].classes:
        return heads
    named = find_class_names(folder, problems)
    return tuple(replace(head, classes=named) if head in open_ones else head for head in heads)


def _case(row: Row, images: Sequence[str], heads: Sequence[Head], root: Path, problems: list[str]) -> TargetCase | None:
    """The case of a row, if nothing is wrong with it."""
    found, files = scan_problems(row, images, root)
    values: dict[str, Value] = {}
    for head in heads:
        cells = [row.get(column) for column in head.columns]
        # a class that is listed may be called so
        if any(is_unknown(cell) and cell not in (head.classes if cell else ()) for cell in cells):
            continue
        wrong = _PROBLEMS[head.task](cells, files, head.classes, root)
        found += [f"{head.name}: {text}" for text in wrong]
        if not wrong:
            values[head.name] = _value(head, cells, root)
    problems += [f"line {row.line}: {text}" for text in found]
    return None if found else TargetCase(values=values, **case_words(row, files, root))


def _value(head: Head, cells: Sequence[str], root: Path) -> Value:
    if head.task == "segmentation":
        return root / cells[0]
    return head.classes.index(cells[0]) if head.task == "classification" else tuple(map(float, cells))


def _number_problems(cells: Sequence[str], *_: Any) -> list[str]:
    return [f"{cell!r} is no number" for cell in cells if not _is_number(cell)]


def _is_number(cell: str) -> bool:
    try:
        return abs(float(cell)) < _MOST
    except ValueError:
        return False


_PROBLEMS = {
    "segmentation": lambda cells, *rest: label_file_problems(cells[0], *rest),
    "classification": lambda cells, *rest: class_problems(cells[0], *rest),
    "regression": _number_problems,
}


def assumed_targets(layout: Layout, targets: Mapping[str, Target]) -> TargetLayout:
    """A layout for data that are not there: two classes where none are named."""
    heads = tuple(_head(name, target, _columns(name, target), ()) for name, target in targets.items())
    heads = tuple(head if head.classes else replace(head, classes=("0", "1")) for head in heads)
    return TargetLayout(layout.path, "multitask", (), layout.channels, tuple(targets), heads=heads)


def with_counted_classes(layout: TargetLayout) -> TargetLayout:
    """With the classes of segmentations that nothing names, which are counted in their label files.

    Raises:
        VolumeError: a label file was refused.
        DatasetError: a label file holds numbers that cannot be those of classes.
    """
    full = [with_classes(layout.single(head)) for head in layout.heads]
    heads = tuple(replace(head, classes=one.classes) for head, one in zip(layout.heads, full, strict=True))
    warnings = [f"{head.name}: {text}" for head, one in zip(heads, full, strict=True) for text in one.warnings]
    return replace(layout, heads=heads, warnings=(*layout.warnings, *warnings))


def with_scales(layout: TargetLayout, train: Sequence[Case]) -> TargetLayout:
    """With mean and standard deviation of each quantity in the training cases.

    Raises:
        DatasetError: no training case has a target, or all have the same value.
    """
    return replace(layout, heads=tuple(_measured(layout, head, train) for head in layout.heads))


def _measured(layout: TargetLayout, head: Head, train: Sequence[Case]) -> Head:
    values = [case.values[head.name] for case in train if isinstance(case, TargetCase) and head.name in case.values]
    if not values:
        hint = "Take more training cases or another seed"
        raise DatasetError(f"no training case has the target {head.name!r}", path=layout.path, hint=hint)
    if head.task != "regression":
        return head
    columns = list(zip(*values, strict=True))
    mean = tuple(math.fsum(column) / len(column) for column in columns)
    std = tuple(
        math.sqrt(math.fsum((value - middle) ** 2 for value in column) / len(column))
        for column, middle in zip(columns, mean, strict=True)
    )
    if not all(deviation > 0 for deviation in std):
        quantity = head.classes[std.index(0.0)]
        raise DatasetError(f"{quantity!r} is the same in all training cases", path=layout.path,
                           hint="Leave the target away, or take more training cases")  # fmt: skip
    return replace(head, mean=mean, std=std)


def check_targets(layout: TargetLayout, found: Mapping[str, Mapping[str, set[int]]], val: Sequence[Case]) -> list[str]:
    """What should be known of the classes that training sees, head by head; see :func:`check_occurrence`.

    Args:
        layout: With the classes of each head.
        found: Head -> training case -> the classes in its label.
        val: The validation cases.
    """
    notes = []
    for head in layout.heads:
        if head.task != "regression":
            one = layout.single(head, val)
            elsewhere = lambda one=one: set().union(*(classes_of(case.label) for case in one.cases))  # noqa: E731
            notes += [f"{head.name}: {note}" for note in check_occurrence(one, found.get(head.name, {}), elsewhere)]
    return notes
