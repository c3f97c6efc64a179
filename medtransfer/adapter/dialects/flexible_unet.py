"""MONAI's ``FlexibleUNet`` around a ResNet: its encoder, without the decoder."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .base import Home, Written
from .monai_resnet import folded_biases
from .resnet import ResNetDialect
from .resnet_shape import resnet_home

NOTE = "FlexibleUNet's decoder and segmentation_head have no counterpart in the zoo: only the encoder moves"


class FlexibleUNetDialect(ResNetDialect):
    """``encoder.*`` is MONAI's ResNet with a stem of stride 2, ``decoder.blocks.*``, ``segmentation_head.0.*``.

    Its EfficientNet encoders are another network and are not read in this dialect.
    Source: monai/networks/nets/{flexible_unet,resnet}.py (1.6.1).
    """

    name = "flexible_unet"
    title = "MONAI FlexibleUNet with a ResNet encoder"

    def recognises(self, written: Written) -> bool:
        """By the decoder's blocks, named as MONAI's UpCat names them."""
        return self.can_read(written) and written.has(r"decoder\.blocks\.\d+\.convs\.")

    def can_read(self, written: Written) -> bool:
        """A ResNet and such a decoder."""
        return super().can_read(written) and written.has(r"decoder\.blocks\.")

    def convert(self, tensors: dict[str, Tensor]) -> dict[str, tuple[Tensor | None, str]]:
        """As MONAI's ResNet."""
        return folded_biases(tensors)

    def home(self, tensors: Mapping[str, Tensor], written: Written) -> Home | None:
        """The encoder alone, without a head."""
        return resnet_home(tensors, NOTE, first_stride=2)
