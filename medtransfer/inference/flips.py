"""Test-time flips: the mean over mirrored passes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from .windows import Run


def flip_choices(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Every choice of axes to mirror, none at all first.

    >>> flip_choices([0, 2])
    [(), (0,), (2,), (0, 2)]
    """
    return [dims for count in range(len(axes) + 1) for dims in itertools.combinations(axes, count)]


def with_flips(run: Run, axes: Sequence[int], classifies: bool = False) -> Run:
    """A run that gives the mean of the logits over the image and its mirror images along every choice of ``axes``.

    The mean is over logits, as in nnU-Net. A segmenter's maps are mirrored back first, a classifier has none.

    >>> double = with_flips(lambda image: image[:, :1] * 2, (0, 2))
    >>> image = torch.rand(1, 1, 3, 4, 5)
    >>> bool(torch.allclose(double(image), image * 2))
    True
    """
    if not axes:
        return run
    choices = flip_choices(axes)

    def mean(image: Tensor) -> Tensor:
        total: Tensor | None = None
        for choice in choices:
            dims = [axis + 2 for axis in choice]
            logits = run(torch.flip(image, dims))
            logits = logits if classifies else torch.flip(logits, dims)
            total = logits if total is None else total.add_(logits)
        assert total is not None
        return total.div_(len(choices))

    return mean
