"""UNet around ResNet stages, as ptimz and this zoo write it: ``encoder_0`` is the stem."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from .base import Dialect, Home, Written, rename_rules, renamed_by
from .resnet_shape import resnet_home

#: to the zoo's ResNet names
_RULES = rename_rules(
    (r"encoder_0\.(\d)\.(conv|bn|gn|in|activate)\.", r"stem.\1.\2."),
    (r"encoder_0\.0\.", "conv1."),
    (r"encoder_0\.1\.", "{norm}1."),
    (r"encoder_0\.2\.", "act."),
    (r"encoder_1\.0\.", "maxpool."),
    (r"encoder_1\.1\.", "layer1."),
    (r"encoder_(\d)\.", r"layer\1."),
)


class ResUNetDialect(Dialect):
    """``encoder_0`` the stem, ``encoder_1`` pooling and the first stage, ``decoder_{i}``, ``final_layer``."""

    name = "resunet"
    title = "ResUNet of this zoo or of ptimz"

    def recognises(self, written: Written) -> bool:
        """By the first block of the second encoder module."""
        return written.has(r"encoder_1\.1\.\d+\.conv1\.weight")

    def rename(self, written: Written) -> Mapping[str, str | None]:
        """The encoder under a ResNet's names; the decoder's are the zoo's."""
        norm = _norm_name(written)
        return {
            key: renamed_by(_RULES, key).replace("{norm}", norm)
            for key in written.tensors
            if key.startswith("encoder_")
        }

    def home(self, tensors: Mapping[str, Tensor], written: Written) -> Home | None:
        """A ResUNet of the depth and widths that the tensors show."""
        return resnet_home(tensors)


def _norm_name(written: Written) -> str:
    """A plain stem's norm has only an index here; the blocks say what kind it is (bn, in, gn)."""
    names = (re.match(r"encoder_1\.1\.0\.(?!conv)([a-z]+)1\.", key) for key in written.tensors)
    return next((name.group(1) for name in names if name), "bn")
