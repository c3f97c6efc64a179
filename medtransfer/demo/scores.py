"""Dice of the written masks on the part of the scan that no training saw."""

from __future__ import annotations

import numpy as np


def dice_by_class(labels: np.ndarray, reference: np.ndarray, classes: tuple[str, ...]) -> dict[str, float]:
    """Dice of every class but the background, by name; NaN for a class that is in neither.

    >>> dice_by_class(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]), ("background", "a", "b"))
    {'a': 0.6666666666666666, 'b': 0.6666666666666666}
    """
    return {name: _dice(labels == label, reference == label) for label, name in enumerate(classes) if label}


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    size = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / size if size else float("nan")
