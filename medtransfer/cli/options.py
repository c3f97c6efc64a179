"""Options of several commands, which are called and explained alike in all of them; and ``K=V`` texts."""

from __future__ import annotations

import ast
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from medtransfer.errors import UsageError

#: what may be given as a source of weights
WEIGHTS = "a weight file (.pth, .pt, .ckpt, .safetensors) or a model folder"


def add_json(parser: ArgumentParser) -> None:
    """``--json``: the result for a program."""
    parser.add_argument("--json", action="store_true", help="the result as one JSON document")


def add_overwrite(parser: Any) -> None:
    """``--overwrite``, of a parser or a group of its options."""
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")


def add_dialect(parser: ArgumentParser) -> None:
    """``--dialect``: whose names the tensors of a weight file have."""
    parser.add_argument("--dialect", metavar="NAME", help="the naming, when it should not be told from the content")


def add_device(parser: Any) -> None:
    """``--device``, of a parser or a group of its options."""
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu, cuda, cuda:N or mps (auto)")


def add_cfg_options(parser: ArgumentParser) -> None:
    """``--cfg-options``: a config with other values."""
    parser.add_argument("--cfg-options", metavar="K=V", nargs="+", default=[], help="change entries of the config")


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
