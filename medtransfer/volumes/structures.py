"""The structures that a mask shows, and the boxes around them; boxes as in :mod:`medtransfer.volumes.boxes`."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..errors import UsageError
from .boxes import Boxes

BoxOf: TypeAlias = Literal["class", "component"]
_MANY = 2**16  # of a label number: a table of so many classes is not built
_TOUCHING = np.ones((3, 3, 3), dtype=bool)


def boxes_of_labels(labels: npt.NDArray[np.integer], each: BoxOf = "class") -> tuple[Boxes, npt.NDArray[np.int64]]:
    """The boxes around the structures of a mask.

    Args:
        labels: (I, J, K); numbers below 1 are background.
        each: One box for a ``class``, or for each ``component`` of a class; voxels that touch at a corner are one.

    Returns:
        Boxes (N, 6) and their class numbers (N,), in the order of the numbers.

    Raises:
        UsageError: another ``each``, or another number of axes.

    >>> labels = np.zeros((4, 4, 4), int)
    >>> labels[0, 0, 0] = labels[2:, 1:3, 0] = 2
    >>> boxes_of_labels(labels)[0].tolist()
    [[0.0, 0.0, 0.0, 4.0, 3.0, 1.0]]
    >>> boxes_of_labels(labels, "component")[0].tolist()
    [[0.0, 0.0, 0.0, 1.0, 1.0, 1.0], [2.0, 1.0, 0.0, 4.0, 3.0, 1.0]]
    """
    numbered, owners = number_structures(labels, each) if each != "class" else (labels, None)
    found = _classes(numbered)
    boxes = np.array([_box(part) for _, part in found], dtype=np.float64).reshape(-1, 6)
    numbers = np.array([number for number, _ in found], dtype=np.int64)
    return boxes, numbers if owners is None else owners


def number_structures(
    labels: npt.NDArray[np.integer], each: BoxOf = "component"
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Every structure of a mask under a number of its own, from 1, in the order of the classes.

    Args:
        labels: As `boxes_of_labels`.
        each: What a structure is.

    Returns:
        The numbers (I, J, K), and the class (N,) of each structure.

    Raises:
        UsageError: as `boxes_of_labels`.

    >>> numbers, classes = number_structures(np.array([[[5, 5, 0, 5]]]))
    >>> numbers.tolist(), classes.tolist()
    ([[[1, 1, 0, 2]]], [5, 5])
    """
    if each not in ("class", "component"):
        raise UsageError(f"boxes must be around each 'class' or each 'component', got {each!r}")
    numbered = np.zeros(labels.shape, dtype=np.int32)
    owners: list[int] = []
    for number, part in _classes(labels):
        mask = labels[part] == number
        found, count = ndimage.label(mask, _TOUCHING) if each == "component" else (mask, 1)
        numbered[part][mask] = found[mask] + len(owners)
        owners += [number] * count
    return numbered, np.array(owners, dtype=np.int64)


def _classes(labels: npt.NDArray[np.integer]) -> list[tuple[int, tuple[slice, ...]]]:
    """The numbers above 0 and the part of the volume that holds each."""
    if labels.ndim != 3:
        raise UsageError(f"labels must be (I, J, K), got the shape {labels.shape}")
    many = labels.max(initial=0) > _MANY
    numbers = np.unique(labels[labels > 0]) if many else None
    listed = labels if numbers is None else np.where(labels > 0, np.searchsorted(numbers, labels) + 1, 0)
    parts = ndimage.find_objects(listed.astype(np.int32, copy=False))
    return [
        (index if numbers is None else int(numbers[index - 1]), part) for index, part in enumerate(parts, 1) if part
    ]


def _box(part: tuple[slice, ...]) -> list[int]:
    return [*(axis.start for axis in part), *(axis.stop for axis in part)]
