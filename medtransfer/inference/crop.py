"""The box around what a scan shows, so that empty surroundings cost no passes of the network."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Box = tuple[slice, slice, slice]
MARGIN = 8  # voxels around what is seen, so that the network sees where it ends
CERTAIN = 10.0  # the logit of background outside, against minus as much for each other class


def whole_box(array: npt.NDArray[np.float32]) -> Box:
    """The box of all voxels of (C, D, H, W)."""
    depth, height, width = array.shape[1:]
    return slice(0, depth), slice(0, height), slice(0, width)


def foreground_box(array: npt.NDArray[np.float32], margin: int = MARGIN) -> Box | None:
    """The box (D, H, W) of the voxels of (C, D, H, W) that differ from the surroundings in any channel.

    The surroundings are the value that a channel's outer faces hold most often (0 in a stripped brain, -1024 in a CT).
    None for a scan of nothing but surroundings.

    >>> image = np.zeros((1, 30, 30, 30), np.float32)
    >>> image[0, 10:12, 20, 5] = 1
    >>> foreground_box(image, margin=2)
    (slice(8, 14, None), slice(18, 23, None), slice(3, 8, None))
    """
    seen: npt.NDArray[np.bool_] = np.zeros(array.shape[1:], dtype=bool)
    for channel in array:
        seen |= channel != _surroundings(channel)
    lines = [np.flatnonzero(seen.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    if not len(lines[0]):
        return None
    spans = [_span(line, size, margin) for line, size in zip(lines, seen.shape, strict=True)]
    return spans[0], spans[1], spans[2]


def _span(line: npt.NDArray[np.intp], size: int, margin: int) -> slice:
    return slice(max(0, int(line[0]) - margin), min(size, int(line[-1]) + 1 + margin))


def with_surroundings(
    slabs: Iterable[Tensor], box: Box, shape: tuple[int, int, int], firsts: Sequence[int] = (0,)
) -> Iterator[Tensor]:
    """Slabs (K, d, h, w) of a box, as slabs of the whole volume of ``shape``.

    Outside the box is the first class; of several heads, whose logits lie behind each other, the first of each.
    """
    row, blank = 0, torch.zeros(0)
    for slab in slabs:
        if not row:
            blank = _blank(slab, shape, firsts)
            yield from itertools.repeat(blank, box[0].start)
            row = box[0].start
        for one in slab.split(1, dim=1):  # one at a time: they may be many, and all classes of them much memory
            full = blank.clone()
            full[:, :, box[1], box[2]] = one
            yield full
        row += slab.shape[1]
    yield from itertools.repeat(blank, shape[0] - row)


def _blank(like: Tensor, shape: tuple[int, int, int], firsts: Sequence[int]) -> Tensor:
    """One row of surroundings."""
    blank = like.new_full((len(like), 1, *shape[1:]), -CERTAIN)
    blank[list(firsts)] = CERTAIN
    return blank


def _surroundings(channel: npt.NDArray[np.float32]) -> np.float32:
    faces = [channel.take(end, axis).ravel() for axis in range(3) for end in (0, -1)]
    values, counts = np.unique(np.concatenate(faces), return_counts=True)
    return np.float32(values[counts.argmax()])
