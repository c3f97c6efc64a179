"""How a scan is brought to the network: stated once in a config, used by every dataset, kept in the model's card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from ..checkpoint.card import ORIENTATIONS
from ..errors import ConfigError
from ..intensity import Intensity

AUTO, MEDIAN = "auto", "median"
#: The scheme without its numbers, which are then measured.
CT_SCHEME = {"scheme": "ct"}

Spacing = tuple[float, float, float]
#: Of one channel or of all: a scheme with its numbers, or one whose numbers are measured.
Scheme: TypeAlias = Literal["auto"] | dict[str, Any]


class Preprocessing(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Orientation, spacing and intensity scaling.

    Attributes:
        orientation: One of the 48 codes; the axes of a scan are flipped and permuted to it, without loss.
        spacing: Voxel size in mm along the axes of ``orientation``; None keeps each scan's own.
        intensity: See :class:`medtransfer.intensity.Intensity`; one for all channels, or a list with one a channel.
    """

    orientation: str = "RAS"
    spacing: Spacing | None = None
    intensity: Intensity | Annotated[list[Intensity], msgspec.Meta(min_length=1)] = msgspec.field(
        default_factory=Intensity
    )

    def __post_init__(self) -> None:
        _refuse_geometry(self.orientation, self.spacing)


class Plan(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Preprocessing as a config asks for it, of which some may be left to be measured from the training cases.

    Attributes:
        orientation: As :class:`Preprocessing`.
        spacing: As :class:`Preprocessing`, or ``"median"``.
        intensity: As :class:`Preprocessing`; in place of a scheme ``"auto"``, or ``dict(scheme="ct")`` without numbers.
    """

    orientation: str = "RAS"
    spacing: Spacing | Literal["median"] | None = None
    intensity: Scheme | Annotated[list[Scheme], msgspec.Meta(min_length=1)] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        _refuse_geometry(self.orientation, None if self.spacing == MEDIAN else self.spacing)
        for scheme in self.schemes:
            if not is_measured(scheme):
                msgspec.convert(scheme, Intensity)

    @property
    def schemes(self) -> list[Scheme]:
        """The scheme of all channels, or those of each."""
        return self.intensity if isinstance(self.intensity, list) else [self.intensity]

    @property
    def measures_spacing(self) -> bool:
        """Whether the spacing is left to be measured."""
        return self.spacing == MEDIAN

    @property
    def measures_intensity(self) -> bool:
        """Whether the numbers of a scheme are."""
        return any(map(is_measured, self.schemes))

    @property
    def is_open(self) -> bool:
        """Whether anything is left to be measured."""
        return self.measures_spacing or self.measures_intensity

    def settled(self) -> Preprocessing:
        """What is asked for, where nothing is to be measured.

        Raises:
            ConfigError: something is.
        """
        if self.is_open:
            hint = "Give numbers here, or train with it"
            raise ConfigError("preprocessing is left to be measured from training cases", hint=hint)
        return msgspec.convert(msgspec.to_builtins(self), Preprocessing)


def is_measured(scheme: Scheme) -> bool:
    """Whether the numbers of a scheme are left to be measured.

    >>> is_measured("auto"), is_measured({"scheme": "ct"}), is_measured({"scheme": "zscore"})
    (True, True, False)
    """
    return scheme in (AUTO, {"scheme": AUTO}, CT_SCHEME)


def read_plan(given: Mapping[str, Any] | Preprocessing | Plan | None) -> Plan:
    """The config key ``preprocessing`` as a checked object.

    Raises:
        ConfigError: an unknown key, or a value of the wrong kind.

    >>> read_plan(dict(spacing="median", intensity="auto")).is_open
    True
    """
    if isinstance(given, Plan):
        return given
    try:
        plain = msgspec.to_builtins(given if isinstance(given, Preprocessing) else dict(given or {}))
        return msgspec.convert(plain, Plan)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        hint = (
            "Use orientation='RAS', spacing=[x, y, z], 'median' or None, intensity=dict(scheme='zscore'), 'auto' or a "
            "list with one a channel"
        )
        raise ConfigError(f"preprocessing: {error}", hint=hint) from error


def read_preprocessing(given: Mapping[str, Any] | Preprocessing | None) -> Preprocessing:
    """Preprocessing in numbers.

    Raises:
        ConfigError: an unknown key, a value of the wrong kind, or something that is left to be measured.

    >>> read_preprocessing(dict(spacing=[1, 1, 2])).spacing
    (1.0, 1.0, 2.0)
    """
    return given if isinstance(given, Preprocessing) else read_plan(given).settled()


def _refuse_geometry(orientation: str, spacing: object) -> None:
    if orientation not in ORIENTATIONS:
        raise ValueError(f"`orientation` must be one of the 48 codes such as 'RAS', got {orientation!r}")
    if isinstance(spacing, tuple) and not all(0 < size <= 1000 for size in spacing):
        raise ValueError(f"`spacing` must be three sizes in mm above 0, got {list(spacing)}")
