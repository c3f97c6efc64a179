"""How a scan is brought to the network: stated once in a config, used by every dataset, kept in the model's card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..checkpoint.card import ORIENTATIONS, Intensity
from ..errors import ConfigError


class Preprocessing(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Orientation, spacing and intensity scaling.

    Attributes:
        orientation: One of the 48 codes; the axes of a scan are flipped and permuted to it, without loss.
        spacing: Voxel size in mm along the axes of ``orientation``; None keeps each scan's own.
        intensity: See :class:`medtransfer.checkpoint.card.Intensity`.
    """

    orientation: str = "RAS"
    spacing: tuple[float, float, float] | None = None
    intensity: Intensity = msgspec.field(default_factory=Intensity)

    def __post_init__(self) -> None:
        if self.orientation not in ORIENTATIONS:
            raise ValueError(f"`orientation` must be one of the 48 codes such as 'RAS', got {self.orientation!r}")
        if self.spacing is not None and not all(0 < size <= 1000 for size in self.spacing):
            raise ValueError(f"`spacing` must be three sizes in mm above 0, got {list(self.spacing)}")


def read_preprocessing(given: Mapping[str, Any] | Preprocessing | None) -> Preprocessing:
    """The config key ``preprocessing`` as a checked object.

    Raises:
        ConfigError: an unknown key, or a value of the wrong kind.

    >>> read_preprocessing(dict(spacing=[1, 1, 2])).spacing
    (1.0, 1.0, 2.0)
    """
    if isinstance(given, Preprocessing):
        return given
    try:
        return msgspec.convert(msgspec.to_builtins(dict(given or {})), Preprocessing)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        hint = "Use orientation='RAS', spacing=[x, y, z] or None, intensity=dict(scheme='zscore')"
        raise ConfigError(f"preprocessing: {error}", hint=hint) from error
