"""``compile=True``: the network compiled by ``torch.compile``, in place, so that its weights keep their names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError

WORDS = [word for word in inspect.signature(torch.compile).parameters if word != "model"]
_HINT = "Leave compile away; on Linux it needs g++ and Python's headers, on CUDA triton too"


def compile_network(network: nn.Module, chosen: Any, dtype: torch.dtype) -> None:
    """Compile a network for its next calls, or leave it as it is.

    Args:
        network: Where it will train. State dicts, copies and model folders of it are those of a plain network.
        chosen: ``compile`` of the config: True, False, None, or a dict of arguments of ``torch.compile``.
        dtype: What it computes in.

    Raises:
        ConfigError: another value; no compiler that works; or bfloat16 on a CPU, whose wrong convolutions (see
            :mod:`medtransfer.model_zoo.bfloat16`) cannot be kept out of compiled code.
    """
    words = read_compile(chosen)
    if words is None:
        return
    device = next(network.parameters()).device
    if device.type == "cpu" and dtype != torch.float32:
        hint = "Leave compile away, which is quicker, or set optim_wrapper.dtype='float32'"
        raise ConfigError("compile does not go with bfloat16 on a CPU", hint=hint)
    _try_out(words, device)
    network.compile(**words)


def read_compile(chosen: Any) -> dict[str, Any] | None:
    """The arguments of ``torch.compile``; None: not to be compiled.

    Raises:
        ConfigError: a word that it does not take.

    >>> read_compile(True), read_compile(dict(mode="max-autotune")), read_compile(None)
    ({}, {'mode': 'max-autotune'}, None)
    """
    if chosen is None or isinstance(chosen, bool):
        return {} if chosen else None
    wrong = [word for word in chosen if word not in WORDS] if isinstance(chosen, Mapping) else [chosen]
    if wrong:
        raise ConfigError(f"compile must be True, False or a dict of {', '.join(WORDS)}, got {wrong[0]!r}")
    return dict(chosen)


def _try_out(words: Mapping[str, Any], device: torch.device) -> None:
    """Compile something small: what is missing shows in seconds, and not as a page of C++."""
    try:
        torch.compile(lambda x: x.sin() + 1, **words)(torch.ones(8, device=device))
    except Exception as error:  # torch has a kind of its own for each compiler
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise ConfigError(f"compile: this machine cannot compile: {reason}", hint=_HINT) from error
