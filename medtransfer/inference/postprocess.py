"""What may be done to a mask after the network: other classes left out, stray parts removed, holes filled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..errors import UsageError

Mask = npt.NDArray[np.bool_]
Choice = bool | Sequence[str]


@dataclass(frozen=True)
class Cleaning:
    """What is done to a mask, by class numbers; all empty: nothing."""

    kept: tuple[int, ...] | None = None
    largest: tuple[int, ...] = ()
    filled: tuple[int, ...] = ()

    @classmethod
    def build(
        cls, names: Sequence[str], classes: Sequence[str] | None, largest_component: Choice, fill_holes: Choice
    ) -> Cleaning:
        """From the names of a model's classes and the options of a predictor.

        Raises:
            UsageError: a name that is no class.
        """
        return cls(
            None if classes is None else chosen_numbers(classes, names, "classes"),
            chosen_numbers(largest_component, names, "largest_component"),
            chosen_numbers(fill_holes, names, "fill_holes"),
        )

    def apply(self, labels: npt.NDArray[Any]) -> None:
        """Clean labels (I, J, K) in place: stray parts before holes, since a stray part may lie in a hole."""
        keep_largest(labels, self.largest)
        fill_holes(labels, self.filled)
        if self.kept is not None:
            keep_classes(labels, self.kept)


def chosen_numbers(chosen: Choice, classes: Sequence[str], option: str) -> tuple[int, ...]:
    """The numbers of the classes that an option means: all but the background for True.

    Raises:
        UsageError: a name that is no class, or the background; lists those there are.

    >>> chosen_numbers(["lesion"], ["background", "organ", "lesion"], "fill_holes")
    (2,)
    """
    if isinstance(chosen, bool):
        return tuple(range(1, len(classes))) if chosen else ()
    names = list(classes[1:])
    unknown = [name for name in chosen if name not in names]
    if isinstance(chosen, str) or unknown:
        wrong = chosen if isinstance(chosen, str) else ", ".join(unknown)
        raise UsageError(f"{option}: {wrong!r} is no class of the model", hint=f"Its classes are {', '.join(names)}")
    return tuple(names.index(name) + 1 for name in chosen)


def keep_classes(labels: npt.NDArray[Any], numbers: Sequence[int]) -> None:
    """Set every other class to 0, in place."""
    labels[~np.isin(labels, numbers)] = 0


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
    boxes = ndimage.find_objects(labels, max_label=max(numbers, default=0))
    for number in numbers:
        if boxes[number - 1] is None:
            continue
        part = labels[boxes[number - 1]]
        found = change(part == number)
        part[found if value is not None else found & (part == 0)] = number if value is None else value


def _largest(part: Mask) -> Mask:
    parts, count = ndimage.label(part, structure=np.ones((3, 3, 3)))
    return parts == np.bincount(parts.ravel())[1:].argmax() + 1 if count > 1 else part
