"""2-D VGGs of torchvision and timm."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ...model_zoo.vgg import VGG_STAGES
from .base import Dialect, Home, Written
from .vgg import vgg_home

_FEATURE = re.compile(r"features\.(\d+)\.(\w+)")
#: the head of torchvision, and that of timm, whose linear layers are convolutions
_HEADS = {
    "classifier.0.": "head_hidden.fc1.",
    "classifier.3.": "head_hidden.fc2.",
    "classifier.6.": "head_fc.",
    "pre_logits.fc1.": "head_hidden.fc1.",
    "pre_logits.fc2.": "head_hidden.fc2.",
    "head.fc.": "head_fc.",
}
_NOTE = "timm's head slides over maps larger than 7x7, as images beyond 224 pixels give; here they are pooled to 7x7"


class TorchvisionVGGDialect(Dialect):
    """``features.{i}`` numbered through convolutions, norms, activations and poolings, ``classifier.{0,3,6}``.

    timm's ``pre_logits.fc{1,2}`` and ``head.fc`` are read too.
    Source: torchvision/models/vgg.py (0.29), timm/models/vgg.py (1.0).
    """

    name = "torchvision_vgg"
    title = "torchvision or timm VGG"

    def recognises(self, written: Written) -> bool:
        """By the numbers of the convolutions."""
        return _layout(written) is not None

    def rename(self, written: Written) -> Mapping[str, str | None]:
        """Each convolution and norm to its stage and unit."""
        layout = _layout(written) or {}
        names: dict[str, str | None] = {}
        for key in written.tensors:
            if (feature := _FEATURE.fullmatch(key)) and int(feature[1]) in layout:
                names[key] = f"{layout[int(feature[1])]}.{feature[2]}"
            elif head := next((head for head in _HEADS if key.startswith(head)), None):
                names[key] = _HEADS[head] + key.removeprefix(head)
        return names

    def convert(self, tensors: dict[str, Tensor]) -> dict[str, tuple[Tensor | None, str]]:
        """timm's head as linear layers."""
        hidden = ("head_hidden.fc1.weight", "head_hidden.fc2.weight")
        return {
            name: (tensors[name].flatten(1), f"convolution {list(tensors[name].shape)} as a linear layer")
            for name in hidden
            if name in tensors and tensors[name].ndim > 2
        }

    def home(self, tensors: Mapping[str, Tensor], written: Written) -> Home | None:
        """The 2-D network, with the head of three linear layers."""
        return vgg_home(tensors, _NOTE if "pre_logits.fc1.weight" in written.tensors else "")


def _layout(written: Written) -> dict[int, str] | None:
    """Number of a feature layer -> the zoo's name, for the VGG whose convolutions have these numbers."""
    found = {
        int(feature[1])
        for key, tensor in written.tensors.items()
        if (feature := _FEATURE.fullmatch(key)) and feature[2] == "weight" and tensor.ndim > 2
    }
    layouts = (_numbered(depth, normed) for depth in VGG_STAGES for normed in (False, True))
    return next(
        (layout for layout in layouts if found == {i for i, name in layout.items() if name.endswith("conv")}), None
    )


def _numbered(depth: int, normed: bool) -> dict[int, str]:
    names, number = {}, 0
    for stage, count in enumerate(VGG_STAGES[depth]):
        for unit in range(count):
            names[number] = f"stage{stage}.{unit}.conv"
            if normed:
                names[number + 1] = f"stage{stage}.{unit}.bn"
            number += 3 if normed else 2  # the activation
        number += 1  # the pooling
    return names
