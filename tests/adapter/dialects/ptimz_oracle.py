"""The tutorial's networks: golden maps of ptimz.

Made with github.com/RimeT/ptimz at d8f08cf, ``ptimz/model_zoo/{resnet,unet}.py`` with mmpose's BaseBackbone as a plain
module: ``ResNet(depth, in_channels=2, stem_channels=4, base_channels=4, head_type="classification", num_classes=5)``
with both stems, and ``UNet(dict(num_channels=..., nclasses=3), ...)`` around one with a deep stem (with ``aux_train``
for depth 18); Conv3d, BN3d; filled by :func:`fill`, in evaluation mode. The last map is the logits.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
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

ORACLE = "ptimz's model_zoo/{resnet,unet}.py (d8f08cf), golden values"
WIDTHS = {18: (4, 4, 8, 16, 32), 50: (4, 16, 32, 64, 128)}


def encoder_shapes(depth: int, deep: bool = True) -> dict[str, Tensor]:
    """The stem, the pooling by convolution and the stages, with 2 input and 4 stem channels."""
    shapes = {} if deep else stem_shapes(2, (7, 7, 7))
    for i, (rows, columns) in enumerate(((2, 2), (2, 2), (4, 2)) if deep else ()):
        shapes |= conv_shape(f"stem.{i}.conv", rows, columns, (3, 3, 3)) | norm_shapes(f"stem.{i}.bn", rows)
    pool = conv_shape("maxpool.conv", 4, 4, (3, 3, 3)) | norm_shapes("maxpool.bn", 4)
    return shapes | pool | stage_shapes(depth)


def classifier_tensors(depth: int, deep: bool = True) -> dict[str, Tensor]:
    """A ResNet with ``head_fc`` of 5 classes."""
    return fill(encoder_shapes(depth, deep) | linear_shapes("head_fc", 5, WIDTHS[depth][-1]))


def biased(name: str, rows: int, columns: int, kernel: int, transposed: bool = False) -> dict[str, Tensor]:
    """A convolution with bias; a transposed one has its input channels first."""
    shape = (columns, rows) if transposed else (rows, columns)
    return {f"{name}.weight": torch.empty(*shape, *(kernel,) * 3), f"{name}.bias": torch.empty(rows)}


def up_shapes(name: str, below: int, width: int) -> dict[str, Tensor]:
    """``up``, then a bottleneck from twice the width, whose shortcut has a bias."""
    inner = width // 4
    shapes = biased(f"{name}.up", width, below, 2, transposed=True)
    for unit, (rows, columns, kernel) in enumerate(((inner, 2 * width, 1), (inner, inner, 3), (width, inner, 1)), 1):
        shapes |= conv_shape(f"{name}.conv.conv{unit}", rows, columns, (kernel,) * 3)
        shapes |= norm_shapes(f"{name}.conv.bn{unit}", rows)
    shapes |= biased(f"{name}.conv.downsample.0", width, 2 * width, 1)
    return shapes | norm_shapes(f"{name}.conv.downsample.1", width)


def segmenter_tensors(depth: int) -> dict[str, Tensor]:
    """A UNet of 3 classes, around the same encoder under other names; with auxiliary heads for depth 18."""
    places = (
        (r"^stem\.", "encoder_0."),
        (r"^maxpool\.", "encoder_1.0."),
        (r"^layer1\.", "encoder_1.1."),
        (r"^layer(\d)\.", r"encoder_\1."),
    )
    shapes = {}
    for key, tensor in encoder_shapes(depth).items():
        shapes[next(re.sub(old, new, key) for old, new in places if re.match(old, key))] = tensor
    widths = WIDTHS[depth]
    for i in range(4):
        shapes |= up_shapes(f"decoder_{i}", widths[i + 1], widths[i])
    shapes |= biased("final_layer.1", 3, widths[0], 1)
    for i, width in enumerate(widths[3:0:-1] if depth == 18 else ()):
        shapes |= biased(f"aux_layers.{i}.1", 3, width, 1)
    return fill(shapes)


def cases(folder: Path) -> list[OracleCase]:
    """Classifiers and segmenters, bare and wrapped."""
    x, found = golden_input(1, 2, 31, 32, 21), []
    for name, tensors in (
        ("resnet18", classifier_tensors(18)),
        ("resnet50", classifier_tensors(50)),
        ("resnet50_plain", classifier_tensors(50, deep=False)),
        ("unet18", segmenter_tensors(18)),
        ("unet50", segmenter_tensors(50)),
    ):
        path = folder / f"{name}.pth"
        torch.save({"epoch": 3, "state_dict": tensors} if "50" in name else tensors, path)
        found.append(OracleCase("ptimz", path, x, golden(f"ptimz_{name}"), ORACLE, name, features_and_logits))
    return found
