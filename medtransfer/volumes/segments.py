"""The classes of a mask as the segments that other programs show: a number, a name, a colour, a box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError, VolumeError
from .grid import Grid

#: The box of a segment without voxels, as Slicer writes it.
EMPTY = (0, -1, 0, -1, 0, -1)


@dataclass(frozen=True)
class Segment:
    """One class of a mask.

    Attributes:
        number: Its label.
        name: Its name, on one line.
        colour: Red, green and blue, 0 to 255, if one is given.
        extent: First and last voxel along I, J and K.
    """

    number: int
    name: str
    colour: tuple[int, int, int] | None
    extent: tuple[int, ...]


def find_segments(
    labels: npt.NDArray[Any], grid: Grid, classes: Sequence[str], colours: Sequence[Sequence[int]] | None = None
) -> list[Segment]:
    """All classes but the background, whether they occur or not.

    Args:
        labels: (I, J, K), whole numbers from 0 to the number of classes less 1.
        grid: What they must lie on.
        classes: Names, the background first.
        colours: One for each class, the background first.

    Raises:
        VolumeError: another shape than the grid, or no whole numbers.
        UsageError: labels without a name, or another number of colours than of classes.

    >>> mask = np.zeros((3, 4, 5), int)
    >>> mask[1, 1:3, 4] = 1
    >>> find_segments(mask, Grid((3, 4, 5), np.eye(4)), ["background", "liver"])
    [Segment(number=1, name='liver', colour=None, extent=(1, 1, 1, 2, 4, 4))]
    """
    if labels.shape != grid.shape:
        raise VolumeError(f"the array has shape {labels.shape}, its reference grid {grid.shape}")
    if labels.dtype.kind not in "iub":
        raise VolumeError(f"labels must be whole numbers, got {labels.dtype}")
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
        reason = f"labels run from {labels.min()} to {labels.max()}, there are {len(classes)} names of classes"
        raise UsageError(reason, hint="Name all classes, the background first")
    if colours is not None and len(colours) != len(classes):
        raise UsageError(f"{len(colours)} colours for {len(classes)} classes", hint="Give one each, background first")
    return [
        Segment(number, " ".join(str(classes[number]).split()), _colour(colours, number), _extent(labels == number))
        for number in range(1, len(classes))
    ]


def _colour(colours: Sequence[Sequence[int]] | None, number: int) -> tuple[int, int, int] | None:
    if colours is None:
        return None
    red, green, blue = colours[number]
    return int(red), int(green), int(blue)


def _extent(mask: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    if not mask.any():
        return EMPTY
    found = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return tuple(int(end) for places in found for end in (places[0], places[-1]))
