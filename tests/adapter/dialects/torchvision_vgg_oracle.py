"""2-D VGGs: golden maps of torchvision and timm.

Made with torchvision 0.29.2, ``models/vgg.py``, ``VGG(make_layers(cfg, batch_norm), num_classes=5)`` of the letters A,
B, D and E, and with timm 1.0.31, ``models/vgg.py``, ``VGG(cfg, num_classes=5, norm_layer=nn.BatchNorm2d)`` of vgg13;
their widths written as 4 ... 32 for 64 ... 512 and 16 for 4096. Filled by :func:`fill`, in evaluation mode; the maps
are those before each pooling, and the logits.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.adapter.dialects.oracle_case import OracleCase, fill
from tests.adapter.dialects.resnet_keys import features_and_logits, golden, golden_input, linear_shapes, norm_shapes

TORCHVISION = "torchvision's models/vgg.py (0.29.2), golden values"
TIMM = "timm's models/vgg.py (1.0.31), golden values"

#: table 1 of the paper: channels of the convolutions, M for a pooling
CONFIGS = {
    "11": "4 M 8 M 16 16 M 32 32 M 32 32 M",
    "13": "4 4 M 8 8 M 16 16 M 32 32 M 32 32 M",
    "16": "4 4 M 8 8 M 16 16 16 M 32 32 32 M 32 32 32 M",
    "19": "4 4 M 8 8 M 16 16 16 16 M 32 32 32 32 M 32 32 32 32 M",
}


def feature_shapes(depth: str, normed: bool) -> dict[str, Tensor]:
    """``features.{i}``: a pooling and an activation take a number each and have no tensors."""
    shapes: dict[str, Tensor] = {}
    number, columns = 0, 3
    for entry in CONFIGS[depth].split():
        if entry == "M":
            number += 1
            continue
        rows = int(entry)
        shapes[f"features.{number}.weight"] = torch.empty(rows, columns, 3, 3)
        shapes[f"features.{number}.bias"] = torch.empty(rows)
        shapes |= norm_shapes(f"features.{number + 1}", rows) if normed else {}
        number += 3 if normed else 2
        columns = rows
    return shapes


def torchvision_tensors(depth: str, normed: bool) -> dict[str, Tensor]:
    """A network of torchvision with 4 channels and 5 classes."""
    head = linear_shapes("classifier.0", 16, 32 * 7 * 7) | linear_shapes("classifier.3", 16, 16)
    return fill(feature_shapes(depth, normed) | head | linear_shapes("classifier.6", 5, 16))


def timm_tensors(depth: str) -> dict[str, Tensor]:
    """A network of timm, whose hidden layers are convolutions."""
    head = {"pre_logits.fc1.weight": torch.empty(16, 32, 7, 7), "pre_logits.fc2.weight": torch.empty(16, 16, 1, 1)}
    head |= {f"pre_logits.fc{i}.bias": torch.empty(16) for i in (1, 2)}
    return fill(feature_shapes(depth, normed=True) | head | linear_shapes("head.fc", 5, 16))


def cases(folder: Path) -> list[OracleCase]:
    """Bare state dicts, as torchvision publishes them; timm's in safetensors."""
    x, found = golden_input(2, 3, 67, 96), []
    for depth, normed in (("11", False), ("13", True), ("16", False), ("19", True)):
        name = f"{depth}_bn" if normed else depth
        path = folder / f"vgg{name}.pth"
        torch.save(torchvision_tensors(depth, normed), path)
        maps = golden(f"torchvision_vgg_{name}")
        found.append(OracleCase("torchvision_vgg", path, x, maps, TORCHVISION, f"vgg{name}", features_and_logits))
    path = folder / "model.safetensors"
    save_file(timm_tensors("13"), path)
    maps = golden("torchvision_vgg_timm_13_bn")
    found.append(OracleCase("torchvision_vgg", path, x, maps, TIMM, "timm's vgg13_bn", features_and_logits))
    return found
