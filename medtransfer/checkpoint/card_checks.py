"""What the schema of a card cannot say of its values: which words are names, and which data is plain."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

#: The largest whole number that an architecture's arguments may hold (100 000 classes).
MAX_ARGUMENT = 100_000

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_WORDS = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_ .+-]{0,63})?")
_DRIVE = re.compile(r"[A-Za-z]:")


def refuse_names(field: str, names: Sequence[str]) -> None:
    """Names are shown to people and key the results: printable, told apart, and nothing that reads as a path."""
    if len(set(names)) < len(names):
        raise ValueError(f"`{field}` names two things alike")
    for name in names:
        parts = {part.strip() for part in name.split("/")}
        if not name.isprintable() or "\\" in name or _DRIVE.match(name) or parts & {"", ".", ".."}:
            raise ValueError(f"`{field}` must hold plain names, got {name[:80]!r}")


def refuse_nonfinite(field: str, values: Iterable[float]) -> None:
    """Numbers are numbers."""
    if not all(map(math.isfinite, values)):
        raise ValueError(f"`{field}` must hold finite numbers")


def refuse_argument(field: str, value: Any, depth: int = 0) -> None:
    """Arguments are plain data: short words and numbers in lists and dicts, with nothing like a path or a module."""
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_argument_key(field, key, item)
            refuse_argument(f"{field}.{key}", item, depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            refuse_argument(f"{field}[{index}]", item, depth + 1)
    elif not (value is None or isinstance(value, bool) or _is_word(value) or _is_bounded(value)):
        raise ValueError(f"`{field}` must be a plain word or a number up to {MAX_ARGUMENT}, got {str(value)[:80]!r}")
    if depth > 8 or (isinstance(value, dict | list | tuple) and len(value) > 1000):
        raise ValueError(f"`{field}` is nested too deep or too long")


def _refuse_argument_key(field: str, key: object, value: object) -> None:
    if not isinstance(key, str) or not IDENTIFIER.fullmatch(key):
        raise ValueError(f"`{field}` must have names as keys, got {str(key)[:80]!r}")
    if key == "type" and not (isinstance(value, str) and IDENTIFIER.fullmatch(value)):
        raise ValueError(f"`{field}.type` must be the short name of a layer, got {str(value)[:80]!r}")


def _is_word(value: object) -> bool:
    return isinstance(value, str) and _WORDS.fullmatch(value) is not None


def _is_bounded(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) <= MAX_ARGUMENT


def refuse_tree(field: str, value: Any, depth: int = 0) -> None:
    """Free-form data (the parent's own record) is shown, never used; only its size and its numbers are bounded."""
    if depth > 16:
        raise ValueError(f"`{field}` is nested too deep")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"`{field}` must hold finite numbers")
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for item in items:
        refuse_tree(field, item, depth + 1)
