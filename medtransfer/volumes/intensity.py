"""Intensities as networks want them."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError

SCHEMES = ("none", "zscore", "clip")


def normalise(array: npt.NDArray[np.float32], intensity: Any = None) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Scale (C, ...) intensities; returns a new array and warnings.

    Args:
        array: Channels first, float32, finite.
        intensity: A mapping or object with ``scheme`` and, as the scheme needs them, ``nonzero``, ``low``, ``high``.
            ``zscore``: mean 0 and deviation 1 per channel, over all voxels, or over those that are not 0 when
            ``nonzero`` (the others stay 0). ``clip``: clip to ``low`` and ``high``, then to
            0..1. ``none``: as they are.

    Raises:
        UsageError: an unknown scheme, or clip without ``low`` < ``high``.

    >>> normalise(np.array([[-2000.0, 0.0, 3000.0]], np.float32), {"scheme": "clip", "low": -1000, "high": 1000})[0]
    array([[0. , 0.5, 1. ]], dtype=float32)
    """
    scheme, nonzero, low, high = _settings(intensity)
    if scheme == "none":
        return array.copy(), []
    if scheme == "clip":
        return _clip(array, low, high)
    done = [_zscore(channel, nonzero) for channel in array]
    flat = [str(index) for index, (_, deviation) in enumerate(done) if deviation == 0]
    warnings = [f"channel {', '.join(flat)} is constant: nothing can be seen in it"] if flat else []
    return np.stack([channel for channel, _ in done]), warnings


def _settings(intensity: Any) -> tuple[str, bool, float | None, float | None]:
    given = SimpleNamespace(**intensity) if isinstance(intensity, Mapping) else intensity
    scheme = getattr(given, "scheme", "zscore")
    low, high = getattr(given, "low", None), getattr(given, "high", None)
    if scheme not in SCHEMES:
        raise UsageError(f"intensity scheme must be one of {', '.join(SCHEMES)}, got {scheme!r}")
    if scheme == "clip" and (low is None or high is None or not low < high):
        raise UsageError(f"the clip scheme needs low < high, got {low} and {high}")
    return scheme, bool(getattr(given, "nonzero", False)), low, high


def _clip(array: npt.NDArray[np.float32], low: Any, high: Any) -> tuple[npt.NDArray[np.float32], list[str]]:
    scaled = (np.clip(array, low, high) - np.float32(low)) / np.float32(high - low)
    outside = array.size > 0 and (scaled.max() <= 0 or scaled.min() >= 1)
    reason = f"all intensities lie outside {low:g} to {high:g}, the model's range: is the unit right?"
    return scaled.astype(np.float32), [reason] if outside else []


def _zscore(channel: npt.NDArray[np.float32], nonzero: bool) -> tuple[npt.NDArray[np.float32], float]:
    """The channel and its deviation, which is 0 for a constant one; sums in double precision."""
    mask = channel != 0 if nonzero else None
    seen = channel[mask] if mask is not None else channel
    if seen.size == 0:
        return np.zeros_like(channel), 0.0
    mean, deviation = float(seen.mean(dtype=np.float64)), float(seen.std(dtype=np.float64))
    scaled = ((channel - mean) / (deviation or 1.0)).astype(np.float32)
    return (np.where(mask, scaled, np.float32(0)) if mask is not None else scaled), deviation
