"""Features of frozen encoders: at given places of a scan, or pooled over all of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..volumes.padding import centred_margins, pad
from ..volumes.prepare import Prepared
from .contenders import stage_maps
from .spectrum import Floats

#: voxels around the places that a network sees too
CONTEXT = 16
#: longest edge of what goes through a network at once
TILE = 128


def features_at(
    modules: Sequence[nn.Module],
    prepared: Prepared,
    positions: Floats,
    least: Sequence[int] | None,
    device: torch.device,
) -> list[list[Floats]]:
    """Features of each network at places of a scan, by stage, interpolated between the voxels of a stage's map.

    Args:
        modules: Networks with ``features`` and ``output_stride``, all of the same stride.
        prepared: The scan on the networks' working grid.
        positions: (P, 3) in world millimetres.
        least: Smallest crop in voxels, such as the patch that a network was trained on.
        device: Where the networks are.

    Returns:
        For each network and stage (P, C).
    """
    voxels = nib.affines.apply_affine(np.linalg.inv(prepared.grid.affine), positions)
    stride = _stride(modules[0])
    image, start = _crop(prepared.array, voxels, stride, least)
    # -1 to 1 from the first voxel's outer face to the last one's, axes in the order W, H, D
    where = (2 * (voxels - start) + 1) / np.array(image.shape[2:]) - 1
    grid = torch.from_numpy(where[:, ::-1].copy()).float()[None, :, None, None].to(device)
    return [[_sampled(maps, grid) for maps in stage_maps(module, image.to(device))] for module in modules]


def pooled_features(
    modules: Sequence[nn.Module], array: npt.NDArray[np.float32], device: torch.device
) -> list[list[Floats]]:
    """The mean of each stage's map over a scan (C, D, H, W): for each network and stage (1, C).

    Large scans go through in tiles, whose means count by their size.
    """
    tiles = list(_tiles(torch.from_numpy(array), _stride(modules[0])))
    sizes = np.array([tile[0, 0].numel() for tile in tiles], dtype=np.float64)
    return [_mean_of_tiles(module, tiles, sizes / sizes.sum(), device) for module in modules]


def _mean_of_tiles(module: nn.Module, tiles: Sequence[Tensor], shares: Floats, device: torch.device) -> list[Floats]:
    means = [
        [
            maps.float().flatten(2).mean(2).cpu().numpy().astype(np.float64) * share
            for maps in stage_maps(module, tile.to(device))
        ]
        for tile, share in zip(tiles, shares, strict=True)
    ]
    return [np.sum(stage, axis=0) for stage in zip(*means, strict=True)]


def _stride(module: nn.Module) -> np.ndarray:
    return np.array(module.output_stride, dtype=int)


def _crop(
    array: np.ndarray, voxels: Floats, stride: np.ndarray, least: Sequence[int] | None
) -> tuple[Tensor, np.ndarray]:
    """What a network is shown (1, C, D, H, W): the places with context, in whole strides; and its first voxel.

    Where the scan ends sooner, 0 is padded on both sides, as in training.
    """
    low = np.maximum(np.floor(voxels.min(axis=0)).astype(int) - CONTEXT, 0)
    high = np.minimum(np.ceil(voxels.max(axis=0)).astype(int) + CONTEXT + 1, array.shape[1:])
    smallest = np.minimum(least or (1, 1, 1), TILE)
    # a norm layer that takes its statistics from the input needs more than one voxel of the deepest map
    wanted = np.maximum(np.ceil(np.maximum(high - low, smallest) / stride).astype(int), 2) * stride
    start = np.clip((low + high - wanted) // 2, 0, np.maximum(np.array(array.shape[1:]) - wanted, 0))
    content = array[(slice(None), *(slice(a, a + size) for a, size in zip(start, wanted, strict=True)))]
    margins = centred_margins(content.shape[1:], wanted)
    before = [low for low, _ in margins]
    return pad(torch.from_numpy(np.ascontiguousarray(content)), margins)[None], start - before


def _sampled(maps: Tensor, grid: Tensor) -> Floats:
    """(1, C, D, H, W) at the places of a grid (1, P, 1, 1, 3) -> (P, C), trilinear."""
    values = F.grid_sample(maps.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return values[0, :, :, 0, 0].T.cpu().numpy().astype(np.float64)


def _tiles(image: Tensor, stride: np.ndarray) -> Iterator[Tensor]:
    """A scan (C, D, H, W) in parts of about equal size (1, C, d, h, w), none longer than ``TILE``."""
    parts = [np.array_split(np.arange(size), -(-size // TILE)) for size in image.shape[1:]]
    for index in itertools.product(*parts):
        tile = image[(slice(None), *(slice(int(part[0]), int(part[-1]) + 1) for part in index))]
        yield pad(tile, centred_margins(tile.shape[1:], 2 * stride))[None]
