"""What a config states of the model that it trains: the texts of the model's card that only people can write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..checkpoint.card import STATED, ModelCard
from ..errors import ConfigError
from .config import did_you_mean

_TEXT = next(field.type for field in msgspec.structs.fields(ModelCard) if field.name == "description")


def read_stated(card: Mapping[str, Any] | None) -> dict[str, str]:
    """Check the section ``card`` of a config.

    Args:
        card: ``dict(license="CC-BY-4.0", intended_use="...")``; the keys are those of ``STATED``.

    Raises:
        ConfigError: another key, or what is no text.

    >>> read_stated(dict(license="CC-BY-4.0"))
    {'license': 'CC-BY-4.0'}
    """
    if not isinstance(card, Mapping | None):
        raise ConfigError(f"card must be a dict, got {card!r}", hint="Write card=dict(license=...)")
    return {key: _text(key, value) for key, value in (card or {}).items()}


def _text(key: str, value: Any) -> str:
    if key not in STATED:
        raise ConfigError(f"card has no key {key!r} for a config to set", hint=did_you_mean(key, STATED))
    try:
        return str(msgspec.convert(value, _TEXT))
    except msgspec.ValidationError as error:
        raise ConfigError(f"card.{key} must be a text of up to 20000 letters: {error}") from error
