"""Arguments that make any network of the catalog tiny, in the words of its kind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import medtransfer as mt

_TINY: dict[str, dict[str, Any]] = {
    "resnet": {"base_channels": 4, "stem_channels": 4},
    "vgg": {"base_channels": 4},
    "plain": {"channels": [4, 8, 8]},
    "resenc": {"channels": [4, 8, 8]},
    "genesis": {"channels": [4, 8, 8], "inner_channels": [2, 4, 8]},
}


#: heads of every kind
HEADS: dict[str, Any] = {
    "organs": {"task": "segmentation", "num_classes": 3},
    "ill": {"task": "classification", "num_classes": 2},
    "age": {"task": "regression"},
}
_SEVERAL = ("multitask_", "faster_rcnn_", "retinanet_")
#: networks that give several tensors: each family, around an encoder of each kind
SEVERAL = (
    *("multitask_resnet10", "multitask_plain_encoder", "faster_rcnn_resnet10", "faster_rcnn_vgg11"),
    *("retinanet_resnet10", "retinanet_resenc_encoder"),
)
_TRUTH = {"boxes": torch.tensor([[4.0, 4, 4, 14, 12, 12]]), "labels": torch.tensor([1])}


def single_outputs(pattern: str = "*") -> list[str]:
    """Names of the networks that give one tensor: neither multi-task networks nor detectors."""
    return [name for name in mt.list_models(pattern) if not name.startswith(_SEVERAL)]


def tiny_arguments(name: str) -> dict[str, Any]:
    """Arguments for ``create_model(name, ...)``: 4 channels to begin with, and heads where it needs some."""
    family = next((prefix for prefix in _SEVERAL if name.startswith(prefix)), "")
    encoder = name.removeprefix(family)
    kind = next((kind for kind in _TINY if encoder.startswith(kind)), "resnet")
    return {**_TINY[kind], **_OWN.get(family, {})}


_OWN: dict[str, dict[str, Any]] = {
    "multitask_": {"heads": HEADS},
    # every anchor and proposal counts, so that nothing is drawn by chance
    "faster_rcnn_": {"out_channels": 4, "box_head_size": 8, "rpn_batch_size_per_image": 10**5},
    "retinanet_": {"out_channels": 4},
}


def loss_of(net: nn.Module, x: Tensor) -> Tensor:
    """A loss that every output of a network in training mode is a part of."""
    if net.task == "detection":
        return torch.stack(list(net(list(x), [_TRUTH] * len(x)).values())).sum()
    found = net(x)
    parts = found.values() if isinstance(found, dict) else found if isinstance(found, list | tuple) else [found]
    return torch.stack([part.square().mean() for part in parts]).sum()


def answer(net: nn.Module, x: Tensor) -> Tensor:
    """All numbers that a network gives, one row; of a detector those before its boxes are chosen."""
    found = _scored(net, x) if net.task == "detection" else net(x)
    parts = found.values() if isinstance(found, dict) else found if isinstance(found, list) else [found]
    return torch.cat([part.flatten() for part in parts])


def _scored(net: Any, x: Tensor) -> list[Tensor]:
    maps = net.backbone(x)
    if hasattr(net, "head"):
        return [level for levels in net.head(list(maps.values())) for level in levels]
    boxes, sizes = [_TRUTH["boxes"]] * len(x), [tuple(x.shape[2:])] * len(x)
    pooled = net.roi_heads.box_head(net.roi_heads.box_roi_pool(maps, boxes, sizes))
    proposals = [level for levels in net.rpn.head(list(maps.values())) for level in levels]
    return [*proposals, *net.roi_heads.box_predictor(pooled)]
