"""Encoders and U-Nets of stacked convolutions or residual blocks (``plain_unet``, ``resenc_unet`` ...) of this zoo."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from .base import Dialect, Home, Written
from .conv_shape import conv_home

_ENCODER = re.compile(r"stage\d+\.\d+\.conv1?\.weight")
_UNET = re.compile(r"encoder_[1-9]\d*\.\d+\.conv1?\.weight")
_STEM = "encoder_0.0.0.conv.weight"
#: by reference around ResNet stages the second module is a pair
_RESUNET = re.compile(r"encoder_1\.1\.\d+\.conv1\.weight")


class ConvUNetDialect(Dialect):
    """``stage{i}.{unit}.`` with a ``stem``, or ``encoder_{i}`` around the very modules, and ``decoder_{i}``."""

    name = "conv_unet"
    title = "plain_unet, resenc_unet or genesis_unet of this zoo, or their encoder"

    def recognises(self, written: Written) -> bool:
        """By the first convolution of a stage."""
        keys = written.tensors
        if any(map(_ENCODER.fullmatch, keys)):
            return True
        return any(map(_UNET.fullmatch, keys)) and not any(map(_RESUNET.fullmatch, keys))

    def rename(self, written: Written) -> Mapping[str, str | None]:
        """A U-Net's encoder under the encoder's own names."""
        stem = _STEM in written.tensors
        return {key: _encoder_name(key, stem) for key in written.tensors if key.startswith("encoder_")}

    def home(self, tensors: Mapping[str, Tensor], written: Written) -> Home | None:
        """A network of the shapes that the tensors show."""
        return conv_home(tensors)


def _encoder_name(key: str, stem: bool) -> str:
    if stem and key.startswith("encoder_0."):
        return re.sub(r"^encoder_0\.(\d+)\.", lambda m: "stem." if m[1] == "0" else "stage0.", key)
    return re.sub(r"^encoder_(\d+)\.", r"stage\1.", key)
