"""The catalog: names of the zoo to builders."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from torch import nn

from ..errors import ModelError
from .names import MODEL_NAMES
from .resnet import ResNet
from .unet import SHARED_ARGUMENTS, UNet

ENCODER_ARGUMENTS = tuple(
    name for name in inspect.signature(ResNet).parameters if name not in ("depth", "in_channels", "num_classes")
)
DECODER_ARGUMENTS = tuple(
    name for name in inspect.signature(UNet).parameters if name not in ("extra", "layers", "in_channels")
)


def create_model(name: str, in_channels: int = 1, num_classes: int | None = 2, **arguments: Any) -> nn.Module:
    """Build a network of the zoo by name.

    Args:
        name: One of :func:`list_models`: ``resnet50`` is a classifier, ``resunet50`` a segmenter.
        in_channels: Channels of the input.
        num_classes: Classes of the output, the background included; None leaves the head of a classifier away.
        **arguments: Arguments of :class:`ResNet`; for a segmenter also those of :class:`UNet`. ``conv_cfg``,
            ``norm_cfg``, ``act_cfg``, ``with_cp``, ``norm_eval``, ``frozen_stages`` and ``zero_init_residual`` reach
            both.

    Raises:
        ModelError: the name or an argument is unknown; close names are given.

    >>> create_model("resunet10", num_classes=3, base_channels=4, stem_channels=4).num_classes
    3
    """
    if name not in MODEL_NAMES:
        raise ModelError(f"there is no model {name!r}", hint=_near(name, MODEL_NAMES))
    family, depth = MODEL_NAMES[name]
    _refuse_unknown(name, arguments, (*ENCODER_ARGUMENTS, *(DECODER_ARGUMENTS if family == "resunet" else ())))
    if family == "resunet":
        return _build_resunet(depth, in_channels, num_classes, arguments)
    if num_classes is None:
        return ResNet(depth, in_channels, **{**arguments, "head_type": None})
    return ResNet(depth, in_channels, num_classes=num_classes, **{"head_type": "classification", **arguments})


def _build_resunet(depth: int, in_channels: int, num_classes: int | None, arguments: dict[str, Any]) -> UNet:
    if num_classes is None:
        raise ModelError("a segmenter needs num_classes")
    encoder = {name: value for name, value in arguments.items() if name in ENCODER_ARGUMENTS}
    decoder = {
        name: value for name, value in arguments.items() if name in DECODER_ARGUMENTS and name not in SHARED_ARGUMENTS
    }
    return UNet.around(ResNet(depth, in_channels, **encoder), num_classes, **decoder)


def _refuse_unknown(model: str, arguments: dict[str, Any], known: tuple[str, ...]) -> None:
    for name in arguments:
        if name not in known:
            raise ModelError(f"{model} has no argument {name!r}", hint=_near(name, known))


def _near(name: str, names: Any) -> str:
    near = difflib.get_close_matches(name, list(names), n=3, cutoff=0.5) or list(names)[:6]
    return f"Did you mean {' or '.join(near)}?"
