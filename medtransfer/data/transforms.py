"""Patches and augmentation: named presets of MONAI's random transforms, each number open to the config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import torch
from monai.transforms import (
    Compose,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSpatialCropd,
)

from ..errors import ConfigError
from .affine import RandomAffine
from .on_device import MoveTo, RandomNoise


class Augmentation(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What is varied at random, and by how much. All zero: nothing.

    Attributes:
        affine: Probability of a rotation, zoom and shift together.
        rotate: Largest angle about each axis, degrees.
        zoom: Largest change of size along each axis, as a share (0.1: 90 % to 110 %).
        shift: Largest shift along each axis, voxels.
        flips: Axes that may be mirrored (probability 0.5 each). Leave out left-right where sides are classes.
        intensity: Probability of each change of intensity.
        gain: Largest change of contrast, as a share.
        offset: Largest offset, in units of the prepared scan (standard deviations for z-score).
        noise: Largest standard deviation of Gaussian noise, same units.
        foreground: Share of the patches that are centred on a labelled voxel; for boxes, that hold a box.
    """

    affine: float = 0.0
    rotate: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    flips: tuple[int, ...] = ()
    intensity: float = 0.0
    gain: float = 0.0
    offset: float = 0.0
    noise: float = 0.0
    foreground: float = 0.67


PRESETS = {
    "none": Augmentation(),
    "light": Augmentation(affine=1.0, rotate=15, zoom=0.15, shift=3, intensity=1.0, gain=0.2, offset=0.2, noise=0.1),
    "strong": Augmentation(
        affine=0.8, rotate=30, zoom=0.25, shift=4, flips=(0, 1, 2), intensity=0.5, gain=0.3, offset=0.3, noise=0.15
    ),
}


def read_augmentation(given: str | Mapping[str, Any] | Augmentation | None) -> Augmentation:
    """A preset by name, or ``dict(preset="light", rotate=20)``: a preset with changes.

    Raises:
        ConfigError: an unknown preset or key, or a value of the wrong kind.

    >>> read_augmentation(dict(preset="light", flips=[0])).flips
    (0,)
    """
    if isinstance(given, Augmentation):
        return given
    changes = {"preset": given} if isinstance(given, str) else dict(given or {})
    preset = changes.pop("preset", "none")
    if preset not in PRESETS:
        raise ConfigError(f"there is no augmentation {preset!r}", hint=f"Use {', '.join(PRESETS)}")
    try:
        return msgspec.convert({**msgspec.to_builtins(PRESETS[preset]), **changes}, Augmentation)
    except msgspec.ValidationError as error:
        keys = ", ".join(Augmentation.__struct_fields__)
        raise ConfigError(f"augmentation: {error}", hint=f"Keys: {keys}") from error


def build_augmentation(
    given: str | Mapping[str, Any] | Augmentation | None,
    patch_size: Sequence[int] | None,
    labelled: bool,
    device: torch.device | None = None,
) -> Compose:
    """Random transforms for samples with ``image`` (C,D,H,W) and, if ``labelled``, ``label`` (1,D,H,W).

    With a ``patch_size``, a patch is cut first (the sample must be at least as large); labelled samples carry
    ``fg_indices`` and ``bg_indices``, the flat positions of labelled and other voxels. The patch is moved to the
    ``device``, if there is one, and augmented there.
    """
    chosen = read_augmentation(given)
    keys = ["image", "label"] if labelled else ["image"]
    steps = [*_crop(chosen, patch_size, keys, labelled), *move_steps(device), *affine_steps(chosen)]
    return Compose([*steps, *_flips(chosen, keys), *intensity_steps(chosen)])


def _crop(chosen: Augmentation, patch_size: Sequence[int] | None, keys: list[str], labelled: bool) -> list[Any]:
    if patch_size is None:
        return []
    if not labelled:
        return [RandSpatialCropd(keys, tuple(patch_size), random_size=False)]
    crop = RandCropByPosNegLabeld(
        keys,
        label_key="label",
        spatial_size=tuple(patch_size),
        pos=chosen.foreground,
        neg=1 - chosen.foreground,
        fg_indices_key="fg_indices",
        bg_indices_key="bg_indices",
    )
    return [crop]


def move_steps(device: torch.device | None) -> list[Any]:
    """The move to the device that augments, if it is not the one that cuts."""
    return [] if device is None else [MoveTo(device)]


def affine_steps(chosen: Augmentation) -> list[Any]:
    """The rotation, zoom and shift, if there is one."""
    return [RandomAffine(chosen.affine, chosen.rotate, chosen.zoom, chosen.shift)] if chosen.affine else []


def _flips(chosen: Augmentation, keys: list[str]) -> list[Any]:
    return [RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in chosen.flips]


def intensity_steps(chosen: Augmentation) -> list[Any]:
    """The changes of intensity, if there are any."""
    steps = (
        (chosen.gain, RandScaleIntensityd("image", factors=chosen.gain, prob=chosen.intensity)),
        (chosen.offset, RandShiftIntensityd("image", offsets=chosen.offset, prob=chosen.intensity)),
        (chosen.noise, RandomNoise(chosen.intensity, chosen.noise)),
    )
    return [step for amount, step in steps if amount and chosen.intensity]
