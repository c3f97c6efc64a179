"""A trained network and a real scan without a download: grey and white matter of the MNI152 template."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn

from medtransfer.allocator import reused_memory
from medtransfer.demo.template import read_template

PATCH = 64
STEPS, QUICK_STEPS = 120, 10


@dataclass(frozen=True)
class Brain:
    """The template (1, D, H, W), scaled, and its classes (D, H, W): 0 all else, 1 grey, 2 white matter."""

    image: Tensor
    labels: Tensor


def read_brain(shape: tuple[int, int, int]) -> Brain:
    """The middle of the template, of that shape.

    Raises:
        MissingExtraError: nilearn is not installed.
    """
    template = read_template()
    cut = tuple(
        slice((have - want) // 2, (have - want) // 2 + want)
        for have, want in zip(template.image.shape, shape, strict=True)
    )
    image = torch.from_numpy(template.image[cut].astype(np.float32))
    labels = torch.from_numpy(template.labels[cut].astype(np.int64)) - 1
    return Brain((image - image.mean())[None] / image.std(), labels.clamp(min=0))


def fit(network: nn.Module, brain: Brain, steps: int) -> nn.Module:
    """Train on random cubes in float32: enough that most voxels are decided, as with a network that is used."""
    draw = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    criterion = DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    network.train()
    with reused_memory():
        for _ in range(steps):
            image, labels = _batch(brain, draw)
            loss = criterion(network(image), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def _batch(brain: Brain, draw: torch.Generator, size: int = 2) -> tuple[Tensor, Tensor]:
    """Cubes (N, 1, ...) of the image and of the labels."""
    cubes = [_cube(brain.labels.shape, draw) for _ in range(size)]
    return torch.stack([brain.image[(slice(None), *c)] for c in cubes]), torch.stack(
        [brain.labels[c][None] for c in cubes]
    )


def _cube(shape: torch.Size, draw: torch.Generator) -> tuple[slice, ...]:
    starts = [int(torch.randint(0, max(1, size - PATCH + 1), (1,), generator=draw)) for size in shape]
    return tuple(slice(start, start + PATCH) for start in starts)
