"""Patches and augmentation of samples that carry `medtransfer.data.box_targets.BoxTargets` under ``boxes``."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Compose, RandFlipd, RandomizableTransform

from .box_targets import BoxTargets
from .transforms import Augmentation, affine_steps, intensity_steps, move_steps

KEYS = ("image", "label")  # the volumes of a sample; one with boxes of a list has no label


def build_box_augmentation(
    chosen: Augmentation, patch_size: Sequence[int] | None, device: torch.device | None = None
) -> Compose:
    """Random transforms for samples with ``image`` (C, D, H, W), ``boxes`` and, if they have one, ``label``.

    With a ``patch_size``, a patch is cut first (the sample must be at least as large). It is moved to the ``device``,
    if there is one, and augmented there.
    """
    crop = [] if patch_size is None else [RandomBoxCrop(patch_size, chosen.foreground)]
    flips = [RandomBoxFlip(axis) for axis in chosen.flips]
    return Compose([*crop, *move_steps(device), *affine_steps(chosen), *flips, *intensity_steps(chosen)])


class RandomBoxCrop(RandomizableTransform):
    """Cut a patch; a share of them from where they hold one of the boxes, drawn evenly, as a whole.

    Where a box is longer than the patch, the patch lies within it along that axis. The others come from anywhere.
    MONAI's ``RandCropBoxByPosNegLabeld`` draws alike, but keeps no record of how much of a box was cut off.

    Args:
        patch_size: Voxels along each axis.
        foreground: The share.
    """

    def __init__(self, patch_size: Sequence[int], foreground: float) -> None:
        super().__init__(1.0)
        self.patch_size, self.foreground = tuple(patch_size), foreground

    def randomize(self, data: Any) -> None:
        """Draw where the patch starts, for boxes and the shape of the volume."""
        super().randomize(None)
        targets, shape = data
        most = [whole - part for whole, part in zip(shape, self.patch_size, strict=True)]
        ends = [(0, last) for last in most]
        if self.R.random() < self.foreground and len(targets):
            box = targets.boxes[self.R.randint(len(targets))]
            ends = [_starts(box[[axis, axis + 3]], size, most[axis]) for axis, size in enumerate(self.patch_size)]
        self.start = [int(self.R.randint(first, last + 1)) for first, last in ends]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A sample as `build_box_augmentation` takes it; other keys pass through."""
        sample: dict[Hashable, Any] = dict(data)
        targets: BoxTargets = sample["boxes"]
        self.randomize((targets, sample["image"].shape[1:]))
        part = tuple(slice(start, start + size) for start, size in zip(self.start, self.patch_size, strict=True))
        cut: dict[Hashable, Any] = {key: sample[key][(slice(None), *part)] for key in KEYS if key in sample}
        return {**sample, **cut, "boxes": targets.cropped(self.start, self.patch_size)}


class RandomBoxFlip(RandFlipd):
    """Mirror every second sample along an axis, with its boxes."""

    def __init__(self, axis: int) -> None:
        super().__init__(KEYS, prob=0.5, spatial_axis=axis, allow_missing_keys=True)
        self.axis = axis

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """A sample as `build_box_augmentation` takes it."""
        sample: dict[Hashable, Any] = dict(super().__call__(data, lazy))
        if self._do_transform:
            sample["boxes"] = sample["boxes"].flipped(self.axis, sample["image"].shape[1:])
        return sample


def _starts(ends: Any, size: int, most: int) -> tuple[int, int]:
    """The first and the last start of a patch along an axis that holds from one end to the other, or lies within.

    >>> _starts((10.0, 14.5), 8, 92), _starts((10.0, 30.0), 8, 92), _starts((1.0, 3.0), 8, 92)
    ((7, 10), (10, 22), (0, 1))
    """
    lower, upper = int(ends[0]), -int(-ends[1] // 1)
    first, last = sorted((upper - size, lower))
    return min(max(first, 0), most), min(max(last, 0), most)
