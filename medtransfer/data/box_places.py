"""Where the boxes of a list lie on a grid. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..volumes.boxes import boxes_from_world, move_boxes
from ..volumes.grid import Grid
from .cases import ListedBoxes


def place_boxes(listed: ListedBoxes, scan: Grid, working: Grid) -> tuple[npt.NDArray[np.float64], list[int]]:
    """Boxes of a list on the working grid (N, 6), and the numbers of those whose centres lie outside of it."""
    corners = np.asarray(listed.corners, dtype=np.float64).reshape(-1, 6)
    if listed.space == "voxel":
        boxes = corners if working is scan else move_boxes(corners, scan, working)
    else:
        lower, upper = np.hsplit(corners, 2)
        boxes = boxes_from_world((lower + upper) / 2, upper - lower, working)
    centres = (boxes[:, :3] + boxes[:, 3:]) / 2
    outside = ((centres < 0) | (centres > working.shape)).any(axis=1)
    return boxes, np.flatnonzero(outside).tolist()


def outside_text(outside: Sequence[int], count: int) -> str:
    """What is said of boxes outside of their scan.

    >>> outside_text([0, 2], 5)
    'boxes 0, 2 of 5 lie outside of the scan'
    """
    listed = ", ".join(map(str, outside[:8])) + (" ..." if len(outside) > 8 else "")
    return f"box{'es' * (len(outside) > 1)} {listed} of {count} lie{'s' * (len(outside) == 1)} outside of the scan"
