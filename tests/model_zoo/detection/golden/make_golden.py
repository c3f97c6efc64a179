"""Write ``ops.npz``: what torchvision computes for boxes drawn by chance, 2-D.

Needs torchvision 0.28 with its compiled operators, or their Python definitions in their place:
``python tests/model_zoo/detection/golden/make_golden.py``. Boxes are written in the order of this project, (h0, w0,
h1, w1), where torchvision's are (x0, y0, x1, y1).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

IMAGE = (64, 96)


def swap(boxes: Tensor) -> Tensor:
    """Exchange the axes of boxes or codes, (N, 4 K)."""
    return boxes.unflatten(1, (-1, 2)).flip(-1).flatten(1)


def draw_boxes(number: int, generator: torch.Generator, largest: float = 40.0) -> Tensor:
    """(N, 4) inside the image, x first."""
    size = torch.tensor(IMAGE[::-1], dtype=torch.float32)
    extent = torch.rand(number, 2, generator=generator) * (largest - 2) + 2
    lower = torch.rand(number, 2, generator=generator) * (size - extent)
    return torch.cat([lower, lower + extent], dim=1)


def pooling(generator: torch.Generator) -> dict[str, Tensor]:
    """RoIAlign of one map, and of a pyramid."""
    from torchvision.ops import MultiScaleRoIAlign, roi_align

    boxes = draw_boxes(6, generator)
    numbers = torch.tensor([0, 1, 1, 0, 1, 0.0])[:, None]
    maps = {str(level): torch.randn(2, 3, 16 >> level, 24 >> level, generator=generator) for level in range(3)}
    found = {"roi_boxes": torch.cat([numbers, swap(boxes)], dim=1), **{f"map_{key}": maps[key] for key in maps}}
    for ratio in (1, 2, -1):
        for aligned in (False, True):
            pooled = roi_align(maps["0"], torch.cat([numbers, boxes], dim=1), (3, 4), 0.25, ratio, aligned)
            found[f"roi_{ratio}_{aligned}"] = pooled
    pool = MultiScaleRoIAlign(["0", "1", "2"], 3, 2, canonical_scale=16, canonical_level=3)
    found["pyramid"] = pool(maps, [boxes[:4], boxes[4:]], [IMAGE, (60, 90)])
    return found


def anchors(generator: torch.Generator) -> dict[str, Tensor]:
    """Anchors of a pyramid of two levels."""
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList

    batch = torch.zeros(1, 3, *IMAGE)
    levels = [torch.zeros(1, 2, 4, 6), torch.zeros(1, 2, 2, 3)]
    make = AnchorGenerator(((9, 32), (64, 100)), ((0.5, 1.0, 2.0),) * 2)
    return {"anchors": swap(make(ImageList(batch, [IMAGE]), levels)[0])}


def coding(generator: torch.Generator) -> dict[str, Tensor]:
    """Codes of boxes, and boxes of codes of three classes, some beyond the clip."""
    from torchvision.models.detection._utils import BoxCoder

    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    boxes, anchors = draw_boxes(8, generator), draw_boxes(8, generator)
    codes = torch.randn(8, 12, generator=generator) * 12
    found = {"coder_boxes": boxes, "coder_anchors": anchors, "codes": codes}
    found |= {"encoded": coder.encode_single(boxes, anchors), "decoded": coder.decode_single(codes, anchors)}
    return {key: swap(value) for key, value in found.items()}


def matching(generator: torch.Generator) -> dict[str, Tensor]:
    """Matches of anchors, with ties, and a sample of them."""
    from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher

    quality = (torch.rand(4, 60, generator=generator) * 8).round() / 8 * torch.tensor([1.0, 1, 0.8, 0.3])[:, None]
    found = {"quality": quality}
    for low in (False, True):
        found[f"matches_{low}"] = Matcher(0.7, 0.3, allow_low_quality_matches=low)(quality)
    labels = [torch.randint(-1, 3, (40,), generator=generator), torch.zeros(5, dtype=torch.int64)]
    torch.manual_seed(7)
    positive, negative = BalancedPositiveNegativeSampler(12, 0.25)(labels)
    found |= {f"labels_{i}": each for i, each in enumerate(labels)}
    found |= {f"positive_{i}": each for i, each in enumerate(positive)}
    return found | {f"negative_{i}": each for i, each in enumerate(negative)}


def suppression(generator: torch.Generator) -> dict[str, Tensor]:
    """Boxes that stay, with equal scores among them."""
    from torchvision.ops import batched_nms, box_iou, nms

    boxes = draw_boxes(80, generator, largest=60.0)
    scores = (torch.rand(80, generator=generator) * 20).round() / 20
    labels = torch.randint(0, 3, (80,), generator=generator)
    found = {"nms_boxes": swap(boxes), "nms_scores": scores, "nms_labels": labels}
    found["iou"] = box_iou(boxes[:10], boxes[10:30])
    found["kept"] = nms(boxes, scores, 0.4)
    # without the trick that moves the labels' boxes apart, which rounds them
    parts = [torch.where(labels == label)[0] for label in range(3)]
    kept = torch.cat([part[nms(boxes[part], scores[part], 0.4)] for part in parts]).sort().values
    assert set(kept.tolist()) == set(batched_nms(boxes, scores, labels, 0.4).tolist())
    return found | {"kept_by_label": kept}


def main() -> None:
    """Write the file beside this script."""
    generator = torch.Generator().manual_seed(0)
    found: dict[str, Any] = {}
    for part in (pooling, anchors, coding, matching, suppression):
        found |= {key: value.numpy() for key, value in part(generator).items()}
    np.savez_compressed(Path(__file__).with_name("ops.npz"), **found)


if __name__ == "__main__":
    main()
