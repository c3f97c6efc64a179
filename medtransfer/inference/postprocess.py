"""What may be done to a mask after the network: other classes left out, stray parts removed, holes filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError

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
        if self.largest or self.filled:
            # scipy, which most predictions do without, takes a while to be read
            from .components import fill_holes, keep_largest

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
