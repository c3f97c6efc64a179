"""Faster R-CNN in 3-D, part by part, and then another one around an AlexNet's features. Takes seconds.

python examples/faster_rcnn_fine_tuning.py
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import medtransfer as mt
from medtransfer.model_zoo.detection import AnchorGenerator, FasterRCNN, MultiScaleRoIAlign

Target = dict[str, Tensor]


class AlexNet(nn.Module):
    """The classifier of Krizhevsky et al. (NeurIPS 2012) with 3-D convolutions, a quarter as wide."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv3d(in_channels, 16, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool3d(3, 2)),
            *(nn.Conv3d(16, 48, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool3d(3, 2)),
            *(nn.Conv3d(48, 96, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv3d(96, 64, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv3d(64, 64, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool3d(3, 2)),
        )
        self.avgpool = nn.AdaptiveAvgPool3d(3)
        self.classifier = nn.Linear(64 * 27, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def two_scans() -> tuple[list[Tensor], list[Target]]:
    """Scans of different sizes, with one structure and with two."""
    images = [0.1 * torch.rand(1, 52, 56, 60), 0.1 * torch.rand(1, 64, 48, 72)]
    boxes = [
        torch.tensor([[8.0, 10, 12, 28, 34, 36]]),
        torch.tensor([[6.0, 8, 10, 30, 28, 34], [34.0, 16, 40, 58, 40, 66]]),
    ]
    for image, of_image in zip(images, boxes, strict=True):
        for d0, h0, w0, d1, h1, w1 in of_image.int().tolist():
            image[0, d0:d1, h0:h1, w0:w1] += 1
    return images, [{"boxes": each, "labels": torch.ones(len(each), dtype=torch.int64)} for each in boxes]


def infer(model: nn.Module, images: list[Tensor]) -> None:
    """A list of scans, whatever their sizes -> boxes, labels and scores of each."""
    model.eval()
    with torch.no_grad():
        output = model(images)
    for image, found in zip(images, output, strict=True):
        print(f"scan {tuple(image.shape)}:", {name: tuple(tensor.shape) for name, tensor in found.items()})


def train(model: nn.Module, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
    """Targets are needed in training, which gives losses: of the first stage two, and of the second."""
    model.train()
    losses: dict[str, Tensor] = model(images, targets)
    print({name: round(loss.item(), 4) for name, loss in losses.items()})
    return losses


def building_blocks(model: Any, images: list[Tensor]) -> None:
    """What a detector is made of."""
    print("parts:", [name for name, _ in model.named_children()])

    batch, _ = model.transform(images)
    print("transform: batch", tuple(batch.tensors.shape), model.transform)

    with torch.no_grad():
        maps = model.backbone(batch.tensors)
    print("backbone: maps", {name: tuple(x.shape) for name, x in maps.items()})
    print("backbone: out_channels", model.backbone.out_channels)

    anchors = model.rpn.anchor_generator
    print("rpn: sizes", [tuple(round(size, 1) for size in of_map) for of_map in anchors.sizes])
    print(
        "rpn: aspect ratios", anchors.aspect_ratios[0], "on each map,", anchors.num_anchors_per_location()[0], "anchors"
    )
    print("rpn: head", model.rpn.head)

    pool = model.roi_heads.box_roi_pool
    print("roi_heads: featmap_names", pool.featmap_names, "output_size", pool.output_size)
    print("roi_heads: sampling_ratio", pool.sampling_ratio)
    print("roi_heads: box_head", model.roi_heads.box_head)
    print("roi_heads: box_predictor", model.roi_heads.box_predictor)


def alexnet_detector() -> FasterRCNN:
    """Everything exchanged: sizes and normalisation, backbone, anchors, RoI pooling."""
    # only the convolutions of a classifier are needed, and how many channels come out of them
    ft_backbone = AlexNet().features
    ft_backbone.out_channels = 64
    print("output of the new backbone:", type(ft_backbone(torch.rand(2, 1, 64, 64, 64))).__name__)

    # it gives a single map, so there is a single tuple of sizes
    ft_anchor_generator = AnchorGenerator(sizes=((16, 24, 32, 48),), aspect_ratios=((0.5, 1.0, 2.0),))
    # a single map has the name '0'
    ft_roi_pooler = MultiScaleRoIAlign(featmap_names=["0"], output_size=4, sampling_ratio=1)
    return FasterRCNN(
        backbone=ft_backbone,
        num_classes=2,
        min_size=64,
        max_size=96,
        image_mean=[0.2],
        image_std=[0.4],
        rpn_anchor_generator=ft_anchor_generator,
        box_roi_pool=ft_roi_pooler,
    )


def main() -> None:
    torch.manual_seed(0)
    images, targets = two_scans()

    print("1. Faster R-CNN with a ResNet-18 and a feature pyramid")
    widths = {"base_channels": 16, "stem_channels": 16, "out_channels": 64}
    model = mt.create_model("faster_rcnn_resnet18", in_channels=1, num_classes=3, **widths)
    infer(model, images)
    train(model, images, targets)
    building_blocks(model, images)

    print("2. Faster R-CNN with the features of an AlexNet")
    ft_model = alexnet_detector()
    infer(ft_model, images)
    optimiser = torch.optim.AdamW(ft_model.parameters(), lr=1e-4)
    for _ in range(3):
        losses = train(ft_model, images, targets)
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()


if __name__ == "__main__":
    main()
