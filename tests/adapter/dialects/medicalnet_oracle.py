"""MedicalNet's files: the golden maps are of its own code.

Made with github.com/Tencent/MedicalNet at 20f76aa, ``models/resnet.py`` as it stands but for its widths (4 ... 32 for
64 ... 512) and torch's ``kaiming_normal_``: ``resnet10`` and ``resnet50`` with shortcut B, ``resnet18`` and
``resnet34`` with A, as the published files; filled by :func:`fill`, in evaluation mode.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tests.adapter.dialects.oracle_case import OracleCase, fill
from tests.adapter.dialects.resnet_keys import (
    behind,
    conv_shape,
    golden,
    golden_input,
    norm_shapes,
    stage_shapes,
    stem_shapes,
)  # fmt: skip

ORACLE = "MedicalNet's models/resnet.py (20f76aa), golden values"


def medicalnet_tensors(depth: int, classes: int | None = None) -> dict[str, Tensor]:
    """Tensors of a MedicalNet of 4 channels; with ``conv_seg``, its segmentation head, if there are classes."""
    shapes = stem_shapes(1, (7, 7, 7)) | stage_shapes(depth, shortcut="A" if depth in (18, 34) else "B")
    if classes is not None:
        width = shapes["layer4.0.conv1.weight"].shape[0] * (4 if depth == 50 else 1)
        shapes |= {"conv_seg.0.weight": torch.empty(width, 32 // 8 // 2, 2, 2, 2), "conv_seg.0.bias": torch.empty(2)}
        shapes |= (
            norm_shapes("conv_seg.1", 2) | conv_shape("conv_seg.3", 2, 2, (3, 3, 3)) | norm_shapes("conv_seg.4", 2)
        )
        shapes |= conv_shape("conv_seg.6", classes, 2, (1, 1, 1))
    return fill(shapes)


def cases(folder: Path) -> list[OracleCase]:
    """The published layout, and that of a fine-tuned segmenter, as ``train.py`` writes it."""
    x, found = golden_input(1, 1, 31, 32, 21), []
    for depth in (10, 18, 34, 50):
        path = folder / f"resnet_{depth}.pth"
        file = {"state_dict": behind("module.", medicalnet_tensors(depth, 3 if depth == 50 else None))}
        if depth == 50:
            file |= {"ecpoch": 3, "batch_id": 7, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]}}
        torch.save(file, path)
        layout = f"resnet_{depth}" + (", fine-tuned, with conv_seg" if depth == 50 else "")
        found.append(OracleCase("medicalnet", path, x, golden(f"medicalnet_{depth}"), ORACLE, layout))
    return found
