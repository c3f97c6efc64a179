"""Connected parts of the classes of a mask: the largest kept, the holes in them filled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]


def keep_largest(labels: npt.NDArray[Any], numbers: Sequence[int]) -> None:
    """Of each class only its largest connected part (26 neighbours), in place; the others become 0.

    >>> line = np.array([1, 0, 1, 1, 2]).reshape(5, 1, 1)
    >>> keep_largest(line, (1, 2))
    >>> line.ravel().tolist()
    [0, 0, 1, 1, 2]
    """
    _each(labels, numbers, lambda part: part & ~_largest(part), 0)


def fill_holes(labels: npt.NDArray[Any], numbers: Sequence[int]) -> None:
    """Background that a class encloses on all sides (6 neighbours) becomes that class, in place."""
    _each(labels, numbers, lambda part: ndimage.binary_fill_holes(part) & ~part, None)


def _each(labels: npt.NDArray[Any], numbers: Sequence[int], change: Callable[[Mask], Mask], value: int | None) -> None:
    """Set the voxels that ``change`` finds for a class, within its box: to ``value``, or background to the class."""
    boxes = ndimage.find_objects(labels, max_label=max(numbers)) if numbers else []
    for number in numbers:
        if boxes[number - 1] is None:
            continue
        part = labels[boxes[number - 1]]
        found = change(part == number)
        part[found if value is not None else found & (part == 0)] = number if value is None else value


def _largest(part: Mask) -> Mask:
    parts, count = ndimage.label(part, structure=np.ones((3, 3, 3)))
    return parts == np.bincount(parts.ravel())[1:].argmax() + 1 if count > 1 else part
