"""Write ``faster_rcnn.npz`` and ``retinanet.npz``: weights of tiny 2-D detectors of torchvision, and what they compute.

Needs torchvision 0.28 with its compiled operators, and this project: ``python
tests/model_zoo/detection/golden/make_detectors.py``. (Its Python definition of RoIAlign is another one for thin boxes
at the upper border: there points more than a voxel outside are not 0.) Boxes, codes and so the rows of the layers that
predict them are written in the order of this project, (h, w), where torchvision's is (x, y).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medtransfer.model_zoo import ResNet

SIZES = ((40, 60), (50, 50))
TRANSFORM = {"min_size": 64, "max_size": 100, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
ALL = 10**6


def swap(codes: Tensor) -> Tensor:
    """Exchange the axes in rows (4 K, ...)."""
    return codes.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


def backbone(extra: Any) -> nn.Module:
    from torchvision.models.detection.backbone_utils import BackboneWithFPN

    body = ResNet(10, in_channels=3, base_channels=4, stem_channels=4, conv_cfg={"type": "Conv2d"})
    layers = {f"layer{i + 1}": str(i) for i in range(4)}
    return BackboneWithFPN(body, layers, [4, 8, 16, 32], 8, extra)


def faster_rcnn() -> nn.Module:
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.ops import MultiScaleRoIAlign
    from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

    anchors = AnchorGenerator(tuple((8 * 2**i,) for i in range(5)), ((0.5, 1.0, 2.0),) * 5)
    pool = MultiScaleRoIAlign(["0", "1", "2", "3"], 3, 2, canonical_scale=32, canonical_level=4)
    return FasterRCNN(
        backbone(LastLevelMaxPool()),
        rpn_anchor_generator=anchors,
        box_roi_pool=pool,
        box_head=TwoMLPHead(8 * 9, 16),
        box_predictor=FastRCNNPredictor(16, 3),
        rpn_batch_size_per_image=ALL,
        box_batch_size_per_image=ALL,
        rpn_post_nms_top_n_train=60,
        rpn_post_nms_top_n_test=40,
        rpn_pre_nms_top_n_train=200,
        rpn_pre_nms_top_n_test=100,
        **TRANSFORM,
    )


def retinanet() -> nn.Module:
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    sizes = tuple((8 * 2**i, 11 * 2**i) for i in range(6))
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 6)
    return RetinaNet(
        backbone(LastLevelP6P7(8, 8)),
        3,
        anchor_generator=anchors,
        detections_per_img=1000,
        topk_candidates=50,
        **TRANSFORM,
    )


def fill(network: nn.Module, generator: torch.Generator) -> None:
    """Weights by chance that leave no layer idle, of half precision so that the file is small."""
    for key, tensor in network.state_dict().items():
        if tensor.ndim > 1:
            values = torch.randn(tensor.shape, generator=generator) * (2 / tensor[0].numel()) ** 0.5
            values = values * (0.1 if "bbox" in key else 1)
        elif "running_var" in key or key.endswith("weight"):
            values = torch.rand(tensor.shape, generator=generator) * 0.5 + 0.5
        else:
            values = torch.randn(tensor.shape, generator=generator) * 0.1
        if tensor.is_floating_point():
            tensor.copy_(values.half())
    if hasattr(network, "head"):
        # torchvision would detect the background too
        bias = network.head.classification_head.cls_logits.bias.data
        bias.view(-1, 3).copy_(torch.tensor([-20.0, -2.0, -2.0]))


def inputs(generator: torch.Generator) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    images = [torch.rand(3, *size, generator=generator).half().float() for size in SIZES]
    # no whole numbers: an overlap of just a threshold would be decided by rounding
    boxes = [torch.tensor([[5.25, 6.5, 25.75, 30.5], [30.5, 10.25, 55.0, 20.75]]), torch.tensor([[10.5, 3.25, 40, 45]])]
    labels = [torch.tensor([1, 2]), torch.tensor([2])]
    return images, [{"boxes": b, "labels": each} for b, each in zip(boxes, labels, strict=True)]


def describe(network: nn.Module) -> dict[str, np.ndarray]:
    generator = torch.Generator().manual_seed(0)
    fill(network, generator)
    images, targets = inputs(generator)
    found: dict[str, Tensor] = {}
    for key, tensor in network.state_dict().items():
        ours = swap(tensor) if "bbox" in key and ".conv." not in key else tensor
        found[f"weight:{key}"] = ours.half() if tensor.is_floating_point() else ours
    with torch.no_grad():
        for i, detections in enumerate(network.eval()(images)):
            # torchvision's RetinaNet keeps boxes that lie in the padding, without extent after clipping
            corners = detections["boxes"]
            thick = (corners[:, 2:] - corners[:, :2] > 1e-2).all(1)
            detections = {name: tensor[thick] for name, tensor in detections.items()}
            found |= {f"{name}:{i}": tensor for name, tensor in detections.items()}
            found[f"boxes:{i}"] = swap(detections["boxes"].T).T
        found |= {f"loss:{name}": loss for name, loss in network.train()(images, targets).items()}
    for i, (image, target) in enumerate(zip(images, targets, strict=True)):
        found |= {f"image:{i}": image.half(), f"target:{i}": swap(target["boxes"].T).T, f"class:{i}": target["labels"]}
    return {name: tensor.numpy() for name, tensor in found.items()}


if __name__ == "__main__":
    for build in (faster_rcnn, retinanet):
        np.savez_compressed(Path(__file__).parent / f"{build.__name__}.npz", **describe(build()))
