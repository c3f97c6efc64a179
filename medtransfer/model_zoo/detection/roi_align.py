"""RoIAlign in 2-D and 3-D: the features of a box as a small map of fixed size (He et al., "Mask R-CNN", ICCV 2017)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...devices import at_least_float32
from ...errors import ModelError

#: entries of the table of voxels and weights that are made at once: 200 MB
TABLE = 1 << 24


def roi_align(
    maps: Tensor,
    rois: Tensor | Sequence[Tensor],
    output_size: int | Sequence[int],
    spatial_scale: float | Sequence[float] = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """Mean of interpolated features in each bin of each box: torchvision's definition, in 2-D and 3-D.

    A box is divided into ``output_size`` bins; in each bin ``sampling_ratio`` points an axis are interpolated
    linearly between the voxels and averaged. Points up to one voxel outside take the border's value, those further
    out count as 0. Interpolation and mean of a bin are one weighted sum over the voxels that it touches, so that all
    boxes are one sum over rows of a table. There is a gradient for the maps, none for the boxes. The sum is always in
    float32 or finer; the result has the type of the maps.

    Args:
        maps: Feature maps (N, C, *spatial).
        rois: (R, 1 + 2 ndim) with the number of the image first, or for each image (R_i, 2 ndim).
        output_size: Bins of a box, one number or one an axis.
        spatial_scale: Voxels of the map per voxel of the boxes, one number or one an axis.
        sampling_ratio: Points of a bin along an axis; below 1 as many as the bin has voxels, rounded up.
        aligned: Boxes count from the outer corner of the first voxel, which is half a voxel before its middle. False:
            boxes are shifted by that half, and made one voxel large at least, as torchvision's detectors do.

    Returns:
        (R, C, *output_size).

    Raises:
        ModelError: boxes of another shape.

    >>> ramp = torch.arange(8.0).view(1, 1, 8, 1, 1).expand(1, 1, 8, 8, 8)
    >>> boxes = torch.tensor([[0.0, 2, 2, 2, 6, 6, 6]])
    >>> roi_align(ramp, boxes, output_size=2, sampling_ratio=2, aligned=True)[0, 0, :, 0, 0]
    tensor([2.5000, 4.5000])
    """
    ndim = maps.ndim - 2
    rois = _with_numbers(rois, ndim, maps)
    size = _each_axis(output_size, ndim)
    with torch.autocast(maps.device.type, enabled=False):
        rows = at_least_float32(maps.movedim(1, -1).flatten(0, -2))
        points = _points(rois[:, 1:].to(rows), size, _each_axis(spatial_scale, ndim), sampling_ratio, aligned)
        axes = [_weights(*along, voxels) for along, voxels in zip(points, maps.shape[2:], strict=True)]
        entries = math.prod(size) * math.prod(weights.shape[-1] for _, weights in axes)
        parts = torch.arange(len(rois), device=maps.device).split(max(1, TABLE // entries))
        pooled = [_sums(rows, rois[part, 0], [(v[part], w[part]) for v, w in axes], maps.shape[2:]) for part in parts]
    return torch.cat(pooled).view(len(rois), *size, maps.shape[1]).movedim(-1, 1).to(maps.dtype)


class MultiScaleRoIAlign(nn.Module):
    """RoIAlign on that level of a feature pyramid which fits a box's size (Lin et al., "FPN", CVPR 2017, eq. 1).

    Args:
        featmap_names: Names of the feature maps to pool from, high to low resolution.
        output_size: Bins of a box, one number or one an axis.
        sampling_ratio: As of :func:`roi_align`.
        ndim: Spatial dimensions.
        canonical_scale: Edge in voxels of a cube that is pooled from the canonical level.
        canonical_level: Its level: the logarithm to base 2 of its stride. Both default to torchvision's: objects of
            whole photographs; for the structures of a scan give a smaller scale.
        aligned: As of :func:`roi_align`. Default False, torchvision's: its weights were trained with that, and voxel k
            of a map that strided convolutions of odd kernels made does look at voxel k * stride of the scan. Networks
            that halve by pooling look at the middle of the stride, which is what True assumes.

    Raises:
        ModelError: a feature map of that name is missing, or the numbers of bins or points are none.

    >>> pool = MultiScaleRoIAlign(["0"], output_size=4, sampling_ratio=1)
    >>> maps, boxes = {"0": torch.rand(1, 8, 6, 6, 6)}, [torch.tensor([[0.0, 0, 0, 20, 20, 20]])]
    >>> pool(maps, boxes, [(24, 24, 24)]).shape
    torch.Size([1, 8, 4, 4, 4])
    """

    def __init__(
        self,
        featmap_names: Sequence[str],
        output_size: int | Sequence[int],
        sampling_ratio: int,
        ndim: int = 3,
        *,
        canonical_scale: float = 224,
        canonical_level: int = 4,
        aligned: bool = False,
    ) -> None:
        super().__init__()
        self.featmap_names = list(featmap_names)
        if not self.featmap_names:
            raise ModelError("featmap_names must name at least one feature map, got none")
        self.ndim = ndim
        self.output_size = tuple(_each_axis(output_size, ndim))
        for name, value, least in [*(("output_size", bins, 1) for bins in self.output_size),
                                   ("sampling_ratio", sampling_ratio, -1)]:  # fmt: skip
            if not isinstance(value, int) or value < least:
                raise ModelError(f"{name} must be of whole numbers from {least} on, got {value!r}")
        self.sampling_ratio = sampling_ratio
        self.canonical_scale, self.canonical_level = canonical_scale, canonical_level
        self.aligned = aligned

    def forward(
        self, features: Mapping[str, Tensor], boxes: Sequence[Tensor], image_sizes: Sequence[Sequence[int]]
    ) -> Tensor:
        """Pooled features of all images' boxes, (R, C, *output_size).

        Args:
            features: Feature maps (N, C, *spatial) by name.
            boxes: For each image (R_i, 2 ndim), in voxels of the images.
            image_sizes: Spatial size of each image. The stride of a map is the power of two that is nearest to the
                largest of them over the map's size: give the padded size where the padding of small scans counts.
        """
        if absent := [name for name in self.featmap_names if name not in features]:
            raise ModelError(
                f"the backbone gives no feature map {absent[0]!r}",
                hint=f"Name some of {', '.join(map(repr, features))} in featmap_names",
            )
        maps = [features[name] for name in self.featmap_names]
        if not len(image_sizes) or len(boxes) != len(maps[0]):
            counts = f"{len(boxes)} boxes and {len(image_sizes)} sizes for {len(maps[0])}"
            raise ModelError(f"there must be boxes and sizes of all images, got {counts}")
        largest = [max(sizes) for sizes in zip(*image_sizes, strict=True)]
        scales = [_scales(each.shape[2:], largest) for each in maps]
        rois = _with_numbers(boxes, self.ndim, maps[0])
        levels = self._levels(rois[:, 1:], scales)
        pooled = maps[0].new_zeros(len(rois), maps[0].shape[1], *self.output_size)
        for level, (each, scale) in enumerate(zip(maps, scales, strict=True)):
            place = torch.where(levels == level)[0]
            part = roi_align(each, rois[place], self.output_size, scale, self.sampling_ratio, self.aligned)
            pooled = pooled.index_put((place,), part.to(pooled.dtype))
        return pooled

    def _levels(self, boxes: Tensor, scales: Sequence[Sequence[float]]) -> Tensor:
        """Which of the feature maps is each box's, (R,): that of its level, or the nearest to it."""
        extents = boxes[:, self.ndim :] - boxes[:, : self.ndim]
        edge = extents.to(torch.float32).prod(dim=1) ** (1 / self.ndim)
        # a hair more, so that a box of just the canonical scale is not rounded down
        level = torch.floor(self.canonical_level + torch.log2(edge / self.canonical_scale) + 1e-6)
        own = level.new_tensor([-math.log2(math.prod(scale)) / self.ndim for scale in scales])
        return (level[:, None] - own).abs().argmin(dim=1)

    def extra_repr(self) -> str:
        """What ``print(network)`` shows."""
        return f"featmap_names={self.featmap_names}, output_size={self.output_size}, ratio={self.sampling_ratio}"


