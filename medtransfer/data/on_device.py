"""Patches that are moved to the device that trains before they are augmented, so that it does the work.

Random numbers are drawn on the CPU wherever the work is done: a seed stands for the same augmentation on every device.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Literal

import torch
from monai.transforms import RandGaussianNoise, RandGaussianNoised, Transform
from torch import Tensor

from ..errors import ConfigError

AugmentOn = Literal["loader", "device"]


def check_augment_on(word: Any) -> AugmentOn:
    """The argument ``augment_on`` of a dataset.

    Raises:
        ConfigError: neither ``"loader"`` nor ``"device"``.
    """
    if word not in ("loader", "device"):
        raise ConfigError(f"augment_on must be 'loader' or 'device', got {word!r}")
    return "device" if word == "device" else "loader"


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """Values on a device; what goes to CUDA is not waited for.

    >>> values = torch.zeros(2)
    >>> on_device(values, torch.device("cpu")) is values
    True
    """
    if device.type != "cuda" or values.is_cuda:
        return values.to(device)
    # a copy from other memory would wait for all that the GPU still has to do; and a patch is a view of its scan,
    # which `pin_memory()` would copy from the first voxel of the patch to its last
    pinned = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return pinned.copy_(values).to(device, non_blocking=True)


class MoveTo(Transform):
    """Move all volumes of a sample to a device.

    Args:
        device: Where.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A sample; whatever is not a tensor stays as it is."""
        return {key: on_device(value, self.device) if isinstance(value, Tensor) else value
                for key, value in data.items()}  # fmt: skip


class RandomNoise(RandGaussianNoised):
    """MONAI's Gaussian noise of the image, which does not wait for a GPU.

    Args:
        prob: Probability.
        std: Largest standard deviation.
    """

    def __init__(self, prob: float, std: float) -> None:
        super().__init__("image", prob=prob, std=std)
        self.rand_gaussian_noise = _Noise(prob=1.0, std=std)


class _Noise(RandGaussianNoise):
    noise: Any

    def randomize(self, img: Any, mean: float | None = None) -> None:
        super().randomize(img, mean)
        if self.noise is not None:
            self.noise = on_device(torch.as_tensor(self.noise), img.device)
