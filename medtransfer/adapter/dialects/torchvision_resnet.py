"""2-D ResNets of torchvision and timm."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .base import Home, Written, rename_rules, renamed_by
from .resnet import HEADS, ResNetDialect
from .resnet_shape import resnet_home

#: timm's deep stem is one Sequential and the plain stem's norm, its pooled shortcut in a stage of stride 1 an Identity
_DEEP_STEM = rename_rules(
    (r"conv1\.0\.", "stem.0.conv."),
    (r"conv1\.1\.", "stem.0.bn."),
    (r"conv1\.3\.", "stem.1.conv."),
    (r"conv1\.4\.", "stem.1.bn."),
    (r"conv1\.6\.", "stem.2.conv."),
    (r"bn1\.", "stem.2.bn."),
)
_UNPOOLED = rename_rules(
    (r"layer1\.0\.downsample\.1\.", "layer1.0.downsample.0."),
    (r"layer1\.0\.downsample\.2\.", "layer1.0.downsample.1."),
)


class TorchvisionResNetDialect(ResNetDialect):
    """``conv1``, ``bn1``, ``layer{1..4}``, ``fc`` with 2-D kernels; timm's deep stems and pooled shortcuts too.

    Wide ResNets fit (another expansion); grouped ones, and those with attention, have no home here.
    Source: torchvision/models/resnet.py (0.29), timm/models/resnet.py (1.0).
    """

    name = "torchvision_resnet"
    title = "torchvision or timm 2-D ResNet"

    def recognises(self, written: Written) -> bool:
        """By ``fc`` behind 2-D kernels, or timm's stem."""
        return self.can_read(written) and ("fc.weight" in written.tensors or "conv1.6.weight" in written.tensors)

    def can_read(self, written: Written) -> bool:
        """Any 2-D ResNet."""
        stem = written.shape("conv1.weight") or written.shape("conv1.0.weight") or ()
        return super().can_read(written) and len(stem) == 4

    def rename(self, written: Written) -> Mapping[str, str | None]:
        """The head; timm's deep stem as three ConvModules, its pooled shortcut of the first stage without the pool."""
        rules = _DEEP_STEM if "conv1.6.weight" in written.tensors else ()
        rules += _UNPOOLED if "layer1.0.downsample.2.weight" in written.tensors else ()
        renamed = {key: HEADS.get(key) or renamed_by(rules, key) for key in written.tensors}
        return {key: name for key, name in renamed.items() if name != key}

    def home(self, tensors: Mapping[str, Tensor], written: Written) -> Home | None:
        """The 2-D network."""
        return resnet_home(tensors, first_stride=2)
