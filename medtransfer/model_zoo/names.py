"""The catalog's names, as plain data: what `medtransfer info` lists without importing torch."""

from __future__ import annotations

import fnmatch
from typing import Any

RESNET_DEPTHS = (10, 18, 34, 50, 101, 152, 200)
VGG_DEPTHS = (11, 13, 16, 19)

#: the 3-D U-Net of Models Genesis (Zhou et al., Medical Image Analysis 2021), whose norms always use the batch
GENESIS: dict[str, Any] = {
    "channels": [64, 128, 256, 512],
    "inner_channels": [32, 64, 128, 256],
    "pool": "max",
    "up_channels": "below",
    "norm_cfg": {"type": "BN", "track_running_stats": False},
    "act_cfg": {"type": "ReLU"},
}

#: classifiers, whose encoders other networks stand around: name -> (family, the arguments that the name stands for)
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"resnet{depth}": ("resnet", {"depth": depth}) for depth in RESNET_DEPTHS},
    **{f"vgg{depth}": ("vgg", {"depth": depth}) for depth in VGG_DEPTHS},
    "plain_encoder": ("plain_encoder", {}),
    "resenc_encoder": ("resenc_encoder", {}),
}

#: kind of detector -> its class in ``detection``, which is loaded when one is built
DETECTORS = {"faster_rcnn": "FasterRCNN", "retinanet": "RetinaNet"}

#: name -> (family, the arguments that the name stands for)
MODEL_NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"{family}{depth}": (family, {"depth": depth}) for family in ("resnet", "resunet") for depth in RESNET_DEPTHS},
    **{f"{family}{depth}": (family, {"depth": depth}) for family in ("vgg", "vggunet") for depth in VGG_DEPTHS},
    **{f"vgg{depth}_fcn": ("vgg", {"depth": depth, "head_type": "fcn"}) for depth in VGG_DEPTHS},
    "plain_encoder": ("plain_encoder", {}),
    "plain_unet": ("plain_unet", {}),
    "resenc_encoder": ("resenc_encoder", {}),
    "resenc_unet": ("resenc_unet", {}),
    # nnU-Net's presets differ in the patch that the memory allows, not in widths or blocks
    **{f"resenc_unet_{preset}": ("resenc_unet", {}) for preset in ("m", "l", "xl")},
    "genesis_unet": ("plain_unet", GENESIS),
    **{f"multitask_{name}": (f"multitask_{family}", given) for name, (family, given) in ENCODERS.items()},
    **{f"{d}_{name}": (f"{d}_{family}", given) for d in DETECTORS for name, (family, given) in ENCODERS.items()},
}


def list_models(pattern: str = "*") -> list[str]:
    """Names of the zoo that match a shell pattern, shallow networks first.

    Args:
        pattern: With ``*``, ``?`` and ``[...]``, of the whole name.

    >>> list_models("res*18")
    ['resnet18', 'resunet18']
    """
    return [name for name in MODEL_NAMES if fnmatch.fnmatchcase(name, pattern)]
