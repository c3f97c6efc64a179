"""From the boxes of overlapping windows to those of the whole: cut boxes completed or dropped, duplicates merged.

A box that ends at an inner border of its window shows a part of something. Another window may show all of it, in a box
around most of the part, or the next part: two parts are of one thing if they agree in what both windows show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from .box_set import BoxSet, concatenate
from .nms import batched_nms

#: voxels from a window's inner border at which a box counts as cut, since borders are found with that much error
TOUCHING = 1.0
#: share from which boxes are of one thing: of the part that lies in a whole one, or the intersection over union of two
#: parts where both their windows see
AGREEMENT = 0.5
#: what the score of a cut box counts that no other window confirms
UNCONFIRMED = 0.5
_BLOCK = 1 << 20  # pairs that are compared at once


def join_windows(found: Sequence[BoxSet], windows: Tensor, shape: Sequence[int], threshold: float) -> BoxSet:
    """The boxes of a volume from those of its windows, by descending score.

    A box that is cut by an inner border is left out where another window shows the same thing whole. Cut boxes that
    agree where their windows overlap become one box around all of them. What no other window confirms counts
    `UNCONFIRMED` of its score. Last, of duplicates of one class the best stays.

    Args:
        found: The boxes of each window, in voxels of the volume.
        windows: (W, 2 ndim), where the windows lie.
        shape: Of the volume.
        threshold: Overlap above which boxes of one class are duplicates.

    >>> left, right = (BoxSet(torch.tensor([box]).double(), torch.tensor([1]), torch.tensor([0.9]).double())
    ...                for box in ([2.0, 2, 2, 8, 6, 6], [4.0, 2, 2, 10, 6, 6]))
    >>> windows = torch.tensor([[0.0, 0, 0, 8, 8, 8], [4, 0, 0, 12, 8, 8]])
    >>> join_windows([left, right], windows, (12, 8, 8), threshold=0.5).boxes.tolist()
    [[2.0, 2.0, 2.0, 10.0, 6.0, 6.0]]
    """
    pool = concatenate(found)
    homes = torch.repeat_interleave(windows, torch.tensor([len(one) for one in found]), dim=0)
    joined = _joined(pool, homes, is_cut(pool.boxes, homes, shape))
    return joined.take(batched_nms(joined.boxes, joined.scores, joined.labels, threshold))


def is_cut(boxes: Tensor, homes: Tensor, shape: Sequence[int]) -> Tensor:
    """Which boxes (N, 2 ndim) end at a border of their window (N, 2 ndim) that is not one of the volume's."""
    ends = homes.new_tensor([*[0] * len(shape), *shape])
    inner = (homes - ends).abs() > 0
    return (inner & ((boxes - homes).abs() <= TOUCHING)).any(dim=1)


def _joined(pool: BoxSet, homes: Tensor, cut: Tensor) -> BoxSet:
    """The whole boxes, and one for every group of cut ones that no whole box shows."""
    pieces, whole = pool.take(cut), pool.take(~cut)
    shown = torch.zeros(len(pieces), dtype=torch.bool)
    for index, _ in _same(pieces, homes[cut], whole, homes[~cut], _covers):
        shown[index] = True
    rest, places = pieces.take(~shown), homes[cut][~shown]
    groups = _groups(len(rest), list(_same(rest, places, rest, places, _agrees)))
    unions = [_union(rest.take(groups == group)) for group in range(int(groups.max()) + 1 if len(rest) else 0)]
    return concatenate([whole, *unions])


def _same(
    pieces: BoxSet, homes: Tensor, others: BoxSet, other_homes: Tensor, rule: Callable[..., Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Indices of the pairs of one class and of different windows for which the rule holds, a block at a time."""
    step = max(1, _BLOCK // max(1, len(others)))
    for start in range(0, len(pieces), step):
        part = slice(start, start + step)
        mine, own = pieces.boxes[part, None], homes[part, None]
        candidates = (pieces.labels[part, None] == others.labels) & (own != other_homes).any(dim=-1)
        first, second = (candidates & rule(mine, own, others.boxes, other_homes)).nonzero(as_tuple=True)
        yield first + start, second


def _agrees(boxes: Tensor, homes: Tensor, others: Tensor, other_homes: Tensor) -> Tensor:
    """Whether boxes and others are much the same where both windows see."""
    shared = _cut_to(homes, other_homes)
    mine, theirs = _cut_to(boxes, shared), _cut_to(others, shared)
    both = _volume(_cut_to(mine, theirs))
    return both > AGREEMENT * (_volume(mine) + _volume(theirs) - both)


def _covers(boxes: Tensor, homes: Tensor, others: Tensor, other_homes: Tensor) -> Tensor:
    """Whether most of each box lies in the other one: of a small part of a thing, the other borders are uncertain."""
    return _volume(_cut_to(boxes, others)) > AGREEMENT * _volume(boxes)


def _cut_to(boxes: Tensor, limits: Tensor) -> Tensor:
    (lower, upper), (least, most) = boxes.chunk(2, -1), limits.chunk(2, -1)
    return torch.cat([torch.maximum(lower, least), torch.minimum(upper, most)], dim=-1)


def _volume(boxes: Tensor) -> Tensor:
    lower, upper = boxes.chunk(2, -1)
    return (upper - lower).clamp(min=0).prod(dim=-1)


def _groups(count: int, pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The number of each one's group, if those of a pair are in one."""
    rows, columns = (torch.cat([pair[side] for pair in pairs]).numpy() if pairs else () for side in (0, 1))
    graph = coo_matrix(([True] * len(rows), (rows, columns)), shape=(count, count))
    return torch.from_numpy(connected_components(graph, directed=False)[1]) if count else torch.zeros(0)


def _union(group: BoxSet) -> BoxSet:
    """One box around all, with the best score; of a single one, with less of it."""
    lower, upper = group.boxes.chunk(2, -1)
    box = torch.cat([lower.amin(dim=0), upper.amax(dim=0)])
    share = UNCONFIRMED if len(group) == 1 else 1.0
    return BoxSet(box[None], group.labels[:1], group.scores.amax(dim=0, keepdim=True) * share)
