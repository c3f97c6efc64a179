"""Factors of the parts of a loss, as a config states them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..errors import ConfigError
from .config import did_you_mean


def checked_weights(given: Any, names: Collection[str], what: str = "loss") -> dict[str, float]:
    """The factor of each part, 1 where none is stated.

    Args:
        given: What the config states, a dict or None.
        names: Of all parts; empty where they are not known yet.
        what: What a part is called.

    Raises:
        ConfigError: no dict, a name of no part, a factor below 0 or not finite, or factors that are all 0.

    >>> checked_weights({"age": 0.5}, ["organs", "age"], "head")
    {'organs': 1.0, 'age': 0.5}
    """
    stated = {} if given is None else given
    if not isinstance(stated, Mapping):
        raise ConfigError(f"loss_weights must be a dict with the factor of each {what}, got {given!r}")
    for name, weight in stated.items():
        if names and name not in names:
            raise ConfigError(f"loss_weights: there is no {what} {name!r}", hint=did_you_mean(name, list(names)))
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise ConfigError(f"loss_weights.{name} must be a number, 0 or above, got {weight!r}")
    weights = {name: float(stated.get(name, 1.0)) for name in names or stated}
    if names and not any(weights.values()):
        raise ConfigError("loss_weights are all 0: nothing would be learnt", hint="Leave one of them away")
    return weights
