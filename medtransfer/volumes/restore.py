"""From slabs of the working grid back to the scan's own, a few rows at a time: a volume of all classes is never held.

A row is all voxels with one index along the first axis. The map between the grids is that of `regrid`, voxel by voxel
the same as a trilinear resampling of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Shape = tuple[int, int, int]


def restore_rows(slabs: Iterable[Tensor], inner: Shape, outer: Shape, rows: int) -> Iterator[Tensor]:
    """Resample a volume that comes in slabs over the same box.

    Args:
        slabs: Float tensors (K, d, H, W), from the first row to the last, with any numbers of rows.
        inner: Size (D, H, W) of the volume that they make up.
        outer: Size (D', H', W') that is wanted.
        rows: How many rows of the result are given at once.

    Returns:
        Tensors (K, d', H', W') with ``rows`` rows each, the last with what is left.

    >>> whole = torch.arange(8.0).reshape(1, 8, 1, 1)
    >>> [part.flatten().tolist() for part in restore_rows(whole.split(3, dim=1), (8, 1, 1), (4, 1, 1), 3)]
    [[0.5, 2.5, 4.5], [6.5]]
    """
    low, high, share = _taps(inner[0], outer[0])
    held = _Held(iter(slabs))
    for start in range(0, outer[0], rows):
        part = slice(start, min(start + rows, outer[0]))
        first, last = int(low[start]), int(high[part.stop - 1])
        source = held.rows(first, last + 1)
        if inner == outer:
            yield source
            continue
        below, above = source[:, low[part] - first], source[:, high[part] - first]
        between = torch.lerp(below, above, share[part, None, None]) if inner[0] != outer[0] else below
        yield _in_plane(between, outer[1:])


def _taps(inner: int, outer: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each row of the result the two rows that it lies between, and the share of the second."""
    place = ((torch.arange(outer, dtype=torch.float64) + 0.5) * inner / outer - 0.5).clamp(0, inner - 1)
    low = place.floor().long()
    return low, (low + 1).clamp(max=inner - 1) if inner != outer else low, (place - low).float()


def _in_plane(rows: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(rows.shape[2:]) == size:
        return rows
    return F.interpolate(rows.transpose(0, 1), size=size, mode="bilinear", align_corners=False).transpose(0, 1)


@dataclass
class _Held:
    """The rows that have come and are still needed; ``start`` is the index of the first."""

    slabs: Iterator[Tensor]
    start: int = 0
    tensor: Tensor | None = None

    def rows(self, first: int, stop: int) -> Tensor:
        """Rows ``first`` to ``stop``, a view; those before ``first`` are let go."""
        while self.tensor is None or self.start + self.tensor.shape[1] < stop:
            slab = next(self.slabs).float()
            rest = self._from(first)
            self.tensor = slab if rest is None else torch.cat([rest, slab], dim=1)
        return self.tensor[:, first - self.start : stop - self.start]

    def _from(self, first: int) -> Tensor | None:
        """What is held from row ``first`` on, None if that is nothing."""
        if self.tensor is None:
            return None
        gone = min(max(0, first - self.start), self.tensor.shape[1])
        self.start += gone
        return self.tensor[:, gone:] if gone < self.tensor.shape[1] else None
