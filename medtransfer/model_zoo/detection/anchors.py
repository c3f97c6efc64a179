"""Anchors: boxes of set sizes and shapes at every place of every feature map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ModelError

#: an aspect ratio: a number, or in 3-D a pair
Ratio = float | Sequence[float]


class AnchorGenerator(nn.Module):
    """The anchors of all feature maps of a batch (Ren et al., "Faster R-CNN", NeurIPS 2015).

    In 2-D they are torchvision's to the bit. MONAI's class is of no use here: it sets each anchor half a stride off
    torchvision's, always rounds, and takes the precision of the feature maps.

    Args:
        sizes: Edges in voxels of the cubes that the anchors have the volume of, for each feature map; a number where a
            map has one.
        aspect_ratios: For each feature map, or numbers alone for all of them. A number is the extent along the first
            axis over that along the others (2-D: height / width); a pair (r1, r2) in 3-D stands for 1 : r1 : r2.
        ndim: Spatial dimensions.
        centered: Anchors stand on the middle of their stride instead of on its first voxel's corner, torchvision's
            place. Fits networks that halve by pooling (VGG); the strided convolutions of a ResNet look at the corner.
        rounded: Half extents are rounded to whole voxels, as torchvision does. Small anchors change by that.

    Attributes:
        sizes, aspect_ratios: As given, one tuple a feature map.

    Raises:
        ModelError: sizes and ratios of different numbers of feature maps, or an anchor without extent.

    >>> anchors = AnchorGenerator(sizes=((4,), (8,)), aspect_ratios=(0.5, 1.0, 2.0))
    >>> anchors.num_anchors_per_location()
    [3, 3]
    >>> maps = [torch.zeros(1, 2, 4, 4, 4), torch.zeros(1, 2, 2, 2, 2)]
    >>> anchors(torch.zeros(1, 1, 16, 16, 16), maps)[0].shape
    torch.Size([216, 6])
    """

    def __init__(
        self,
        sizes: Sequence[float | Sequence[float]] = ((8, 16, 32),),
        aspect_ratios: Sequence[Any] = ((0.5, 1.0, 2.0),),
        ndim: int = 3,
        centered: bool = False,
        rounded: bool = True,
    ) -> None:
        super().__init__()
        _refuse_shapes(sizes, aspect_ratios, ndim)
        self.sizes = tuple((float(of),) if _is_number(of) else tuple(of) for of in sizes)  # type: ignore[arg-type]
        flat = all(_is_number(of) for of in aspect_ratios)
        self.aspect_ratios = (tuple(aspect_ratios),) * len(self.sizes) if flat else tuple(map(tuple, aspect_ratios))
        if len(self.sizes) != len(self.aspect_ratios):
            got = f"{len(self.sizes)} and {len(self.aspect_ratios)}"
            raise ModelError(f"sizes and aspect_ratios must be of the same feature maps, got {got}")
        self.ndim, self.centered, self.rounded = ndim, centered, rounded
        self.cell_anchors = [
            self.generate_anchors(of, ratios) for of, ratios in zip(self.sizes, self.aspect_ratios, strict=True)
        ]

    def generate_anchors(self, sizes: Sequence[float], aspect_ratios: Sequence[Ratio]) -> Tensor:
        """The anchors of one place, around the origin: (ratios * sizes, 2 ndim), ratio by ratio."""
        # on the CPU even where a network is built on the meta device: anchors are no weights that a file would bring
        edges = torch.tensor(sizes, dtype=torch.float32, device="cpu")
        extents = _extents(aspect_ratios, self.ndim)[:, None] * edges[:, None]
        half = (extents / 2).flatten(0, 1)
        half = half.round() if self.rounded else half
        if not (half > 0).all():
            raise ModelError(
                f"an anchor of the sizes {tuple(sizes)} has no extent",
                hint="Give sizes above 1 voxel, or rounded=False",
            )
        return torch.cat([-half, half], dim=1)

    def num_anchors_per_location(self) -> list[int]:
        """Anchors of one place, for each feature map."""
        return [len(cell) for cell in self.cell_anchors]

    def grid_anchors(
        self,
        grid_sizes: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        device: torch.device | str | None = None,
    ) -> list[Tensor]:
        """The anchors of each feature map, (places * anchors of a place, 2 ndim).

        Args:
            grid_sizes: Places of each map along each axis.
            strides: Voxels of the image between two places.
            device: Where the anchors are made.

        Raises:
            ModelError: another number of maps than the generator has sizes for.
        """
        if not len(grid_sizes) == len(strides) == len(self.cell_anchors):
            raise ModelError(
                f"there are {len(grid_sizes)} feature maps and anchor sizes for {len(self.cell_anchors)}",
                hint="Give one tuple of sizes for each feature map",
            )
        return [
            (self._places(grid, stride, device)[:, None] + cell.to(device)).flatten(0, 1)
            for grid, stride, cell in zip(grid_sizes, strides, self.cell_anchors, strict=True)
        ]

    def forward(self, images: Any, feature_maps: Sequence[Tensor]) -> list[Tensor]:
        """One tensor of anchors an image, (all maps' anchors, 2 ndim) float32, map by map, the last axis fastest.

        Args:
            images: The batch, (N, C, *spatial), or torchvision's image list: with ``tensors`` and ``image_sizes``.
            feature_maps: (N, C', *spatial) each.
        """
        batch = getattr(images, "tensors", images)
        size = batch.shape[-self.ndim :]
        grids = [tuple(each.shape[-self.ndim :]) for each in feature_maps]
        strides = [tuple(whole // part for whole, part in zip(size, grid, strict=True)) for grid in grids]
        return [torch.cat(self.grid_anchors(grids, strides, feature_maps[0].device))] * len(batch)

    def extra_repr(self) -> str:
        """What ``print(network)`` shows."""
        return f"sizes={self.sizes}, aspect_ratios={self.aspect_ratios}, ndim={self.ndim}"

    def _places(self, grid: Sequence[int], stride: Sequence[int], device: torch.device | str | None) -> Tensor:
        """Where the anchors of a map stand, twice over, (places, 2 ndim)."""
        offset = 0.5 if self.centered else 0.0
        axes = [(torch.arange(n, device=device) + offset) * step for n, step in zip(grid, stride, strict=True)]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2).repeat(1, 2)


def anchors_of_a_place(anchors: AnchorGenerator) -> int:
    """Anchors of one place.

    Raises:
        ModelError: they are not the same for all maps, over which one head runs.
    """
    numbers = anchors.num_anchors_per_location()
    if len(set(numbers)) != 1:
        raise ModelError(f"every map must have as many anchors a place, since one head runs over all, got {numbers}")
    return int(numbers[0])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_list(value: Any, fine: Callable[[Any], bool]) -> bool:
    """Whether a value is a list, not empty, of what is fine."""
    return isinstance(value, Sequence) and not isinstance(value, str) and bool(value) and all(map(fine, value))


def _refuse_shapes(sizes: Any, ratios: Any, ndim: int) -> None:
    """Refuse what is no list of numbers before anything is computed with it."""
    if not _is_list(sizes, lambda of: _is_number(of) or _is_list(of, _is_number)):
        raise ModelError(
            f"the sizes of anchors must be numbers or lists of numbers, one for each feature map, got {sizes!r}",
            hint="For example [8, 16] or [[8, 12], [16, 24]] for two maps",
        )

    def is_ratio(value: Any) -> bool:
        return _is_number(value) or _is_list(value, _is_number)

    if not _is_list(ratios, lambda of: is_ratio(of) or _is_list(of, is_ratio)):
        raise ModelError(
            f"aspect_ratios must be numbers, or lists of them for each feature map, got {ratios!r}",
            hint="For example [0.5, 1.0, 2.0]" + (", or [[[1.0, 0.5], [2.0, 1.0]]] with pairs" if ndim == 3 else ""),
        )


def _extents(ratios: Sequence[Ratio], ndim: int) -> Tensor:
    """Extents along the axes of a box of volume 1, (ratios, ndim)."""
    shapes = torch.tensor([_shape(ratio, ndim) for ratio in ratios], dtype=torch.float64, device="cpu")
    return (shapes / shapes.prod(dim=1, keepdim=True) ** (1 / ndim)).to(torch.float32)


def _shape(ratio: Ratio, ndim: int) -> tuple[float, ...]:
    """Extents along the axes up to a common factor."""
    shape = (float(ratio), *(1.0,) * (ndim - 1)) if _is_number(ratio) else (1.0, *ratio)  # type: ignore[arg-type, misc]
    if len(shape) != ndim or min(shape) <= 0:
        raise ModelError(f"an aspect ratio must be a positive number or {ndim - 1} of them, got {ratio!r}")
    return shape
