"""Scans of different sizes to one batch, and boxes back to the scans' own voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ModelError
from ..layers import INTERPOLATION, per_axis
from .checks import Target, check_images

#: one number a channel; None: the scans are not changed by it
Numbers = Sequence[float] | None


@dataclass(frozen=True)
class ImageList:
    """A batch of scans that were padded at their upper ends.

    Attributes:
        tensors: (N, C, *spatial).
        image_sizes: Spatial size of each scan before padding.
    """

    tensors: Tensor
    image_sizes: list[tuple[int, ...]]

    @property
    def padded_size(self) -> tuple[int, ...]:
        """Spatial size of the batch."""
        return tuple(self.tensors.shape[2:])


class DetectorTransform(nn.Module):
    """Normalise, resize and pad scans, and move boxes along; torchvision's ``GeneralizedRCNNTransform`` in n-D.

    Scans come prepared (spacing and intensities by the model card), so by default they are padded and nothing else:
    a resized scan has another voxel size, in which a lesion of 8 mm is no longer the same number of voxels.

    Args:
        min_size: Voxels of the shortest axis after resizing; of several one is drawn in training, the last is for
            evaluation. None does not resize.
        max_size: Most voxels of the longest axis after resizing; wins over ``min_size``.
        image_mean, image_std: One number a channel, subtracted and divided by; None does not.
        size_divisible: Padded sizes are multiples of it, a number or one an axis.
        ndim: Spatial dimensions.
        in_channels: Channels that scans must have; None does not check.

    Raises:
        ModelError: an argument does not describe a transform.

    >>> transform = DetectorTransform(size_divisible=8)
    >>> batch, _ = transform([torch.rand(1, 10, 12, 9), torch.rand(1, 6, 20, 8)])
    >>> batch.tensors.shape, batch.image_sizes
    (torch.Size([2, 1, 16, 24, 16]), [(10, 12, 9), (6, 20, 8)])
    """

    def __init__(
        self,
        min_size: int | Sequence[int] | None = None,
        max_size: int | None = None,
        image_mean: Numbers = None,
        image_std: Numbers = None,
        size_divisible: int | Sequence[int] = 32,
        ndim: int = 3,
        in_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.min_size = (min_size,) if isinstance(min_size, int) else None if min_size is None else tuple(min_size)
        self.max_size, self.ndim, self.in_channels = max_size, ndim, in_channels
        self.image_mean, self.image_std = _numbers(image_mean), _numbers(image_std)
        self.size_divisible = per_axis(size_divisible, ndim)
        _check(self)

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> tuple[ImageList, list[Target] | None]:
        """(C, *spatial) tensors of any sizes, and targets -> a batch, and targets in its voxels; both are copies.

        Raises:
            ModelError: a scan with another number of axes or channels, not of numbers, or not finite.
        """
        check_images(images, self.ndim, self.in_channels)
        resized = [self.resize(self.normalize(image)) for image in images]
        sizes = [tuple(image.shape[1:]) for image in resized]
        if targets is not None:
            before = [tuple(image.shape[1:]) for image in images]
            targets = [
                {**target, "boxes": resize_boxes(target["boxes"].float(), old, new)}
                for target, old, new in zip(targets, before, sizes, strict=True)
            ]
        return ImageList(self.batch_images(resized), sizes), targets

    def normalize(self, image: Tensor) -> Tensor:
        """(C, *spatial) less the mean, over the standard deviation."""
        for numbers, change in ((self.image_mean, torch.sub), (self.image_std, torch.div)):
            if numbers is not None:
                image = change(image, image.new_tensor(numbers).view(-1, *[1] * self.ndim))
        return image

    def resize(self, image: Tensor) -> Tensor:
        """(C, *spatial) with the shortest axis at ``min_size``, unless the longest would exceed ``max_size``."""
        if self.min_size is None:
            return image
        size = tuple(image.shape[1:])
        wanted = self.min_size[int(torch.randint(len(self.min_size), ()))] if self.training else self.min_size[-1]
        scale = min(wanted / min(size), (self.max_size or math.inf) / max(size))
        new = [max(1, math.floor(voxels * scale)) for voxels in size]
        mode = INTERPOLATION[self.ndim]
        return F.interpolate(image[None], size=new, mode=mode, align_corners=False)[0]

    def batch_images(self, images: Sequence[Tensor]) -> Tensor:
        """(N, C, *spatial): zeros behind the ends of smaller scans."""
        largest = [max(sizes) for sizes in zip(*(image.shape[1:] for image in images), strict=True)]
        padded = [math.ceil(size / step) * step for size, step in zip(largest, self.size_divisible, strict=True)]
        batch = images[0].new_zeros(len(images), images[0].shape[0], *padded)
        for row, image in zip(batch, images, strict=True):
            row[(slice(None), *map(slice, image.shape[1:]))] = image
        return batch

    def postprocess(
        self, detections: list[Target], sizes: Sequence[Sequence[int]], original: Sequence[Sequence[int]]
    ) -> list[Target]:
        """Detections in voxels of the scans that came in, from those of the batch."""
        return [
            {**found, "boxes": clip_boxes(resize_boxes(found["boxes"], size, before), before)}
            for found, size, before in zip(detections, sizes, original, strict=True)
        ]

    def extra_repr(self) -> str:
        """What ``print(network)`` shows."""
        names = ("min_size", "max_size", "image_mean", "image_std", "size_divisible")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


def resize_boxes(boxes: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """Boxes (N, 2 ndim) of a scan of size ``old`` after it was resized to ``new``.

    >>> resize_boxes(torch.tensor([[1.0, 2, 3, 4]]), (10, 10), (20, 5))
    tensor([[2., 1., 6., 2.]])
    """
    return boxes * (boxes.new_tensor(new) / boxes.new_tensor(old)).repeat(2)


def clip_boxes(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Boxes (..., 2 ndim) with corners between 0 and ``size``."""
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor(size).repeat(2))


def _numbers(values: Numbers) -> list[float] | None:
    if values is None:
        return None
    fine = isinstance(values, Sequence) and all(isinstance(value, int | float) for value in values)
    if not fine or not all(map(math.isfinite, values)):
        raise ModelError(f"image_mean and image_std must be lists of numbers, one a channel, got {values!r}")
    return [float(value) for value in values]


def _check(transform: DetectorTransform) -> None:
    for size in (*(transform.min_size or ()), *([] if transform.max_size is None else [transform.max_size])):
        if not isinstance(size, int) or size < 1:
            raise ModelError(f"min_size and max_size must be positive whole numbers of voxels, got {size!r}")
    if transform.max_size is not None and transform.min_size is None:
        raise ModelError(f"max_size={transform.max_size} limits resizing to min_size", hint="Give min_size too")
    if len(transform.size_divisible) != transform.ndim or min(transform.size_divisible) < 1:
        raise ModelError(
            f"size_divisible must be a positive number, or {transform.ndim} of them, got {transform.size_divisible}"
        )
    for name in ("image_mean", "image_std"):
        numbers = getattr(transform, name)
        if numbers is not None and transform.in_channels not in (None, len(numbers)):
            raise ModelError(f"{name} needs {transform.in_channels} numbers, one a channel, got {numbers}")
    if transform.image_std is not None and not all(transform.image_std):
        raise ModelError(f"image_std must not be 0, got {transform.image_std}")
