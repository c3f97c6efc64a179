"""UNet around ResNet stages, as ptimz and this zoo write it: ``encoder_0`` is the stem."""

from __future__ import annotations

import re

from .base import Dialect

#: key pattern -> the zoo's ResNet name; the first that matches is taken
_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"encoder_0\.(\d)\.(conv|bn|gn|in|activate)\.", r"stem.\1.\2."),
        (r"encoder_0\.0\.", "conv1."),
        (r"encoder_0\.1\.", "{norm}1."),
        (r"encoder_0\.2\.", "act."),
        (r"encoder_1\.0\.", "maxpool."),
        (r"encoder_1\.1\.", "layer1."),
        (r"encoder_(\d)\.", r"layer\1."),
    )
)


def _recognises(keys: list[str]) -> bool:
    return any(re.match(r"encoder_1\.1\.\d+\.conv1\.weight", key) for key in keys)


def _rename(keys: list[str]) -> dict[str, str]:
    norm = _norm_name(keys)
    return {key: _renamed(key).replace("{norm}", norm) for key in keys if key.startswith("encoder_")}


def _renamed(key: str) -> str:
    for pattern, name in _RULES:
        if pattern.match(key):
            return pattern.sub(name, key, count=1)
    return key


def _norm_name(keys: list[str]) -> str:
    """A plain stem's norm has only an index here; the blocks say what kind it is (bn, in, gn)."""
    names = (re.match(r"encoder_1\.1\.0\.(?!conv)([a-z]+)1\.", key) for key in keys)
    return next((name.group(1) for name in names if name), "bn")


RESUNET = Dialect("resunet", _recognises, _rename)
