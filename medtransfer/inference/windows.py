"""How a network is run over a volume: whole, in tiles with a halo, or in windows whose logits are blended.

The windows, their weights and their order are those of MONAI's ``sliding_window_inference`` (a test compares them); it
is not called because importing MONAI takes longer than most predictions, and because the plan must be known before any
memory is taken.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UsageError
from ..volumes.padding import centred_margins, pad
from .shapes import Shape, round_up, shape_of, to_front
from .tiles import Place, Tiles, join_tiles

Run = Callable[[Tensor], Tensor]
OVERLAP = 0.5  # of a window and the next, as in MONAI and nnU-Net
SIGMA = 0.125  # of the window's length, as in MONAI and nnU-Net
SMALLEST_WEIGHT = 1e-3


@dataclass(frozen=True)
class Plan:
    """What is run.

    Args:
        padded: Size to which the volume is padded with 0, on both sides.
        window: Size of a window; equal to ``padded`` for one pass over everything.
        overlap: Share of a window that the next one covers again.
    """

    padded: Shape
    window: Shape
    overlap: float = OVERLAP

    @property
    def is_whole(self) -> bool:
        """Whether there is one pass over everything."""
        return self.window == self.padded

    def starts(self) -> list[Shape]:
        """The first voxel of every window.

        >>> Plan((10, 4, 4), (4, 4, 4)).starts()
        [(0, 0, 0), (2, 0, 0), (4, 0, 0), (6, 0, 0)]
        """
        lines = [_starts(*sizes, self.overlap) for sizes in zip(self.padded, self.window, strict=True)]
        return [(first, second, third) for first, second, third in itertools.product(*lines)]

    def turned(self, axis: int) -> Plan:
        """The same with ``axis`` first."""
        return Plan(to_front(self.padded, axis), to_front(self.window, axis), self.overlap)


def plan_whole(shape: Sequence[int], strides: Sequence[int], patch: Sequence[int] | None) -> Plan:
    """One pass: padded to multiples of the network's stride, so that its levels fit each other, and to the patch size.

    >>> plan_whole((35, 52, 1), (8, 8, 8), None).padded
    (40, 56, 8)
    """
    least = patch or (1, 1, 1)
    sizes = [round_up(max(size, low), stride) for size, stride, low in zip(shape, strides, least, strict=True)]
    if sizes == list(strides):  # norms over the input need two voxels at the lowest resolution
        sizes[2] *= 2
    return Plan(shape_of(sizes), shape_of(sizes))


def plan_unpadded(shape: Sequence[int]) -> Plan:
    """One pass over the volume as it is."""
    return Plan(shape_of(shape), shape_of(shape))


def plan_windows(shape: Sequence[int], window: Sequence[int], overlap: float = OVERLAP) -> Plan:
    """Windows of one size; a volume that is smaller along an axis is padded to it.

    Raises:
        UsageError: a window or an overlap that cannot be.
    """
    sizes = list(window)
    if len(sizes) != 3 or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise UsageError(f"tile must be auto, whole, or one or three sizes in voxels above 0, got {window}")
    if not 0 <= overlap < 1:
        raise UsageError(f"overlap must be at least 0 and below 1, got {overlap}")
    return Plan(shape_of(max(pair) for pair in zip(shape, sizes, strict=True)), shape_of(sizes), overlap)


def run_slabs(run: Run, image: Tensor, plan: Plan | Tiles, axis: int = 0) -> Iterator[Tensor]:
    """Logits of an image (C, D, H, W), slab by slab along ``axis``.

    Where windows overlap they are blended by Gaussian weights, tiles as :func:`~medtransfer.inference.tiles.join_tiles`
    does it. A slab is given as soon as no further window touches it, so that only one window's depth of logits is held.

    Returns:
        Tensors (K, d, ., .) where ``run`` gives them, with ``axis`` brought to the front of the three; together the
        whole image.
    """
    turned = plan.turned(axis)
    moved = image.movedim(axis + 1, 1)

    def straight(patch: Tensor) -> Tensor:
        return run(patch.movedim(2, axis + 2).contiguous()).movedim(axis + 2, 2)

    margins = _margins(moved, turned.padded)

    def one(place: Place) -> Tensor:
        start = shape_of(span.start for span in place)
        return straight(_window(moved, start, turned.window, margins)[None])[0]

    slabs = join_tiles(one, turned) if isinstance(turned, Tiles) else _blend(straight, moved, turned, margins)
    return _cut_slabs(slabs, margins, shape_of(moved.shape[1:]))


def run_classifier(run: Run, image: Tensor, plan: Plan | Tiles) -> Tensor:
    """Logits (K,) in float32 of an image (C, D, H, W); the mean over windows if there are several."""
    margins = _margins(image, plan.padded)
    logits = [run(_window(image, start, plan.window, margins)[None])[0] for start in plan.starts()]
    return torch.stack(logits).mean(0)


def gaussian_weights(window: Sequence[int]) -> Tensor:
    """Weights (D, H, W) of a window: a Gaussian around its centre, never below 0.001."""
    lines = [torch.arange(size) - (size - 1) / 2 for size in window]
    first, second, third = (torch.exp(-0.5 * (line / (SIGMA * len(line))) ** 2) for line in lines)
    weights = first[:, None, None] * second[:, None] * third
    return weights.clamp(min=max(float(weights.min()), SMALLEST_WEIGHT))


def _blend(run: Run, image: Tensor, plan: Plan, margins: Shape) -> Iterator[Tensor]:
    """Finished slabs of the padded volume."""
    if plan.is_whole:
        yield run(_window(image, (0, 0, 0), plan.window, margins)[None])[0]
        return
    weights, norm, total = torch.zeros(0), torch.zeros(0), torch.zeros(0)
    depth, plane = plan.window[0], plan.padded[1:]
    layers = [list(layer) for _, layer in itertools.groupby(plan.starts(), key=lambda start: start[0])]
    ends = [layer[0][0] for layer in layers[1:]] + [plan.padded[0]]
    for layer, end in zip(layers, ends, strict=True):
        for start in layer:
            logits = run(_window(image, start, plan.window, margins)[None])[0]
            if not len(total):
                weights = gaussian_weights(plan.window).to(logits.device)
                norm, total = weights.new_zeros(1, depth, *plane), weights.new_zeros(len(logits), depth, *plane)
            place = (0, *start[1:])
            _cut(total, place, plan.window).addcmul_(logits, weights)
            _cut(norm, place, plan.window).add_(weights)
        done = end - layer[0][0]
        for row in range(done):  # one at a time: all at once would double the memory
            yield total[:, row : row + 1] / norm[:, row : row + 1]
        _advance(total, done)
        _advance(norm, done)


def _advance(rows: Tensor, count: int) -> None:
    """Move the rows after the first ``count`` to the front and put zeros behind them, in place."""
    left = rows.shape[1] - count
    for row in range(left):
        rows[:, row] = rows[:, row + count]
    rows[:, left:] = 0


def _cut_slabs(slabs: Iterable[Tensor], margins: Shape, shape: Shape) -> Iterator[Tensor]:
    """The slabs without what was padded; none is held while the next is made."""
    first, second, third = (slice(low, low + size) for low, size in zip(margins, shape, strict=True))
    row = 0
    for slab in slabs:
        part = slab[:, max(0, first.start - row) : max(0, first.stop - row), second, third]
        row += slab.shape[1]
        del slab
        if part.shape[1]:
            yield part
        del part


def _window(image: Tensor, start: Shape, window: Shape, margins: Shape) -> Tensor:
    """One window of the padded image, which is never made whole: 0 where it leaves the image."""
    lows = [low - margin for low, margin in zip(start, margins, strict=True)]
    spans = list(zip(lows, window, image.shape[1:], strict=True))
    inside = [slice(max(0, low), max(0, min(size, low + length))) for low, length, size in spans]
    cut = image[:, inside[0], inside[1], inside[2]]
    both = [(max(0, -low), max(0, low + length - max(size, low))) for low, length, size in spans]
    if not any(itertools.chain(*both)):
        return cut
    return pad(cut, both)


def _cut(tensor: Tensor, start: Shape, window: Shape) -> Tensor:
    """A view of one window of (..., D, H, W)."""
    first, second, third = (slice(low, low + size) for low, size in zip(start, window, strict=True))
    return tensor[..., first, second, third]


def _starts(size: int, window: int, overlap: float) -> list[int]:
    step = max(1, int(window * (1 - overlap)))
    count = math.ceil(max(0, size - window) / step) + 1
    return [min(index * step, size - window) for index in range(count)]


def _margins(image: Tensor, padded: Shape) -> Shape:
    """How many voxels are padded before the first along each axis."""
    return shape_of(before for before, _ in centred_margins(image.shape[1:], padded))
