"""``K=V`` options."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from medtransfer.errors import UsageError


def key_values(pairs: Sequence[str]) -> dict[str, Any]:
    """``K=V`` texts as a dict; a value is a Python literal where it reads as one, else a word.

    Raises:
        UsageError: a text has no ``=`` or no key.

    >>> key_values(["train_cfg.max_iters=20", "strides=(1,2,2,2)", "pool=conv", "deep_stem=true", "load_from=none"])
    {'train_cfg.max_iters': 20, 'strides': (1, 2, 2, 2), 'pool': 'conv', 'deep_stem': True, 'load_from': None}
    """
    values = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not key.strip() or not equals:
            raise UsageError(f"{pair!r} is not of the form KEY=VALUE", hint="Write, for example, lr=0.01")
        values[key.strip()] = _value(text.strip())
    return values


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
