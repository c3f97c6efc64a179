"""Golden values of torchvision, and boxes by chance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def golden() -> dict[str, Tensor]:
    """What torchvision computes; ``golden/make_golden.py`` says how."""
    with np.load(Path(__file__).parent / "golden" / "ops.npz") as found:
        return {key: torch.from_numpy(found[key]) for key in found.files}


@pytest.fixture
def draw_boxes() -> Callable[..., Tensor]:
    """(N, 2 ndim) boxes in a cube of that many voxels."""

    def draw(number: int, ndim: int = 3, size: float = 24.0, largest: float = 10.0, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        lower = torch.rand(number, ndim, generator=generator) * (size - largest)
        return torch.cat([lower, lower + 1 + torch.rand(number, ndim, generator=generator) * (largest - 1)], dim=1)

    return draw


@pytest.fixture
def cuda() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch.device("cuda")
