"""The tutorial's networks (ptimz): their pooling is a strided convolution with weights."""

from __future__ import annotations

from .base import Written
from .resunet import ResUNetDialect

_BLOCKS = r"(layer1|encoder_1\.1)\.\d+\.conv1\.weight"
_POOLS = r"(maxpool|encoder_1\.0)\.conv\.weight"


class PtimzDialect(ResUNetDialect):
    """``maxpool.conv`` in a ResNet, ``encoder_1.0.conv`` in a UNet; all else as in this zoo.

    Networks of this zoo with ``pool="conv"`` have the same keys and compute the same; only ours have ``input_skip``.
    Source: github.com/RimeT/ptimz, ``ptimz/model_zoo/{resnet,unet}.py``.
    """

    name = "ptimz"
    title = "ptimz ResNet or UNet, which pool by a convolution"

    def recognises(self, written: Written) -> bool:
        """By the convolution in the place of the max-pooling."""
        return self.can_read(written) and written.has(_POOLS) and not written.has(r"input_skip\.")

    def can_read(self, written: Written) -> bool:
        """Any ResNet or UNet of the tutorial's names."""
        return written.has(_BLOCKS)
