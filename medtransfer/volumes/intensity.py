"""Intensities as networks want them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..intensity import Intensity, schemes_of
from .validate import constant_note

CHUNK = 1 << 18  # voxels that are in double precision at once
Channel: TypeAlias = npt.NDArray[np.float32]
Given: TypeAlias = "Intensity | Mapping[str, Any] | Sequence[Intensity | Mapping[str, Any]] | None"


def normalise(array: Channel, intensity: Given = None) -> tuple[Channel, list[str]]:
    """Scale (C, ...) intensities; returns a new array and warnings.

    Sums and percentiles are taken in double precision, the result is float32. See
    :class:`medtransfer.intensity.Intensity` for what each scheme does.

    Args:
        array: Channels first, float32, finite.
        intensity: One scheme for all channels, or a list with one a channel; None is a z-score over all voxels.

    Raises:
        UsageError: an unknown scheme, numbers that it lacks or does not have, or a list of another length.

    >>> normalise(np.array([[-2000.0, 0.0, 3000.0]], np.float32), {"scheme": "clip", "low": -1000, "high": 1000})[0]
    array([[0. , 0.5, 1. ]], dtype=float32)
    """
    schemes = read_schemes(intensity, len(array))
    done: list[Channel] = []
    notes, constant = [], []
    for index, (channel, scheme) in enumerate(zip(array, schemes, strict=True)):
        scaled, is_constant, said = _SCHEMES[scheme.scheme](channel, scheme)
        done.append(scaled.copy() if scaled is channel else scaled)
        constant += [str(index)] if is_constant else []
        notes += said
    whole = done[0][None] if len(done) == 1 else np.stack(done)
    return whole, [*constant_note(constant), *dict.fromkeys(notes)]


def read_schemes(intensity: Given, channels: int) -> list[Intensity]:
    """One checked scheme a channel.

    Raises:
        UsageError: as :func:`normalise`.

    >>> [scheme.scheme for scheme in read_schemes([{"scheme": "none"}, {}], 2)]
    ['none', 'zscore']
    """
    given = Intensity() if intensity is None else intensity
    try:
        if isinstance(given, Sequence):
            return schemes_of([_read(part) for part in given], channels)
        return schemes_of(_read(given), channels)
    except ValueError as error:  # msgspec.ValidationError is one
        raise UsageError(f"intensity: {error}") from error


def _read(given: Intensity | Mapping[str, Any]) -> Intensity:
    return given if isinstance(given, Intensity) else msgspec.convert(dict(given), Intensity)


def _none(channel: Channel, scheme: Intensity) -> tuple[Channel, bool, list[str]]:
    return channel, _is_constant(channel), []


def _clip(channel: Channel, scheme: Intensity) -> tuple[Channel, bool, list[str]]:
    low, high = _numbers(scheme, "low", "high")
    scaled = (np.clip(channel, low, high) - np.float32(low)) / np.float32(high - low)
    return scaled, _is_constant(channel), _outside(channel, low, high)


def _ct(channel: Channel, scheme: Intensity) -> tuple[Channel, bool, list[str]]:
    low, high, mean, deviation = _numbers(scheme, "low", "high", "mean", "std")
    scaled = (np.clip(channel, low, high) - np.float32(mean)) / np.float32(deviation)
    return scaled, _is_constant(channel), _outside(channel, low, high)


def _percentile(channel: Channel, scheme: Intensity) -> tuple[Channel, bool, list[str]]:
    """A channel whose two percentiles are equal, of some foreground in much background, takes its whole range."""
    wanted = _numbers(scheme, "low_percentile", "high_percentile")
    if channel.size == 0:
        return channel, False, []
    low, high = (float(value) for value in np.percentile(channel, wanted))
    if low == high:
        low, high = float(channel.min()), float(channel.max())
    if low == high:
        return np.zeros_like(channel), True, []
    return (np.clip(channel, low, high) - np.float32(low)) / np.float32(high - low), False, []


def _zscore(channel: Channel, scheme: Intensity) -> tuple[Channel, bool, list[str]]:
    mask = channel != 0 if scheme.nonzero else None
    seen = channel[mask] if mask is not None else channel
    if seen.size == 0:
        return np.zeros_like(channel), True, []
    mean = float(seen.mean(dtype=np.float64))
    deviation = _deviation(seen, mean)
    scaled = np.subtract(channel, np.float32(mean), dtype=np.float32)
    scaled /= np.float32(deviation or 1.0)
    return (np.where(mask, scaled, np.float32(0)) if mask is not None else scaled), deviation == 0, []


def _deviation(values: npt.NDArray[np.float32], mean: float) -> float:
    """The standard deviation in double precision, without all values in it at once."""
    flat = values.reshape(-1)
    parts = (flat[start : start + CHUNK] - np.float64(mean) for start in range(0, flat.size, CHUNK))
    return math.sqrt(math.fsum(float(part @ part) for part in parts) / flat.size)


_SCHEMES: dict[str, Callable[[Channel, Intensity], tuple[Channel, bool, list[str]]]] = {
    "none": _none,
    "clip": _clip,
    "ct": _ct,
    "percentile": _percentile,
    "zscore": _zscore,
}


def _numbers(scheme: Intensity, *names: str) -> list[float]:
    return [float(getattr(scheme, name)) for name in names]


def _is_constant(channel: Channel) -> bool:
    return channel.size > 0 and bool(channel.min() == channel.max())


def _outside(channel: Channel, low: float, high: float) -> list[str]:
    if channel.size == 0 or (channel.max() > low and channel.min() < high):
        return []
    return [f"all intensities lie outside {low:g} to {high:g}, the model's range: is the unit right?"]
