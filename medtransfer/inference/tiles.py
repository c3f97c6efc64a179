"""Tiles with a halo: how a network that does not look at its whole input is run over a scan that is too large for it.

A tile sees a halo beyond what it answers for, since near its cut edges the network misses what lies outside. Where two
tiles meet, one fades into the other; all other voxels come from one tile alone. Tiles begin at multiples of the
network's stride, so that their grids of features are that of one pass over everything.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .shapes import Shape, round_up, shape_of, to_front

Place = tuple["Span", "Span", "Span"]


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in voxels of the padded scan.

    Args:
        start: The first voxel that it sees.
        stop: Behind the last one that it sees.
        low: The first voxel that it counts for.
        high: Behind the last one that it counts for.
        rise: Length of the fade from the tile before, from ``low`` on.
        fall: Length of the fade into the tile behind, up to ``high``.
    """

    start: int
    stop: int
    low: int
    high: int
    rise: int
    fall: int

    @property
    def inner(self) -> slice:
        """What counts, in voxels of the tile."""
        return slice(self.low - self.start, self.high - self.start)


@dataclass(frozen=True)
class Tiles:
    """Equal tiles that cover a scan.

    Args:
        padded: Size to which the scan is padded with 0, on both sides.
        window: Size of a tile; multiples of ``strides``, as ``padded`` is.
        halo: Voxels at a tile's cut edge that it sees and that do not count.
        strides: Tiles start at multiples of it.
    """

    padded: Shape
    window: Shape
    halo: Shape
    strides: Shape

    @property
    def is_whole(self) -> bool:
        """Whether there is one pass over everything."""
        return self.window == self.padded

    def starts(self) -> list[Shape]:
        """The first voxel of every tile.

        >>> Tiles((12, 4, 4), (8, 4, 4), (1, 1, 1), (2, 2, 2)).starts()
        [(0, 0, 0), (4, 0, 0)]
        """
        lines = [[span.start for span in self.spans(axis)] for axis in range(3)]
        return [(first, second, third) for first, second, third in itertools.product(*lines)]

    def spans(self, axis: int) -> list[Span]:
        """The tiles along an axis.

        >>> Tiles((12, 4, 4), (8, 4, 4), (1, 1, 1), (2, 2, 2)).spans(0)[0]
        Span(start=0, stop=8, low=0, high=7, rise=0, fall=2)
        """
        length, size, halo = self.padded[axis], self.window[axis], self.halo[axis]
        starts = _starts(length, size, halo, self.strides[axis])
        lows = [0, *(start + halo for start in starts[1:]), length]
        # a fade ends before the next but one tile begins to count
        highs = [min(start + size - halo, low) for start, low in zip(starts, [*lows[2:], length], strict=False)]
        highs[-1] = length
        fades = [0, *(max(0, high - low) for high, low in zip(highs[:-1], lows[1:-1], strict=True)), 0]
        each = zip(starts, lows[:-1], highs, fades[:-1], fades[1:], strict=True)
        return [Span(start, start + size, low, high, rise, fall) for start, low, high, rise, fall in each]

    def turned(self, axis: int) -> Tiles:
        """The same with ``axis`` first."""
        return Tiles(*(to_front(sizes, axis) for sizes in (self.padded, self.window, self.halo, self.strides)))


@dataclass(frozen=True)
class Room:
    """What a plan may take.

    Args:
        total: Bytes.
        voxel: Bytes of a pass for each voxel of a tile.
        blended: Bytes for each voxel of a layer of tiles that wait to be joined.
        axis: Along which layers are given, one after the other.
    """

    total: int
    voxel: float
    blended: float = 0.0
    axis: int = 0


def plan_tiles(padded: Sequence[int], strides: Sequence[int], halo: Sequence[int], room: Room) -> Tiles | None:
    """The tiles that compute the fewest voxels in that room; of those that are alike, the fewest tiles. None: none fit.

    >>> plan_tiles((64, 64, 64), (8, 8, 8), (8, 8, 8), Room(64 * 64 * 40, 1.0)).window
    (64, 64, 40)
    """
    axes = [_choices(*three) for three in zip(padded, strides, halo, strict=True)]
    sizes = np.meshgrid(*[sizes for sizes, _ in axes], indexing="ij", sparse=True)
    counts = np.meshgrid(*[counts for _, counts in axes], indexing="ij", sparse=True)
    window: npt.NDArray[np.int64] = sizes[0] * sizes[1] * sizes[2]
    number: npt.NDArray[np.int64] = counts[0] * counts[1] * counts[2]
    layer = sizes[room.axis] * (math.prod(padded) / padded[room.axis])
    # one tile a layer is given as it is
    waits = number > counts[room.axis]
    fits = room.voxel * window + room.blended * layer * waits <= room.total
    cost = np.where(fits, window * number + number / (1.0 + number.max()), np.inf)
    best = np.unravel_index(int(np.argmin(cost)), cost.shape)
    if not fits[best]:
        return None
    chosen = [int(sizes[index]) for (sizes, _), index in zip(axes, best, strict=True)]
    return Tiles(*(shape_of(three) for three in (padded, chosen, halo, strides)))


