"""From slabs of the working grid back to the scan's own, a few rows at a time: a volume of all classes is never held.

A row is all voxels with one index along the first axis. The map between the grids is that of `regrid`, voxel by voxel
the same as a trilinear resampling of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

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
    first_rows, last_rows = low.tolist(), high.tolist()
    held = _Held(iter(slabs))
    for start in range(0, outer[0], rows):
        part = slice(start, min(start + rows, outer[0]))
        # nothing of it is bound to a name here: it would be held while the next slab is made
        yield _restored(
            held.rows(first_rows[start], last_rows[part.stop - 1] + 1),
            (low[part] - first_rows[start], high[part] - first_rows[start], share[part]),
            None if inner == outer else outer[1:],
        )


def _restored(source: Tensor, taps: tuple[Tensor, Tensor, Tensor], plane: tuple[int, ...] | None) -> Tensor:
    return source if plane is None else _in_plane(_between(source, *taps), plane)


def _between(source: Tensor, low: Tensor, high: Tensor, share: Tensor) -> Tensor:
    """Rows that lie between the rows ``low`` and ``high``; on the device of ``source``."""
    if len(low) == source.shape[1] and not bool(share.any()):
        return source
    below, above, weight = (one.to(source.device) for one in (low, high, share))
    return torch.lerp(source[:, below], source[:, above], weight[:, None, None])


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
    """The slabs that have come and are still needed; ``start`` and ``stop`` are the rows that they hold."""

    slabs: Iterator[Tensor]
    start: int = 0
    stop: int = 0
    pieces: list[Tensor] = field(default_factory=list)

    def rows(self, first: int, stop: int) -> Tensor:
        """Rows ``first`` to ``stop``, if they lie in one slab a view; those before ``first`` may be let go."""
        if self.stop < stop:
            self._let_go(first)
        while self.stop < stop:
            self.pieces.append(next(self.slabs).float())
            self.stop += self.pieces[-1].shape[1]
        parts = list(self._parts(first, stop))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _parts(self, first: int, stop: int) -> Iterator[Tensor]:
        low = self.start
        for piece in self.pieces:
            high = low + piece.shape[1]
            if low < stop and first < high:
                yield piece[:, max(0, first - low) : stop - low]
            low = high

    def _let_go(self, first: int) -> None:
        """Forget the rows before ``first``, also their memory, which the next slab may need."""
        kept = list(self._parts(first, self.stop))
        self.start = min(first, self.stop)
        self.pieces = [piece.clone() if piece._is_view() else piece for piece in kept]
