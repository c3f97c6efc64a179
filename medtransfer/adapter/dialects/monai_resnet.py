"""MONAI's ``ResNet``: torchvision's names, 3-D by default, a bias in its shortcuts by default."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from .base import Home, Written
from .resnet import ResNetDialect
from .resnet_shape import resnet_home

_BIAS = re.compile(r"(layer\d\.0\.downsample)\.0\.bias")

NOTE = (
    "MONAI's default conv1_t_stride is 1, and the tensors cannot tell it; for a network that was made with "
    "conv1_t_stride=2, as those for MedicalNet's weights are, build the target with first_stride=2"
)


class MonaiResNetDialect(ResNetDialect):
    """``conv1``, ``layer{1..4}``, ``fc``; ``layerN.0.downsample.0.bias`` where MONAI's ``bias_downsample`` is True.

    Source: monai/networks/nets/resnet.py (1.6.1).
    """

    name = "monai_resnet"
    title = "MONAI ResNet"

    def recognises(self, written: Written) -> bool:
        """By a bias in the shortcuts, or ``fc`` behind a network that is not 2-D (that would be torchvision's)."""
        if not self.can_read(written) or written.shape("conv1.weight") is None:
            return False
        three_d = len(written.shape("conv1.weight") or ()) != 4
        return any(map(_BIAS.fullmatch, written.tensors)) or (three_d and "fc.weight" in written.tensors)

    def convert(self, tensors: dict[str, Tensor]) -> dict[str, tuple[Tensor | None, str]]:
        """A shortcut's bias goes into the mean of the norm behind it: the same function in evaluation and training."""
        return folded_biases(tensors)

    def home(self, tensors: Mapping[str, Tensor], written: Written) -> Home | None:
        """MONAI's default stride of the stem, 1."""
        return resnet_home(tensors, NOTE, first_stride=1)


def folded_biases(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor | None, str]]:
    """Shortcut biases taken into running means; where a norm keeps no statistics, the bias stays as it is.

    Batch norm takes a constant away again: in training its own mean of it, in evaluation ``running_mean``, from which
    the bias is therefore subtracted.
    """
    changes: dict[str, tuple[Tensor | None, str]] = {}
    for name in tensors:
        found = _BIAS.fullmatch(name)
        mean = f"{found[1]}.1.running_mean" if found else ""
        if mean in tensors:
            changes[name] = None, f"folded into {mean}"
            changes[mean] = (
                tensors[mean] - tensors[name].to(tensors[mean].dtype),
                f"less {name}, which has no place here",
            )
    return changes
