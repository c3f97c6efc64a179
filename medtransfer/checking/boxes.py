"""Boxes of a list against their scans: those outside, and how large the boxes of each class are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..data.box_places import outside_text, place_boxes
from ..data.cases import Layout, ListedBoxes
from ..reporting.words import counted
from ..volumes.boxes import boxes_to_world
from ..volumes.grid import Grid
from .facts import CaseFacts, Severity

Sizes = tuple[tuple[float, ...], ...]
REACH = 1.0  # voxels that a box may reach beyond its scan
TURNED = np.array([-1.0, -1.0, 1.0])


def box_sizes(listed: ListedBoxes, grid: Grid, classes: Sequence[str]) -> dict[str, Sizes]:
    """Sizes of the boxes by class, in mm along the axes of the list: the world's, or the scan's own.

    >>> box_sizes(ListedBoxes(((0, 0, 0, 2, 3, 4),), (1,), "world"), Grid((4, 4, 4), np.eye(4)), ["background", "cyst"])
    {'cyst': ((2.0, 3.0, 4.0),)}
    """
    corners = _corners(listed)
    sizes = boxes_to_world(corners, grid)[1] if listed.space == "voxel" else corners[:, 3:] - corners[:, :3]
    labels = np.asarray(listed.labels)
    return {
        name: tuple(tuple(row) for row in sizes[labels == number].tolist())
        for number, name in enumerate(classes)
        if number
    }


def box_problems(listed: ListedBoxes, grid: Grid) -> Iterator[tuple[Severity, str]]:
    """Boxes whose centre lies outside of the scan are errors; those that reach beyond it, warnings."""
    boxes, outside = place_boxes(listed, grid, grid)
    if outside:
        yield "error", outside_text(outside, len(boxes)) + _way_out(listed, grid)
    beyond = np.maximum(-boxes[:, :3], boxes[:, 3:] - grid.shape).max(axis=1, initial=0)
    for index in np.flatnonzero(beyond > REACH):
        if index not in outside:
            yield "warning", f"box {index} reaches {beyond[index]:.3g} voxels beyond the scan and is cut off"


def box_notes(layout: Layout, cases: Sequence[CaseFacts]) -> list[str]:
    """How many boxes of each class there are, and how large."""
    known = [facts.boxes for facts in cases if facts.boxes is not None]
    if not known:
        return []
    empty = sum(not any(boxes.values()) for boxes in known)
    rows = [(name, *summary) for name in layout.classes[1:] if (summary := summarised(known, name))]
    notes = [
        f"{name}: {counted(boxes, 'box')} in {counted(having, 'case')}, {least} to {most} mm, median {middle}"
        for name, having, boxes, least, middle, most in rows
    ]
    return [*notes, f"{counted(empty, 'case')} without any box"] if empty else notes


def summarised(known: Sequence[Mapping[str, Sizes]], name: str) -> tuple[int, int, str, str, str] | None:
    """Cases and boxes of a class, and the least, median and largest size along each axis; None if there is no box.

    >>> summarised([{"cyst": ((2, 3, 4), (4, 3, 4))}, {"cyst": ()}], "cyst")
    (1, 2, '2 x 3 x 4', '3 x 3 x 4', '4 x 3 x 4')
    """
    sizes = np.array([size for boxes in known for size in boxes.get(name, ())])
    if not len(sizes):
        return None
    least, middle, most = (" x ".join(f"{value:.3g}" for value in look(sizes, axis=0)) for look in _LOOKS)
    return sum(bool(boxes.get(name)) for boxes in known), len(sizes), least, middle, most


_LOOKS = (np.min, np.median, np.max)
_OTHER_WORLD = "; in the other world of box_space, left and right and front and back exchanged, all lie inside"


def _corners(listed: ListedBoxes) -> npt.NDArray[np.float64]:
    return np.asarray(listed.corners, dtype=np.float64).reshape(-1, 6)


def _way_out(listed: ListedBoxes, grid: Grid) -> str:
    """What would put all boxes into the scan, if anything does."""
    lower, upper = np.hsplit(_corners(listed), 2)
    ends = np.sort([lower * TURNED, upper * TURNED], axis=0)
    turned = ListedBoxes(tuple(map(tuple, np.hstack([*ends]).tolist())), listed.labels)
    inside = listed.space == "world" and not place_boxes(turned, grid, grid)[1]
    return _OTHER_WORLD if inside else ""
