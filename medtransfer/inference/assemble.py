"""From the slabs of one or several networks to labels on the scan's own grid, a few rows at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..volumes.regrid import Regrid
from ..volumes.restore import restore_rows
from ..volumes.scratch import fits_memory, scratch_array
from .shapes import Shape, to_front

FEW = 16  # classes that are compared one after the other, which is quicker than torch's argmax over a first axis
LARGEST = 65504.0  # float16 ends there
CHUNK_BYTES = 64 << 20  # of logits that are on the scan's grid at once, for each network


@dataclass(frozen=True)
class Stream:
    """What one network gives: slabs along ``axis`` of its working grid, and the way back from there."""

    slabs: Iterable[Tensor]
    regrid: Regrid
    axis: int

    def rows(self, count: int) -> Iterator[Tensor]:
        """Logits (K, d, ., .) on the scan's oriented grid, ``count`` rows along the axis at a time."""
        inner, outer = self.regrid.target.shape, self.regrid.oriented.shape
        return restore_rows(self.slabs, to_front(inner, self.axis), to_front(outer, self.axis), count)


@dataclass(frozen=True)
class Assembled:
    """Labels (I, J, K), and logits (K, I, J, K) where they were kept, as :func:`shortened` gives them.

    Both are views in the order of the scan's own axes.
    """

    labels: npt.NDArray[Any]
    logits: npt.NDArray[np.floating] | None


def slab_axis(regrid: Regrid) -> int:
    """The axis of the working grid along which slabs are smallest: the scan's longest."""
    return int(np.argmax(regrid.oriented.shape))


def assemble_heads(streams: Sequence[Stream], sizes: Sequence[int], keep: bool | None = None) -> list[Assembled]:
    """Of every head, the class with the largest logit at every voxel of the scan.

    Several networks count by the mean of their probabilities, whose logarithm then stands for the logits.

    Args:
        streams: One a network, all with the same orientation and axis; the logits of the heads behind each other.
        sizes: How many classes each head has.
        keep: Keep the logits too, as :func:`shortened` gives them: in memory if they fit, else in a temporary file.
            None: only if they fit the memory.
    """
    regrid, axis = streams[0].regrid, streams[0].axis
    outer = to_front(regrid.oriented.shape, axis)
    heads = [(np.empty(outer, _smallest(size)), _room_for_logits((size, *outer), keep)) for size in sizes]
    count = max(1, CHUNK_BYTES // (4 * sum(sizes) * outer[1] * outer[2]))
    rows = [stream.rows(count) for stream in streams]
    for start in range(0, outer[0], count):
        _fill(heads, [next(one) for one in rows], sizes, start)
    return [
        Assembled(_scan_order(labels, regrid, axis), None if logits is None else _scan_order(logits, regrid, axis))
        for labels, logits in heads
    ]


def _fill(
    heads: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any] | None]],
    parts: Sequence[Tensor],
    sizes: Sequence[int],
    start: int,
) -> None:
    """Labels and logits of some rows; they are found where the logits are, so that little leaves a GPU."""
    place = slice(start, start + parts[0].shape[1])
    for (labels, logits), scores in zip(heads, _scores(parts, sizes), strict=True):
        labels[place] = winners(scores).cpu().numpy()
        if logits is not None:
            logits[:, place] = shortened(scores).cpu().numpy()


def shortened(scores: Tensor) -> Tensor:
    """Logits (K, ...) in float16, those of a voxel less the largest of them, which changes no probability.

    Near 0, where the likely classes then lie, float16 is finest: probabilities were off by 0.0002 at most in place of
    0.004, for the same time.

    >>> shortened(torch.tensor([[20.0], [19.5]])).tolist()
    [[0.0], [-0.5]]
    """
    return (scores - scores.amax(0)).clamp_(min=-LARGEST).half()


def winners(scores: Tensor) -> Tensor:
    """The number of the largest score of (K, ...), the first of several that are equal, in the smallest type.

    >>> winners(torch.tensor([[0.0, 2.0, 1.0], [1.0, 2.0, 3.0]]))
    tensor([1, 0, 1], dtype=torch.uint8)
    """
    if len(scores) > FEW:
        return scores.argmax(0).to(_TENSORS[_smallest(len(scores))])
    best = scores[0]
    found = torch.zeros(best.shape, dtype=torch.uint8, device=best.device)
    for number, score in enumerate(scores[1:], 1):
        # numbers rise, so that the largest that ever led is the last one; quicker than a masked assignment
        torch.maximum(found, (score > best).view(torch.uint8) * number, out=found)
        best = torch.maximum(best, score) if number + 1 < len(scores) else best
    return found


def _scores(parts: Sequence[Tensor], sizes: Sequence[int]) -> Iterator[Tensor]:
    """The logits of each head, of all networks together."""
    for single in zip(*(part.split(list(sizes)) for part in parts), strict=True):
        yield mean_logits(single)


def _smallest(classes: int) -> type[np.integer]:
    return np.uint8 if classes <= 256 else np.uint16 if classes <= 65_536 else np.int32


_TENSORS = {np.uint8: torch.uint8, np.uint16: torch.int32, np.int32: torch.int32}


def mean_logits(parts: Sequence[Tensor]) -> Tensor:
    """The logarithm of the mean of the probabilities of several logits (K, ...); those of a single one as they are.

    >>> mean_logits([torch.tensor([0.0, 0.0]), torch.tensor([9.0, 9.0])]).exp()
    tensor([0.5000, 0.5000])
    """
    if len(parts) == 1:
        return parts[0]
    logs = torch.stack([part.log_softmax(0) for part in parts])
    return torch.logsumexp(logs, 0) - math.log(len(parts))


def _room_for_logits(shape: Shape | tuple[int, ...], keep: bool | None) -> npt.NDArray[Any] | None:
    if keep is False or (keep is None and not fits_memory(2 * math.prod(shape))):
        return None
    return scratch_array(shape, np.float16)


def _scan_order(array: npt.NDArray[Any], regrid: Regrid, axis: int) -> npt.NDArray[Any]:
    lead = array.ndim - 3
    return regrid.unorient(np.moveaxis(array, lead, lead + axis))
