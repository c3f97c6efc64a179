"""Whole detectors in 2-D against torchvision's: the same weights, losses and detections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import medtransfer as mt
from medtransfer.model_zoo.detection import MultiScaleRoIAlign

ALL = 10**6
SHARED: dict[str, Any] = {
    "conv_cfg": {"type": "Conv2d"},
    "in_channels": 3,
    "num_classes": 3,
    "base_channels": 4,
    "stem_channels": 4,
    "out_channels": 8,
    "min_size": 64,
    "max_size": 100,
    "size_divisible": 32,
    "rounded_anchors": True,
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.25, 0.3],
}
#: those of golden/make_detectors.py; thresholds are the defaults of both
OWN: dict[str, dict[str, Any]] = {
    "faster_rcnn": {
        "extra_levels": "pool",
        "anchor_sizes": [8 * 2**i for i in range(5)],
        "box_roi_size": 3,
        "box_head_size": 16,
        "rpn_batch_size_per_image": ALL,
        "box_batch_size_per_image": ALL,
        "rpn_post_nms_top_n_train": 60,
        "rpn_post_nms_top_n_test": 40,
        "rpn_pre_nms_top_n_train": 200,
        "rpn_pre_nms_top_n_test": 100,
    },
    "retinanet": {
        "extra_levels": "p6p7",
        "anchor_sizes": [(8 * 2**i, 11 * 2**i) for i in range(6)],
        "detections_per_img": 1000,
        "topk_candidates": 50,
    },
}


def read(name: str) -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / "golden" / f"{name}.npz") as found:
        tensors = {key: torch.from_numpy(found[key]) for key in found.files}
    return {key: tensor.float() if tensor.dtype == torch.float16 else tensor for key, tensor in tensors.items()}


def same_weights(name: str, golden: dict[str, Tensor]) -> torch.nn.Module:
    network = mt.create_model(f"{name}_resnet10", **SHARED, **OWN[name])
    if name == "faster_rcnn":
        own = network.roi_heads.box_roi_pool
        pool = MultiScaleRoIAlign(own.featmap_names, 3, 2, ndim=2, canonical_scale=32, canonical_level=4)
        network.roi_heads.box_roi_pool = pool
    weights = {key.removeprefix("weight:"): tensor for key, tensor in golden.items() if key.startswith("weight:")}
    network.load_state_dict(weights)
    return network


@pytest.mark.parametrize("name", OWN)
def test_losses_and_detections_are_torchvisions(name: str) -> None:
    golden = read(name)
    network = same_weights(name, golden).eval()
    images = [golden[f"image:{i}"] for i in range(2)]
    targets = [{"boxes": golden[f"target:{i}"], "labels": golden[f"class:{i}"]} for i in range(2)]
    with torch.no_grad():
        for i, found in enumerate(network(images)):
            assert torch.equal(found["labels"], golden[f"labels:{i}"])
            torch.testing.assert_close(found["scores"], golden[f"scores:{i}"], rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(found["boxes"], golden[f"boxes:{i}"], rtol=1e-5, atol=1e-4)
        losses = network.train()(images, targets)
    expected = {key.removeprefix("loss:"): loss for key, loss in golden.items() if key.startswith("loss:")}
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-6)
