"""ResNet keys as this zoo writes them, in 2-D or 3-D."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .base import Dialect, Home, Written
from .resnet_shape import resnet_home

#: the first convolution of any block
BLOCKS = r"layer\d\.\d+\.conv1\.weight"
#: names of the classification head elsewhere -> here
HEADS = {"fc.weight": "head_fc.weight", "fc.bias": "head_fc.bias"}


class ResNetDialect(Dialect):
    """``conv1`` or ``stem.{0,1,2}``, ``layer{1..4}.{block}``, ``head_fc``."""

    name = "resnet"
    title = "ResNet of this zoo, or with its keys"

    def recognises(self, written: Written) -> bool:
        """By the first convolution of any block."""
        return written.has(BLOCKS)

    def can_read(self, written: Written) -> bool:
        """Any ResNet."""
        return written.has(BLOCKS)

    def rename(self, written: Written) -> Mapping[str, str | None]:
        """Only the head may have another name."""
        return {key: HEADS[key] for key in written.tensors if key in HEADS}

    def home(self, tensors: Mapping[str, Tensor], written: Written) -> Home | None:
        """A ResNet of the depth and widths that the tensors show."""
        return resnet_home(tensors)