def fit_tiles(
    padded: Sequence[int], strides: Sequence[int], halo: Sequence[int], window: Sequence[int]
) -> Tiles | None:
    """Tiles of a given size, rounded up to the stride; None if they are too small to have such a halo.

    >>> fit_tiles((64, 64, 64), (8, 8, 8), (8, 8, 8), (30, 64, 90)).window
    (32, 64, 64)
    """
    up = [round_up(size, stride) for size, stride in zip(window, strides, strict=True)]
    sizes = [min(pair) for pair in zip(up, padded, strict=True)]
    each = zip(sizes, padded, strides, halo, strict=True)
    if any(size < length and size <= _overlap(edge, stride) for size, length, stride, edge in each):
        return None
    return Tiles(*(shape_of(three) for three in (padded, sizes, halo, strides)))


def join_tiles(run: Callable[[Place], Tensor], tiles: Tiles) -> Iterator[Tensor]:
    """The logits (K, d, H, W) of the padded scan, layer by layer along the first axis.

    Args:
        run: Gives the logits (K, *window) of a tile; they may be changed.
        tiles: Their places.
    """
    first, *others = (tiles.spans(axis) for axis in range(3))
    plane = list(itertools.product(*others))
    begun: Tensor | None = None
    for span in first:
        layer = _layer(run, span, plane, tiles.padded[1:])
        if begun is not None:
            layer[:, : span.rise] += begun
        done = span.high - span.low - span.fall
        begun = layer[:, done:].clone() if span.fall else None
        yield layer[:, :done]
        del layer


def _layer(run: Callable[[Place], Tensor], span: Span, plane: Sequence[Sequence[Span]], size: Sequence[int]) -> Tensor:
    """What the tiles of one layer count for, faded at both ends."""
    if len(plane) == 1:
        (rest,) = plane
        return _faded(run((span, *rest))[:, span.inner], span, 1)  # type: ignore[arg-type]
    total: Tensor | None = None
    for second, third in plane:
        logits = run((span, second, third))[:, span.inner, second.inner, third.inner]
        if total is None:
            total = logits.new_zeros(len(logits), span.high - span.low, *size)
        part = total[:, :, second.low : second.high, third.low : third.high]
        part += _faded(_faded(_faded(logits, span, 1), second, 2), third, 3)
    assert total is not None
    return total


def _faded(logits: Tensor, span: Span, axis: int) -> Tensor:
    """Weighted in place along an axis, so that the weights of two tiles that meet add up to 1."""
    for start, length, rises in ((0, span.rise, True), (logits.shape[axis] - span.fall, span.fall, False)):
        if length:
            ramp = (torch.arange(length, device=logits.device, dtype=logits.dtype) + 0.5) / length
            weights = ramp if rises else 1 - ramp
            logits.narrow(axis, start, length).mul_(weights.view(-1, *[1] * (3 - axis)))
    return logits


def _starts(length: int, size: int, halo: int, stride: int) -> list[int]:
    """The first voxels of the fewest tiles, spread evenly."""
    if size >= length:
        return [0]
    count = _count(length // stride, size // stride, _overlap(halo, stride) // stride)
    return [index * ((length - size) // stride) // (count - 1) * stride for index in range(count)]


def _overlap(halo: int, stride: int) -> int:
    """By how much neighbours overlap at least."""
    return round_up(2 * halo, stride)


def _count(length: int, size: int, overlap: int) -> int:
    return -(-(length - overlap) // (size - overlap)) if size < length else 1


def _choices(length: int, stride: int, halo: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Sizes of tiles along an axis, the smallest of each number of tiles, and these numbers."""
    units, overlap = length // stride, _overlap(halo, stride) // stride
    # number n takes tiles of (units + overlap * (n - 1)) / n, which comes down to the overlap
    numbers = range(2, max(2, units - overlap + 1))
    sizes = {-(-(units + overlap * (number - 1)) // number) for number in numbers}
    chosen = [units, *sorted((size for size in sizes if overlap < size < units), reverse=True)]
    counts = [_count(units, size, overlap) for size in chosen]
    return np.array(chosen, np.int64) * stride, np.array(counts, np.int64)
