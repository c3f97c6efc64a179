"""How intensities are scaled for a network, and what they were in its training: as a model's card holds it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

Number = Annotated[float, Meta(ge=-1e30, le=1e30)]
Percentile = Annotated[float, Meta(ge=0, le=100)]

#: the numbers that each scheme has
NUMBERS: dict[str, tuple[str, ...]] = {
    "none": (),
    "zscore": (),
    "clip": ("low", "high"),
    "ct": ("low", "high", "mean", "std"),
    "percentile": ("low_percentile", "high_percentile"),
}
#: Schemes to which the unit of the intensities matters; the others take mean, deviation or percentiles of each scan.
ABSOLUTE = frozenset({"none", "clip", "ct"})
LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.5
_CT = re.compile(r"(?:^|[^a-z])(?:ct|cta|cect|ncct|cbct|hu|hounsfield)(?:[^a-z]|$)", re.IGNORECASE)


class Intensity(msgspec.Struct, forbid_unknown_fields=True):
    """How intensities are scaled; every scheme works on each channel by itself.

    ``zscore``: by mean and standard deviation over all voxels, or over the voxels that are not 0 when ``nonzero``
    (background stays 0). ``clip``: cut to ``[low, high]``, then scaled to ``[0, 1]``. ``ct``: cut to ``[low, high]``,
    then minus ``mean``, over ``std``, all four those of a dataset. ``percentile``: two percentiles of each scan to
    ``[0, 1]``, what lies outside cut. ``none``: as stored.

    Attributes:
        scheme: One of these words.
        nonzero: Of ``zscore``.
        low, high: Of ``clip`` and ``ct``, in the scan's own unit (of CT Hounsfield units).
        mean, std: Of ``ct``, in the same unit.
        low_percentile, high_percentile: Of ``percentile``, 0 to 100; 0.5 and 99.5 by default.

    Raises:
        ValueError: numbers that the scheme lacks, or that belong to another.

    Source: ``ct`` is nnU-Net's ``CTNormalization`` (Isensee et al., Nature Methods 2021).

    >>> Intensity("clip", low=-1000, high=1000).scheme
    'clip'
    >>> Intensity("percentile").high_percentile
    99.5
    """

    scheme: Literal["none", "zscore", "clip", "ct", "percentile"] = "zscore"
    nonzero: bool = False
    low: float | None = None
    high: float | None = None
    # not written where they say nothing, so that medtransfer of before these schemes reads all other cards
    mean: Number | UnsetType = UNSET
    std: Number | UnsetType = UNSET
    low_percentile: Percentile | UnsetType = UNSET
    high_percentile: Percentile | UnsetType = UNSET

    def __post_init__(self) -> None:
        _refuse_foreign(self)
        if "low" in NUMBERS[self.scheme]:
            _refuse_range(self)
        if self.scheme == "ct":
            _refuse_deviation(self)
        if self.scheme == "percentile":
            _refuse_percentiles(self)


class IntensityRange(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Raw intensities of one channel over all training scans.

    ``low`` and ``high`` are the 0.5 % and 99.5 % percentiles of all scans together, ``mean`` and ``std`` their mean and
    standard deviation. ``lows`` and ``highs`` are the smallest and the largest of the same percentiles of single scans:
    close together where the unit is absolute, as Hounsfield units are; far apart where each scan has its own.

    Raises:
        ValueError: a number that is not finite, or a range that does not run from low to high.

    >>> IntensityRange(-1000, 1500, -350, 460).lows
    (-1000, -1000)
    """

    low: Number
    high: Number
    mean: Number
    std: Annotated[float, Meta(ge=0, le=1e30)]
    lows: tuple[Number, Number] = (math.nan, math.nan)
    highs: tuple[Number, Number] = (math.nan, math.nan)

    def __post_init__(self) -> None:
        for name, value in (("lows", self.low), ("highs", self.high)):
            if all(map(math.isnan, getattr(self, name))):
                msgspec.structs.force_setattr(self, name, (value, value))
        numbers = (self.low, self.high, self.mean, self.std, *self.lows, *self.highs)
        if not all(map(math.isfinite, numbers)):
            raise ValueError("intensity ranges must hold finite numbers")
        if not (self.low <= self.high and self.lows[0] <= self.lows[1] and self.highs[0] <= self.highs[1]):
            raise ValueError(f"an intensity range runs from low to high, got {self.low} to {self.high}")


def schemes_of(intensity: Intensity | Sequence[Intensity], channels: int) -> list[Intensity]:
    """One scheme a channel.

    Raises:
        ValueError: a list of another length.

    >>> [part.scheme for part in schemes_of(Intensity("none"), 2)]
    ['none', 'none']
    """
    if isinstance(intensity, Intensity):
        return [intensity] * channels
    if len(intensity) != channels:
        raise ValueError(f"`intensity` is a list of {len(intensity)}, but there are {channels} channels")
    return list(intensity)


def is_ct(name: str) -> bool:
    """Whether a channel's name says that its intensities are Hounsfield units.

    >>> [is_ct(name) for name in ("CT", "ct_portal", "CTA", "T1", "ectopic", "ADC")]
    [True, True, True, False, False, False]
    """
    return _CT.search(name) is not None


def _refuse_foreign(intensity: Intensity) -> None:
    """Numbers of another scheme; those of the schemes that old cards know come in pairs in the message."""
    for scheme, names in NUMBERS.items():
        foreign = [name for name in names if name not in NUMBERS[intensity.scheme]]
        if any(getattr(intensity, name) not in (None, UNSET) for name in foreign):
            listed = " and ".join(f"`{name}`" for name in foreign)
            raise ValueError(f"{listed} belong to the scheme {scheme!r}, not to {intensity.scheme!r}")


def _refuse_range(intensity: Intensity) -> None:
    low, high = intensity.low, intensity.high
    if low is None or high is None or not -math.inf < low < high < math.inf:
        raise ValueError(f"the scheme {intensity.scheme!r} needs finite `low` < `high`, got {low} and {high}")


def _refuse_deviation(intensity: Intensity) -> None:
    mean, std = (None if value is UNSET else value for value in (intensity.mean, intensity.std))
    if mean is None or std is None or not (math.isfinite(mean) and 0 < std < math.inf):
        raise ValueError(f"the scheme 'ct' needs a finite `mean` and a `std` above 0, got {mean} and {std}")


def _refuse_percentiles(intensity: Intensity) -> None:
    low = LOW_PERCENTILE if isinstance(intensity.low_percentile, UnsetType) else intensity.low_percentile
    high = HIGH_PERCENTILE if isinstance(intensity.high_percentile, UnsetType) else intensity.high_percentile
    if not 0 <= low < high <= 100:
        raise ValueError(
            f"the scheme 'percentile' needs 0 <= `low_percentile` < `high_percentile` <= 100, got {low} and {high}"
        )
    intensity.low_percentile, intensity.high_percentile = low, high
