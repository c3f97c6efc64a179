"""MedicalNet (Chen et al., 2019, arXiv:1904.00625): 3-D ResNets pretrained on scans of many organs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...model_zoo.resnet import GEOMETRIES, MEDICALNET_SHORTCUT_A
from .base import Home, Written
from .resnet import ResNetDialect
from .resnet_shape import resnet_home

#: all that its networks have: an encoder and, when fine-tuned, a head for segmentation
_PARTS = re.compile(r"(conv1|bn1|layer[1-4]\.\d+\.(conv\d|bn\d|downsample\.[01])|conv_seg\.\d)\.")
#: the stem of every published file
_STEM = (64, 1, 7, 7, 7)

NOTE = (
    "MedicalNet's layer3 and layer4 keep the resolution, with dilations 2 and 4; a target without "
    "geometry='medicalnet' is a pyramid of output stride 32, which computes something else from layer3 on"
)
_GUESS = "one input channel, a 7x7x7 stem and no head look like MedicalNet: "


class MedicalNetDialect(ResNetDialect):
    """``{"state_dict": {"module.conv1.weight": ..., "module.layer1.0.conv1.weight": ...}}`` in 3-D, without ``fc``.

    The keys are any headless ResNet's. The file's layout or ``conv_seg`` tells; of a bare state dict only the published
    stem's shape does, and the note says that it was a guess. Home is the faithful geometry; a target of another is
    told so. Source: github.com/Tencent/MedicalNet, ``models/resnet.py`` and ``train.py``.
    """

    name = "medicalnet"
    title = "MedicalNet 3-D ResNet"

    def recognises(self, written: Written) -> bool:
        """A 3-D ResNet without ``fc`` and with a sign of MedicalNet; never a network of this zoo that says so."""
        if isinstance(written.metadata.get("architecture"), Mapping) or not self.can_read(written):
            return False
        return all(map(_PARTS.match, written.tensors)) and (
            _has_sign(written) or written.shape("conv1.weight") == _STEM
        )

    def can_read(self, written: Written) -> bool:
        """Any 3-D ResNet with a plain stem."""
        return super().can_read(written) and len(written.shape("conv1.weight") or ()) == 5

    def home(self, tensors: Mapping[str, Tensor], written: Written) -> Home | None:
        """The faithful geometry: strides, dilations, and shortcuts by what tensors the file has."""
        found = resnet_home(tensors)
        if found is None:
            return None
        note = NOTE if _has_sign(written) else _GUESS + NOTE
        depth = int(found.name.removeprefix("resnet"))
        usual = "A" if depth in MEDICALNET_SHORTCUT_A else "B"
        arguments = {name: value for name, value in found.arguments.items() if name != "shortcut"}
        shortcut = found.arguments.get("shortcut", "B")
        if shortcut == usual:
            return Home(found.name, {**arguments, "geometry": "medicalnet"}, note)
        preset = {name: list(values) for name, values in GEOMETRIES["medicalnet"].items()}
        return Home(found.name, {**arguments, **preset, "shortcut": shortcut}, note)

    def card(self, written: Written) -> dict[str, Any]:
        """Its intensities: zero mean and unit deviation over the voxels that are not 0 (``datasets/brains18.py``)."""
        return {"intensity": {"scheme": "zscore", "nonzero": True}}


def _has_sign(written: Written) -> bool:
    """Its segmentation head, or its file's layout: ``state_dict`` with every key behind ``module.``, one channel."""
    layout = written.wrapper == "state_dict" and all(own.startswith("module.") for own in written.own_keys.values())
    channels, *kernel = (written.shape("conv1.weight") or (0, 0))[1:]
    return written.has(r"conv_seg\.0\.weight") or (layout and channels == 1 and kernel == [7, 7, 7])
