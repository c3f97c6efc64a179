"""2-D detectors: golden maps of torchvision.

Made with torchvision 0.28.0, ``models/detection``: ``FasterRCNN(BackboneWithFPN(body, {"layer1": "0", ...}, widths, 8),
num_classes=4)`` with ``TwoMLPHead(8 * 49, 16)`` and the anchors of ``fasterrcnn_resnet50_fpn``, and ``RetinaNet(...,
num_classes=4)`` with ``returned_layers=[2, 3, 4]``, ``LastLevelP6P7(8, 8)`` and those of ``retinanet_resnet50_fpn``;
the body its ResNet of Bottlenecks with FrozenBatchNorm2d, widths written as 4 ... 32 for 64 ... 512. Filled by
:func:`fill`, in evaluation mode; the maps are the pyramid's, then what the head over them gives, level by level.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from tests.adapter.dialects.oracle_case import OracleCase, fill
from tests.adapter.dialects.resnet_keys import behind, golden, golden_input, linear_shapes, stage_shapes, stem_shapes

TORCHVISION = "torchvision's models/detection (0.28.0), golden values"
CHANNELS, CLASSES, WIDTHS = 8, 4, (16, 32, 64, 128)


def layer(name: str, rows: int, columns: int, kernel: int) -> dict[str, Tensor]:
    """A convolution with bias."""
    return {f"{name}.weight": torch.empty(rows, columns, kernel, kernel), f"{name}.bias": torch.empty(rows)}


def backbone(first_level: int) -> dict[str, Tensor]:
    """The body of frozen norms, and the pyramid over its stages from that one on."""
    body = stem_shapes(3, (7, 7)) | stage_shapes(50, ndim=2)
    shapes = behind("backbone.body.", {key: t for key, t in body.items() if "num_batches" not in key})
    for i, width in enumerate(WIDTHS[first_level:]):
        shapes |= layer(f"backbone.fpn.inner_blocks.{i}.0", CHANNELS, width, 1)
        shapes |= layer(f"backbone.fpn.layer_blocks.{i}.0", CHANNELS, CHANNELS, 3)
    return shapes


def faster_rcnn() -> dict[str, Tensor]:
    """``fasterrcnn_resnet50_fpn`` with few channels."""
    shapes = backbone(0) | layer("rpn.head.conv.0.0", CHANNELS, CHANNELS, 3)
    shapes |= layer("rpn.head.cls_logits", 3, CHANNELS, 1) | layer("rpn.head.bbox_pred", 12, CHANNELS, 1)
    shapes |= linear_shapes("roi_heads.box_head.fc6", 16, CHANNELS * 49)
    shapes |= linear_shapes("roi_heads.box_head.fc7", 16, 16)
    shapes |= linear_shapes("roi_heads.box_predictor.cls_score", CLASSES, 16)
    return fill(shapes | linear_shapes("roi_heads.box_predictor.bbox_pred", CLASSES * 4, 16))


def retinanet() -> dict[str, Tensor]:
    """``retinanet_resnet50_fpn`` with few channels."""
    shapes = backbone(1)
    for name in ("p6", "p7"):
        shapes |= layer(f"backbone.fpn.extra_blocks.{name}", CHANNELS, CHANNELS, 3)
    for head, last, rows in (("classification", "cls_logits", 9 * CLASSES), ("regression", "bbox_reg", 36)):
        for i in range(4):
            shapes |= layer(f"head.{head}_head.conv.{i}.0", CHANNELS, CHANNELS, 3)
        shapes |= layer(f"head.{head}_head.{last}", rows, CHANNELS, 3)
    return fill(shapes)


def as_before_013(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The keys of the files that torchvision publishes, which were written by older versions."""
    old = {}
    for key, tensor in state.items():
        parts = key.split(".")
        if "_blocks." in key and "extra" not in key:
            del parts[4]
        elif key.startswith("rpn.head.conv."):
            del parts[3:5]
        elif "_head.conv." in key:
            parts[3:5] = [str(2 * int(parts[3]))]
        old[".".join(parts)] = tensor
    return old


def maps_of(network: nn.Module, x: Tensor) -> list[Tensor]:
    """The pyramid, then what the head over its maps gives."""
    pyramid = list(network.backbone(x).values())
    head = network.rpn.head if hasattr(network, "rpn") else network.head
    return [*pyramid, *(level for levels in head(pyramid) for level in levels)]


def cases(folder: Path) -> list[OracleCase]:
    """State dicts as torchvision writes them now, and as its published files have them."""
    x, found = golden_input(2, 3, 64, 96), []
    for name, state in (("faster_rcnn", faster_rcnn()), ("retinanet", retinanet())):
        for layout, tensors in ((name, state), (f"{name} before 0.13", as_before_013(state))):
            path = folder / f"{layout}.pth"
            torch.save(tensors, path)
            maps = golden(f"torchvision_{name}")
            found.append(OracleCase("detector", path, x, maps, TORCHVISION, layout, maps_of))
    return found