def _each_axis(value: float | Sequence[float], ndim: int) -> tuple[int, ...]:
    values = (value,) * ndim if isinstance(value, (int, float)) else tuple(value)
    if len(values) != ndim:
        raise ModelError(f"one number or {ndim} are needed for {ndim} axes, got {values}")
    return values  # type: ignore[return-value]


def _scales(shape: Sequence[int], image: Sequence[int]) -> list[float]:
    """Voxels of a map per voxel of the image along each axis: powers of two."""
    return [2.0 ** round(math.log2(part / whole)) for part, whole in zip(shape, image, strict=True)]


def _with_numbers(rois: Tensor | Sequence[Tensor], ndim: int, maps: Tensor) -> Tensor:
    """(R, 1 + 2 ndim), the number of the image first."""
    if not isinstance(rois, Tensor):
        numbers = [torch.full_like(boxes[:, :1], number) for number, boxes in enumerate(rois)]
        rois = torch.cat([torch.cat(numbers), torch.cat(list(rois))], dim=1)
    if rois.ndim != 2 or rois.shape[1] != 1 + 2 * ndim:
        got = f"{tuple(rois.shape)} for maps {tuple(maps.shape)}"
        raise ModelError(f"boxes must be (R, {1 + 2 * ndim}) or a list of (R, {2 * ndim}), got {got}")
    return rois.detach()


