"""Three orthogonal planes through a structure: which slice to show, and how its axes lie on the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Convention = Literal["radiological", "neurological"]


@dataclass(frozen=True)
class Plane:
    """One viewing plane of an RAS array; axes are 0 (to the right), 1 (to the front), 2 (to the head).

    ``normal`` is the axis through the plane, ``across`` and ``up`` are those along the picture's width and height.
    """

    name: str
    normal: int
    across: int
    up: int

    def letters(self, convention: Convention) -> dict[str, str]:
        """Orientation letters at the picture's ``left``, ``right``, ``top`` and ``bottom``.

        >>> AXIAL.letters("radiological")
        {'left': 'R', 'right': 'L', 'top': 'A', 'bottom': 'P'}
        >>> AXIAL.letters("neurological")["left"]
        'L'
        """
        left, right = _ENDS[self.across]
        if convention == "radiological":
            left, right = right, left
        bottom, top = _ENDS[self.up]
        return {"left": left, "right": right, "top": top, "bottom": bottom}

    def cut(self, array: np.ndarray, index: int, convention: Convention) -> np.ndarray:
        """The slice as a picture: rows from top to bottom, columns from left to right."""
        order = [self.up, self.across]
        flat = array[(slice(None),) * self.normal + (index,)]  # np.take would first copy a turned array whole
        picture = flat if order[0] < order[1] else flat.T
        picture = picture[::-1]
        return picture[:, ::-1] if convention == "radiological" else picture


_ENDS = (("L", "R"), ("P", "A"), ("I", "S"))
AXIAL = Plane("axial", normal=2, across=0, up=1)
CORONAL = Plane("coronal", normal=1, across=0, up=2)
SAGITTAL = Plane("sagittal", normal=0, across=1, up=2)
PLANES = (AXIAL, CORONAL, SAGITTAL)


def structure_centre(labels: np.ndarray) -> tuple[int, int, int]:
    """Index of the slices through the foreground's centre; the volume's middle where there is no foreground.

    The median of each coordinate is taken: unlike the mean, its slice always holds a voxel of the structure.

    >>> labels = np.zeros((9, 9, 9), int)
    >>> labels[2:5, 6, 1] = 1
    >>> structure_centre(labels)
    (3, 6, 1)
    """
    foreground = labels > 0
    if not foreground.any():
        return labels.shape[0] // 2, labels.shape[1] // 2, labels.shape[2] // 2
    return _median_index(foreground, 0), _median_index(foreground, 1), _median_index(foreground, 2)


def _median_index(foreground: np.ndarray, axis: int) -> int:
    others = tuple(other for other in range(3) if other != axis)
    counts = np.cumsum(foreground.sum(axis=others))
    return int(np.searchsorted(counts, counts[-1] / 2))


def count_labels(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Voxels of each class, (num_classes,), slice by slice: whole, a large volume would be copied as eight bytes each.

    >>> count_labels(np.array([[[0, 2]], [[2, 2]]]), 4).tolist()
    [1, 0, 3, 0]
    """
    slices = np.moveaxis(labels, int(np.argmax(np.abs(labels.strides))), 0)
    counts = np.zeros(num_classes, np.int64)
    for piece in slices:
        counts += np.bincount(piece.ravel(order="K"), minlength=num_classes)
    return counts
