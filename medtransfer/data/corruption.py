"""What a network restores when it learns from scans without labels: hidden cubes, shuffled voxels, bent intensities.

The task is that of Models Genesis (Zhou et al., MICCAI 2019), with the hidden cubes and their large share of masked
autoencoders (He et al., CVPR 2022). The transforms are MONAI's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import torch
from monai.transforms import Compose, RandCoarseShuffled, RandHistogramShiftd
from torch import Tensor

from ..errors import ConfigError


class Corruption(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What is done to a patch, and how often.

    Attributes:
        masked: Share of the patch that is hidden: cubes of a grid are set to the patch's mean.
        cube: Edge of such a cube, voxels.
        shuffled: Probability that the voxels of some cubes of half that edge are shuffled among themselves.
        bent: Probability that intensities go through a random monotone curve.
    """

    masked: float = 0.6
    cube: int = 6
    shuffled: float = 0.3
    bent: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.masked < 1:
            raise ValueError(f"`masked` must be at least 0 and below 1, got {self.masked}")
        for name in ("shuffled", "bent"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be a probability, got {getattr(self, name)}")
        if self.cube < 1:
            raise ValueError(f"`cube` must be at least 1 voxel, got {self.cube}")
        if not (self.masked or self.shuffled or self.bent):
            raise ValueError("there must be something to restore: `masked`, `shuffled` and `bent` are all 0")


def read_corruption(given: Mapping[str, Any] | Corruption | None) -> Corruption:
    """The argument ``corruption`` of a dataset as a checked object.

    Raises:
        ConfigError: an unknown key, or a value of the wrong kind.

    >>> read_corruption(dict(masked=0.7)).cube
    6
    """
    if isinstance(given, Corruption):
        return given
    try:
        return msgspec.convert(msgspec.to_builtins(dict(given or {})), Corruption)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        keys = ", ".join(Corruption.__struct_fields__)
        raise ConfigError(f"corruption: {error}", hint=f"Keys: {keys}") from error


class Corrupt:
    """Damage a patch at random; the same seed damages it in the same way.

    Args:
        corruption: See :class:`Corruption`.

    >>> import torch
    >>> clean = torch.randn(1, 16, 16, 16)
    >>> damaged = Corrupt()(clean, seed=0)
    >>> damaged.shape == clean.shape, bool((damaged != clean).any())
    (True, True)
    """

    def __init__(self, corruption: Mapping[str, Any] | Corruption | None = None) -> None:
        self.corruption = read_corruption(corruption)
        self._steps: dict[tuple[int, ...], Compose] = {}

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        """Damage (C, D, H, W); the original is left as it is."""
        shape = tuple(image.shape[1:])
        if shape not in self._steps:
            self._steps[shape] = _build(self.corruption, shape)
        steps = self._steps[shape]
        steps.set_random_state(seed=seed)
        damaged: Tensor = steps({"image": image.clone()})["image"]
        hidden = hidden_cubes(shape, self.corruption.masked, self.corruption.cube, seed)
        return torch.where(hidden, damaged.mean(dim=(1, 2, 3), keepdim=True), damaged)


def _build(chosen: Corruption, shape: Sequence[int]) -> Compose:
    steps: list[Any] = []
    if chosen.bent:
        steps.append(RandHistogramShiftd("image", num_control_points=(4, 8), prob=chosen.bent))
    if chosen.shuffled:
        edges = [min(max(2, chosen.cube // 2), size) for size in shape]
        holes = max(1, math.prod(shape) // (16 * math.prod(edges)))
        steps.append(RandCoarseShuffled("image", holes=holes, spatial_size=edges, prob=chosen.shuffled))
    return Compose(steps)


def hidden_cubes(shape: Sequence[int], share: float, cube: int, seed: int) -> Tensor:
    """Cubes of a randomly placed grid, that share of them, as a mask.

    (MONAI's ``RandCoarseDropout`` lets its cubes overlap and crowd in the middle, so that no share can be stated.)

    Returns:
        (D, H, W) bool, True where hidden.

    >>> round(float(hidden_cubes((32, 32, 32), 0.5, 8, seed=0).float().mean()), 1)
    0.5
    """
    generator = torch.Generator().manual_seed(seed)
    cells = [-(-size // cube) + 1 for size in shape]
    corner = [int(torch.randint(cube, (1,), generator=generator)) for _ in shape]
    order = torch.randperm(math.prod(cells), generator=generator).reshape(cells)
    mask = order < round(share * math.prod(cells))
    for axis, (first, size) in enumerate(zip(corner, shape, strict=True)):
        mask = mask.repeat_interleave(cube, dim=axis).narrow(axis, first, size)
    return mask
