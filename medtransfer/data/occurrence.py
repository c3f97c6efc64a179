"""Which classes the labels of training cases hold: empty labels, and classes that nothing can be learnt of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ..errors import DatasetError
from ..volumes.read import read_labels
from .cases import Case, Label, Layout, ListedBoxes


def classes_of(label: Label) -> set[int]:
    """The classes in a label file or of boxes, or the one class of a case."""
    if isinstance(label, Path):
        return set(np.unique(read_labels(label).array).tolist())
    if isinstance(label, ListedBoxes):
        return set(label.labels)
    return set() if label is None else {label}


def check_occurrence(layout: Layout, found: Mapping[str, set[int]], elsewhere: Callable[[], set[int]]) -> list[str]:
    """What should be known of the classes that training sees.

    Args:
        layout: Names the classes. Background is none that must occur.
        found: The classes in the label of each training case.
        elsewhere: Gives the classes of the validation cases; called only where one is missing.

    Returns:
        A warning for each empty label, and for each class that occurs in validation only.

    Raises:
        DatasetError: a class occurs on neither side.
    """
    segments = layout.task == "segmentation"
    warnings = [f"case {name}: its label is empty" for name, classes in found.items() if segments and classes <= {0}]
    first = int(layout.task in ("segmentation", "detection"))  # without background
    absent = set(range(first, len(layout.classes))).difference(*found.values())
    never = absent - elsewhere() if absent else set()
    if never:
        reason = f"no training case has the class {_listed(layout, never)}"
        raise DatasetError(reason, path=layout.path, hint="Take more training cases or another seed")
    only = f"no training case has the class {_listed(layout, absent)}, though validation cases have it"
    return [*warnings, only] if absent else warnings


def classes_of_cases(cases: list[Case]) -> set[int]:
    """All classes that the labels of some cases hold."""
    return set().union(*(classes_of(case.label) for case in cases))


def _listed(layout: Layout, numbers: set[int]) -> str:
    return ", ".join(layout.classes[number] for number in sorted(numbers))
