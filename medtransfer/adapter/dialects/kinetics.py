"""3-D ResNets pretrained on videos (Kinetics and alike), and 2-D ones inflated as I3D does."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from .base import Home, Written, rename_rules, renamed_by
from .resnet import HEADS, ResNetDialect
from .resnet_shape import resnet_home

#: torchvision's VideoResNet wraps every convolution and its norm in a Sequential
_VIDEO_RESNET = rename_rules(
    (r"stem\.0\.", "conv1."),
    (r"stem\.1\.", "bn1."),
    (r"(layer\d\.\d+)\.conv(\d)\.0\.", r"\1.conv\2."),
    (r"(layer\d\.\d+)\.conv(\d)\.1\.", r"\1.bn\2."),
)
_VIDEO_BLOCK = "layer1.0.conv1.0.weight"

NOTE = (
    "networks for video keep the first axis in the stem: strides (1, 2, 2), which the tensors cannot tell (it is "
    "conv1_t_stride in 3D-ResNets-PyTorch, where no_max_pool may also have been set)"
)


class KineticsDialect(ResNetDialect):
    """torchvision's names in 3-D, with a stem of stride (1, 2, 2); and torchvision's own ``r3d_18``.

    Sources: github.com/kenshohara/3D-ResNets-PyTorch, ``models/resnet.py`` (files have ``arch`` beside the weights);
    inflated ResNets with a 3x7x7 stem; torchvision/models/video/resnet.py (0.29), whose ``r3d_18`` has no pooling.
    Its ``mc3_18`` has 1x3x3 kernels: it is read, and has no home here. ``r2plus1d_18`` is another network.
    """

    name = "kinetics"
    title = "3-D ResNet for video (3D-ResNets-PyTorch, I3D-like, torchvision r3d_18)"

    def recognises(self, written: Written) -> bool:
        """By r3d_18's nested blocks, a stem shorter along its first axis, or what 3D-ResNets-PyTorch writes."""
        stem = written.shape("conv1.weight")
        if stem is None or not super().can_read(written):
            return self.can_read(written)
        flat = len(stem) == 5 and stem[2] < stem[3] == stem[4]
        named = len(stem) == 5 and re.match(r"resnet-\d+$", str(written.metadata.get("arch", "")))
        return (flat or bool(named)) and not written.has(r"(head_fc|head_conv|decoder_\d|final_layer)\.")

    def can_read(self, written: Written) -> bool:
        """Any 3-D ResNet with a plain stem, or a VideoResNet with whole 3-D kernels."""
        if len(written.shape(_VIDEO_BLOCK) or ()) == 5 and len(written.shape("stem.0.weight") or ()) == 5:
            return True
        return super().can_read(written) and len(written.shape("conv1.weight") or ()) == 5

    def rename(self, written: Written) -> Mapping[str, str | None]:
        """The head; a VideoResNet's nested convolutions and norms."""
        rules = _VIDEO_RESNET if _VIDEO_BLOCK in written.tensors else ()
        renamed = {key: HEADS.get(key) or renamed_by(rules, key) for key in written.tensors}
        return {key: name for key, name in renamed.items() if name != key}

    def home(self, tensors: Mapping[str, Tensor], written: Written) -> Home | None:
        """A stem of stride (1, 2, 2); without pooling for a VideoResNet."""
        if _VIDEO_BLOCK in written.tensors:
            return resnet_home(tensors, first_stride=[1, 2, 2], pool="none")
        return resnet_home(tensors, NOTE, first_stride=[1, 2, 2])
