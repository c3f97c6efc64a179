"""Video networks: golden maps of 3D-ResNets-PyTorch and of torchvision's r3d_18.

Made with github.com/kenshohara/3D-ResNets-PyTorch at 540a0ea, ``models/resnet.py``, ``ResNet(block, layers,
[4, 8, 16, 32], n_input_channels=3, n_classes=5)`` with ``conv1_t_size`` 7 or 3; and with torchvision 0.29.2,
``models/video/resnet.py``, ``VideoResNet(BasicBlock, [Conv3DSimple] * 4, [2, 2, 2, 2], BasicStem, 5)``, its widths
written as 4 ... 32 for 64 ... 512. Filled by :func:`fill`, in evaluation mode; the last map is the logits.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from tests.adapter.dialects.oracle_case import OracleCase, fill
from tests.adapter.dialects.resnet_keys import (
    behind,
    features_and_logits,
    golden,
    golden_input,
    linear_shapes,
    stage_shapes,
    stem_shapes,
)  # fmt: skip

VIDEO_CODE = "3D-ResNets-PyTorch's models/resnet.py (540a0ea), golden values"
TORCHVISION = "torchvision's models/video/resnet.py (0.29.2), golden values"


def video_tensors(depth: int, kernel: int = 7, shortcut: str = "B") -> dict[str, Tensor]:
    """A network of 3D-ResNets-PyTorch with 4 channels and 5 classes."""
    shapes = stem_shapes(3, (kernel, 7, 7)) | stage_shapes(depth, shortcut=shortcut)
    return fill(shapes | linear_shapes("fc", 5, 128 if depth == 50 else 32))


def r3d_tensors() -> dict[str, Tensor]:
    """torchvision's r3d_18 with 4 channels: each convolution and its norm are 0 and 1 of a Sequential."""
    plain = stage_shapes(18) | linear_shapes("fc", 5, 32)
    nested = (
        (r"(layer\d\.\d)\.conv(\d)\.", r"\1.conv\2.0."),
        (r"(layer\d\.\d)\.bn(\d)\.", r"\1.conv\2.1."),
    )
    shapes = {}
    for key, tensor in plain.items():
        for pattern, name in nested:
            key = re.sub(pattern, name, key)
        shapes[key] = tensor
    stem = {key.replace("conv1.", "0.").replace("bn1.", "1."): t for key, t in stem_shapes(3, (3, 7, 7)).items()}
    return fill(shapes | behind("stem.", stem))


def cases(folder: Path) -> list[OracleCase]:
    """Files as ``save_checkpoint`` of 3D-ResNets-PyTorch and as torchvision writes them, and an inflated encoder's."""
    x, found = golden_input(1, 3, 9, 32, 30), []
    for depth, kernel, shortcut in ((18, 7, "A"), (34, 3, "B"), (50, 7, "B")):
        path = folder / f"r3d{depth}_K_200ep.pth"
        tensors = behind("module." if depth == 18 else "", video_tensors(depth, kernel, shortcut))
        torch.save(
            {"epoch": 200, "arch": f"resnet-{depth}", "state_dict": tensors, "optimizer": {}, "scheduler": {}}, path
        )
        maps = golden(f"kinetics_{depth}")
        layout = f"resnet-{depth}, {kernel}x7x7 stem, shortcut {shortcut}"
        found.append(OracleCase("kinetics", path, x, maps, VIDEO_CODE, layout, features_and_logits))
    path = folder / "r3d_18.pth"
    torch.save(r3d_tensors(), path)
    maps = golden("kinetics_r3d_18")
    found.append(OracleCase("kinetics", path, x, maps, TORCHVISION, "torchvision's r3d_18", features_and_logits))
    path = folder / "i3d.pt"
    headless = {key: tensor for key, tensor in video_tensors(34, 3).items() if not key.startswith("fc.")}
    torch.save(headless, path)
    maps = golden("kinetics_34")[:-1]
    found.append(OracleCase("kinetics", path, x, maps, VIDEO_CODE, "an encoder alone, 3x7x7 stem"))
    return found
