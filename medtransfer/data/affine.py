"""A random rotation, zoom and shift of image and label together, as a MONAI transform.

MONAI's ``RandAffined`` does the same in twice the time on a CPU (14 ms against 7 ms for 48x64x48 voxels on one core of
two), which for small patches is a fifth of a training step: it builds the sampling grid by a matrix product over all
voxels in double copies, once per key.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import RandomizableTransform
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional as F

from .on_device import on_device


class RandomAffine(RandomizableTransform):
    """Rotate, zoom and shift about the centre; image trilinear with its border repeated, label nearest with 0 outside.

    Args:
        prob: Probability.
        rotate: Largest angle about each axis, degrees.
        zoom: Largest change of size along each axis, as a share.
        shift: Largest shift along each axis, voxels.
    """

    def __init__(self, prob: float, rotate: float = 0.0, zoom: float = 0.0, shift: float = 0.0) -> None:
        super().__init__(prob)
        self.rotate, self.zoom, self.shift = rotate, zoom, shift

    def randomize(self, data: Any = None) -> None:
        """Draw whether to act, and a matrix (3, 4) from output to input voxels, both counted from the centre."""
        super().randomize(None)
        if not self._do_transform:
            return
        angles = self.R.uniform(-self.rotate, self.rotate, 3)
        zooms = 1 + self.R.uniform(-self.zoom, self.zoom, 3)
        shifts = self.R.uniform(-self.shift, self.shift, 3)
        turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        self.matrix = np.column_stack([turn / zooms, shifts])

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``image`` (C, D, H, W), if it is a tensor ``label`` (1, D, H, W), and ``boxes``; other keys pass through."""
        self.randomize()
        moved = dict(data)
        if not self._do_transform:
            return moved
        grid = sampling_grid(self.matrix, moved["image"].shape[1:], moved["image"].device)
        moved["image"] = _sample(moved["image"], grid, "bilinear", "border")
        if "boxes" in moved:
            moved["boxes"] = moved["boxes"].warped(self.matrix, moved["image"].shape[1:])
        if isinstance(moved.get("label"), Tensor):
            moved["label"] = _sample(moved["label"].float(), grid, "nearest", "zeros").to(moved["label"].dtype)
        return moved


def sampling_grid(
    matrix: np.ndarray, shape: torch.Size | tuple[int, ...], device: str | torch.device = "cpu"
) -> Tensor:
    """The grid of ``grid_sample`` for a matrix (3, 4) in voxels from the centre, axes D, H, W.

    >>> grid = sampling_grid(np.eye(3, 4), (2, 2, 4))
    >>> grid.shape, grid[0, 0, 0, 0].tolist()
    (torch.Size([1, 2, 2, 4, 3]), [-0.75, -0.5, -0.5])
    """
    half = np.asarray(shape, dtype=float) / 2
    linear, offset = matrix[:, :3] * half / half[:, None], matrix[:, 3] / half
    # grid_sample counts axes from the last one, W, H, D
    theta = torch.from_numpy(np.column_stack([linear[::-1, ::-1], offset[::-1]])).float()
    return F.affine_grid(on_device(theta[None], torch.device(device)), [1, 1, *shape], align_corners=False)


def _sample(values: Tensor, grid: Tensor, mode: str, padding: str) -> Tensor:
    return F.grid_sample(values[None], grid, mode, padding, align_corners=False)[0]
