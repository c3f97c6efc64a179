"""Prepared cases made ready to draw patches from: padded to a patch, with the places that patches are centred on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

MAX_POSITIONS = 20_000  # of labelled (and of other) voxels kept per case as centres of patches


def padded(sample: dict[str, Any], patch_size: Sequence[int]) -> dict[str, Any]:
    """Pad image and label on both sides with 0 where they are smaller than a patch."""
    margins: list[int] = []
    for size, wanted in zip(reversed(sample["image"].shape[1:]), reversed(patch_size), strict=True):
        missing = max(wanted - size, 0)
        margins += [missing // 2, missing - missing // 2]
    pad = {key: torch.nn.functional.pad(value, margins) for key, value in sample.items() if isinstance(value, Tensor)}
    return {**sample, **pad}


def with_positions(sample: dict[str, Any]) -> dict[str, Any]:
    """Add the flat positions that patches may be centred on, evenly thinned."""
    if not isinstance(sample["label"], Tensor):
        return sample
    labels = sample["label"].numpy().ravel()
    background = _thinned(np.flatnonzero(labels == 0))
    foreground = _thinned(np.flatnonzero(labels))
    either = foreground if len(foreground) else background
    return {**sample, "fg_indices": either, "bg_indices": background if len(background) else either}


def _thinned(positions: np.ndarray) -> np.ndarray:
    return positions[:: max(1, len(positions) // MAX_POSITIONS)]
