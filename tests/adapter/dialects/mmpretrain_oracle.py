"""mmpretrain's files: golden maps of its own backbones.

Made with mmpretrain 1.2.0, ``models/backbones/resnet.py``: ``ResNet``, ``ResNetV1c`` and ``ResNetV1d`` with
``base_channels=4, stem_channels=4, out_indices=(0, 1, 2, 3)``, under ``backbone.`` beside ``head.fc`` of 5 classes;
filled by :func:`fill`, in evaluation mode.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.adapter.dialects.oracle_case import OracleCase, fill
from tests.adapter.dialects.resnet_keys import (
    behind,
    conv_shape,
    golden,
    golden_input,
    linear_shapes,
    norm_shapes,
    stage_shapes,
    stem_shapes,
)  # fmt: skip

ORACLE = "mmpretrain's models/backbones/resnet.py (1.2.0), golden values"
CLASSES = ["air", "bone", "fat", "fluid", "muscle"]


def deep_stem_shapes() -> dict[str, Tensor]:
    """Three ConvModules of 2, 2 and 4 channels."""
    shapes: dict[str, Tensor] = {}
    for i, (rows, columns) in enumerate(((2, 3), (2, 2), (4, 2))):
        shapes |= conv_shape(f"stem.{i}.conv", rows, columns, (3, 3)) | norm_shapes(f"stem.{i}.bn", rows)
    return shapes


def mmpretrain_tensors(name: str) -> dict[str, Tensor]:
    """An ImageClassifier of 4 channels: ``18``, ``50``, ``v1c50`` or ``v1d50``."""
    depth = int(name[-2:])
    stem = deep_stem_shapes() if "v1" in name else stem_shapes(3, (7, 7))
    stages = stage_shapes(depth, ndim=2, pooled=(2, 3, 4) if "v1d" in name else ())
    return fill(behind("backbone.", stem | stages) | linear_shapes("head.fc", 5, 128 if depth == 50 else 32))


def checkpoint(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """What mmengine's Runner saves."""
    meta = {"epoch": 100, "mmengine_version": "0.10.7", "dataset_meta": {"classes": CLASSES}, "cfg": "model = ..."}
    return {"meta": meta, "state_dict": tensors, "message_hub": {"log_scalars": {}}, "optimizer": {"state": {}}}


def cases(folder: Path) -> list[OracleCase]:
    """Checkpoints as mmengine writes them; one as published, which has no more than ``meta`` and ``state_dict``."""
    x, found = golden_input(2, 3, 31, 32), []
    for name in ("18", "50", "v1c50", "v1d50"):
        path = folder / f"resnet{name}_8xb32_in1k.pth"
        file = checkpoint(mmpretrain_tensors(name))
        torch.save({"meta": {}, "state_dict": file["state_dict"]} if name == "50" else file, path)
        found.append(OracleCase("mmpretrain", path, x, golden(f"mmpretrain_{name}"), ORACLE, f"resnet{name}"))
    return found
