"""Configs of layers as mmcv writes them: checked, completed and opened, with errors that quote them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvTransposeNd

from ..errors import ModelError
from .layer_types import NORM_NAMES, known_types, layer_type

Config = dict[str, Any]


def checked_config(cfg: Config | None, default: Config, name: str) -> Config:
    """A copy, or ``default`` where there is none, whose type is the name of a layer.

    Raises:
        ModelError: there is no type, or it is unknown; ``name`` is what the message calls the config.

    >>> checked_config(None, {"type": "ReLU"}, "act_cfg")
    {'type': 'ReLU'}
    """
    cfg = dict(default if cfg is None else cfg)
    if "type" not in cfg:
        raise ModelError(f"{name} needs the key 'type', got {cfg}", hint=f"For example {name}={default}")
    if isinstance(cfg["type"], type):
        cfg["type"] = cfg["type"].__name__
    if not isinstance(cfg["type"], str) or layer_type(cfg["type"]) is None:
        near = difflib.get_close_matches(str(cfg["type"]), known_types(), n=3, cutoff=0.4) or [default["type"]]
        raise ModelError(f"{name} names the unknown type {cfg['type']!r}", hint=f"Close names: {', '.join(near)}")
    return cfg


def opened(cfg: Config) -> tuple[Any, Config]:
    """The class that a config names, and the arguments that it gives."""
    return layer_type(cfg["type"]), {name: value for name, value in cfg.items() if name != "type"}


@contextmanager
def explained(**configs: Config) -> Iterator[None]:
    """Turn what a layer's constructor says about its arguments into an error that quotes the config.

    Raises:
        ModelError: the constructor refused its arguments.
    """
    try:
        yield
    except (TypeError, ValueError, AssertionError) as error:
        given = ", ".join(f"{name}={cfg}" for name, cfg in configs.items())
        raise ModelError(f"{given} does not build a layer: {error}") from error


def dimension_of(conv_type: str) -> int:
    """1, 2 or 3, by the end of a convolution's type.

    Raises:
        ModelError: it does not say so, or is a transposed convolution or a norm.

    >>> dimension_of("Conv2d")
    2
    """
    found = re.search(r"([123])[dD]$", conv_type)
    kind = layer_type(conv_type)
    if isinstance(kind, type) and issubclass(kind, _ConvTransposeNd | _NormBase):
        raise ModelError(f"conv_cfg type {conv_type!r} is no convolution that keeps the size", hint="Use Conv3d")
    if not found:
        raise ModelError(f"conv_cfg type {conv_type!r} does not say its dimension", hint="Use Conv2d or Conv3d")
    return int(found.group(1))


def with_dimension(norm_cfg: Config, ndim: int) -> Config:
    """The config of a norm for maps of ``ndim`` axes, whether it trains included.

    Raises:
        ModelError: it is of another dimension, no norm of maps, or a group norm without a number of groups.

    >>> with_dimension({"type": "BN"}, 3)
    {'requires_grad': True, 'type': 'BN3d'}
    """
    kind, digits = re.fullmatch(r"(.*?)(?:([123])d)?", norm_cfg["type"]).groups()  # type: ignore[union-attr]
    if kind not in NORM_NAMES:
        raise ModelError(
            f"norm_cfg type {norm_cfg['type']!r} does not normalise feature maps",
            hint=f"Use one of {tuple(NORM_NAMES)}",
        )
    if digits and int(digits) != ndim:
        raise ModelError(
            f"norm_cfg type {norm_cfg['type']!r} is {digits}-D, the convolutions are {ndim}-D",
            hint=f"Use {kind}{ndim}d, or {kind} alone",
        )
    if kind == "GN" and "num_groups" not in norm_cfg:
        raise ModelError("norm_cfg type 'GN' needs num_groups", hint="For example dict(type='GN', num_groups=8)")
    return {"requires_grad": True, **norm_cfg, "type": kind if kind in ("GN", "SyncBN") else f"{kind}{ndim}d"}
