"""2-D networks: golden maps of torchvision and timm.

Made with torchvision 0.29.2, ``models/resnet.py``, ``ResNet(block, layers, num_classes=5)``, also with twice the
``width_per_group`` (wide_resnet50_2), and with timm 1.0.31, ``models/resnet.py``, ``ResNet(Bottleneck, [3, 4, 6, 3],
num_classes=5, channels=(4, 8, 16, 32), stem_width=2, stem_type="deep", avg_down=True)`` (resnet50d); their widths
written as 4 ... 32 for 64 ... 512. Filled by :func:`fill`, in evaluation mode; the last map is the logits.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.adapter.dialects.oracle_case import OracleCase, fill
from tests.adapter.dialects.resnet_keys import (
    conv_shape,
    features_and_logits,
    golden,
    golden_input,
    linear_shapes,
    norm_shapes,
    stage_shapes,
    stem_shapes,
)  # fmt: skip

TORCHVISION = "torchvision's models/resnet.py (0.29.2), golden values"
TIMM = "timm's models/resnet.py (1.0.31), golden values"


def torchvision_tensors(depth: int, middle: int = 1) -> dict[str, Tensor]:
    """A network of torchvision with 4 channels and 5 classes."""
    shapes = stem_shapes(3, (7, 7)) | stage_shapes(depth, ndim=2, middle=middle)
    return fill(shapes | linear_shapes("fc", 5, 128 if depth == 50 else 32))


def resnet50d_tensors() -> dict[str, Tensor]:
    """timm's resnet50d with 4 channels: three convolutions in ``conv1``, a pool in every shortcut."""
    stem = conv_shape("conv1.0", 2, 3, (3, 3)) | norm_shapes("conv1.1", 2) | conv_shape("conv1.3", 2, 2, (3, 3))
    stem |= norm_shapes("conv1.4", 2) | conv_shape("conv1.6", 4, 2, (3, 3)) | norm_shapes("bn1", 4)
    return fill(stem | stage_shapes(50, ndim=2, pooled=(1, 2, 3, 4)) | linear_shapes("fc", 5, 128))


def cases(folder: Path) -> list[OracleCase]:
    """Bare state dicts, as torchvision publishes them; timm's in safetensors."""
    x, found = golden_input(2, 3, 31, 32), []
    for name, tensors in (
        ("18", torchvision_tensors(18)),
        ("50", torchvision_tensors(50)),
        ("wide50", torchvision_tensors(50, middle=2)),
    ):
        path = folder / f"resnet{name}.pth"
        torch.save(tensors, path)
        maps = golden(f"torchvision_resnet_{name}")
        found.append(OracleCase("torchvision_resnet", path, x, maps, TORCHVISION, f"resnet{name}", features_and_logits))
    path = folder / "model.safetensors"
    save_file(resnet50d_tensors(), path)
    maps = golden("torchvision_resnet_timm_50d")
    found.append(OracleCase("torchvision_resnet", path, x, maps, TIMM, "resnet50d", features_and_logits))
    return found
