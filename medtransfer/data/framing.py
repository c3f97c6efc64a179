"""Prepared cases made ready to draw patches from: padded to a patch, with the places that patches are centred on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..volumes.padding import centred_margins, pad

MAX_POSITIONS = 20_000  # of labelled (and of other) voxels kept per case as centres of patches


def padded(sample: dict[str, Any], patch_size: Sequence[int]) -> dict[str, Any]:
    """Pad image and label on both sides with 0 where they are smaller than a patch."""
    margins = centred_margins(sample["image"].shape[1:], patch_size)
    return {key: pad(value, margins) if isinstance(value, Tensor) else value for key, value in sample.items()}


def with_positions(sample: dict[str, Any]) -> dict[str, Any]:
    """Add the flat positions that patches may be centred on, evenly thinned; of several label sets those of any."""
    if not isinstance(sample["label"], Tensor):
        return sample
    labels = sample["label"].amax(dim=0).numpy().ravel()
    background = _thinned(np.flatnonzero(labels == 0))
    foreground = _thinned(np.flatnonzero(labels))
    either = foreground if len(foreground) else background
    return {**sample, "fg_indices": either, "bg_indices": background if len(background) else either}


def _thinned(positions: np.ndarray) -> np.ndarray:
    return positions[:: max(1, len(positions) // MAX_POSITIONS)]