def _points(
    boxes: Tensor, size: Sequence[int], scales: Sequence[float], sampling_ratio: int, aligned: bool
) -> list[tuple[Tensor, Tensor]]:
    """For each axis the places of the points, (R, bins, points) in middles of voxels, and their weights alike."""
    scale = boxes.new_tensor(scales)
    lower, upper = (boxes * scale.repeat(2) - (0.5 if aligned else 0.0)).unflatten(1, (2, -1)).unbind(1)
    extent = upper - lower if aligned else (upper - lower).clamp(min=1)
    along = zip(lower.unbind(1), (extent / boxes.new_tensor(size)).unbind(1), size, strict=True)
    return [_points_along(start, width, bins, sampling_ratio) for start, width, bins in along]


def _points_along(start: Tensor, width: Tensor, bins: int, sampling_ratio: int) -> tuple[Tensor, Tensor]:
    counts = torch.full_like(width, sampling_ratio) if sampling_ratio > 0 else width.ceil().clamp(min=1)
    most = sampling_ratio if sampling_ratio > 0 else int(counts.max().item()) if len(counts) else 1
    points = torch.arange(most, device=start.device).to(start)
    edges = start[:, None] + torch.arange(bins, device=start.device).to(start) * width[:, None]
    # boxes with fewer points than the largest count their last one again, with weight 0
    weights = (points < counts[:, None]).to(start) / counts[:, None]
    points = torch.minimum(points, counts[:, None] - 1)
    places = edges[:, :, None] + ((points + 0.5) * (width / counts)[:, None])[:, None]
    return places, weights[:, None].expand_as(places)


def _weights(places: Tensor, weights: Tensor, voxels: int) -> tuple[Tensor, Tensor]:
    """The voxels along an axis that each bin touches, (R, bins, touched), and the share of each in its mean."""
    inside = (places >= -1) & (places <= voxels)
    places = places.clamp(0, voxels - 1)
    first = places[..., :1].floor()
    reach = int((places[..., -1:] - first).max().item()) + 2 if places.numel() else 1
    window = first + torch.arange(min(reach, voxels), device=places.device)
    closeness = (1 - (places[..., None] - window[..., None, :]).abs()).clamp(min=0)
    shares = (closeness * (weights * inside)[..., None]).sum(-2)
    return window.clamp(max=voxels - 1).to(torch.int64), shares


def _sums(rows: Tensor, images: Tensor, axes: Sequence[tuple[Tensor, Tensor]], shape: Sequence[int]) -> Tensor:
    """Weighted sums over the voxels of each bin, (R * bins, C); ``rows`` (N * voxels, C)."""
    place, share = images.to(torch.int64).view(-1, 1, 1), torch.ones_like(images, dtype=rows.dtype).view(-1, 1, 1)
    for (voxels, shares), length in zip(axes, shape, strict=True):
        # bins and voxels of this axis inside those of the axes before it
        place = (place[:, :, None, :, None] * length + voxels[:, None, :, None, :]).flatten(3, 4).flatten(1, 2)
        share = (share[:, :, None, :, None] * shares[:, None, :, None, :]).flatten(3, 4).flatten(1, 2)
    return F.embedding_bag(place.flatten(0, 1), rows, per_sample_weights=share.flatten(0, 1), mode="sum")
