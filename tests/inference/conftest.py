"""Networks of a few weights whose answer is known, and the scans they answer about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn


class Threshold(nn.Module):
    """Class 1 where channel 0 is above 0, class 2 where it is above 1; knows exactly what it should find."""

    task, ndim = "segmentation", 3

    def __init__(self, in_channels: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.in_channels, self.num_classes, self.output_stride = in_channels, 3, (stride,) * 3
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        for size, stride in zip(x.shape[2:], self.output_stride, strict=True):
            assert size % stride == 0
        self.shapes.append(tuple(x.shape[2:]))
        first = x[:, :1]
        return torch.cat([-10 * first, 10 * first, 20 * first - 10], dim=1)


class Mean(nn.Module):
    """A classifier by the mean intensity: (N, C, D, H, W) -> (N, 2)."""

    task, ndim, in_channels, num_classes, output_stride = "classification", 3, 1, 2, 1

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(1, 2, 3, 4))
        return torch.stack([-mean, mean], dim=1)


class Cubes(nn.Module):
    """A detector of bright blocks: class 1 at intensity 1, class 2 at 2; what it sees of a block is its box."""

    task, ndim, in_channels, num_classes, output_stride = "detection", 3, 1, 3, (8, 8, 8)
    score_thresh, nms_thresh = 0.05, 0.4

    def __init__(self, scores: Sequence[float] = (0.9, 0.8)) -> None:
        super().__init__()
        self.scores, self.shapes = scores, []

    def forward(self, images: Sequence[Tensor], targets: Any = None) -> list[dict[str, Tensor]]:
        assert isinstance(images, list)
        self.shapes += [tuple(image.shape[1:]) for image in images]
        return [self.find(image[0].float().round().numpy()) for image in images]

    def find(self, values: np.ndarray) -> dict[str, Tensor]:
        rows = []
        for label in (1, 2):
            parts, _ = ndimage.label(values == label, np.ones((3, 3, 3)))
            boxes = [[[axis.start, axis.stop] for axis in box] for box in ndimage.find_objects(parts)]
            rows += [(*np.transpose(box).ravel(), label, self.scores[label - 1]) for box in boxes]
        rows = [row for row in sorted(rows, key=lambda row: -row[-1]) if row[-1] > self.score_thresh]
        table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 8)
        return {"boxes": table[:, :6], "labels": table[:, 6].long(), "scores": table[:, 7]}


class Heads(nn.Module):
    """A multi-task network: a mask by `Threshold`, two classes by `Mean`, and the mean as a quantity."""

    task, ndim, in_channels, num_classes, output_stride = "multitask", 3, 1, 3, 1
    heads = {
        "organs": {"task": "segmentation", "num_classes": 3},
        "ill": {"task": "classification", "num_classes": 2},
        "age": {"task": "regression", "num_outputs": 1},
    }

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names or tuple(self.heads)
        self.num_classes, self.calls = len(self.names), 0
        chosen = {name: self.heads[name] for name in self.names}
        self.architecture = {"name": "multitask_resnet10", "arguments": {"heads": chosen}}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.calls += 1
        mean = Mean()(x)
        found = {"organs": Threshold()(x), "ill": mean, "age": 50 + mean[:, 1:]}
        return {name: found[name] for name in self.names}


class Convolutions(nn.Module):
    """A small network with a norm of choice and a receptive field of 5 voxels."""

    task, ndim, in_channels, num_classes, output_stride = "segmentation", 3, 1, 2, 1

    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        layers = [nn.Conv3d(1, 6, 3, padding=1), norm(6), nn.ReLU(), nn.Conv3d(6, 2, 3, padding=1)]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


@pytest.fixture
def networks() -> dict[str, Any]:
    return {"threshold": Threshold, "mean": Mean, "convolutions": Convolutions, "cubes": Cubes, "heads": Heads}


@pytest.fixture
def scan(tmp_path: Path) -> Callable[..., Path]:
    """Write a scan of random signs: its own thresholds are the expected mask."""

    def write(name: str = "case.nii.gz", shape: Any = (9, 8, 7), affine: Any = None, array: Any = None) -> Path:
        values = np.random.default_rng(0).normal(size=shape) if array is None else np.asarray(array)
        grid = np.diag([-1.0, 2.0, 1.5, 1.0]) if affine is None else affine
        path = tmp_path / name
        nib.Nifti1Image(values.astype(np.float32), grid).to_filename(path)
        return path

    return write
