"""MONAI's ResNet, run here: every depth, both shortcuts, with and without their bias, 2-D and 3-D."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import monai
import torch
from monai.networks.nets import resnet as monai_resnet
from torch import Tensor, nn

from tests.adapter.dialects.oracle_case import OracleCase, fill
from tests.adapter.dialects.resnet_keys import features_and_logits, golden_input

ORACLE = f"monai.networks.nets.ResNet ({monai.__version__})"
#: layout -> depth, MONAI's arguments, arguments here where the tensors cannot tell
VARIANTS: dict[str, tuple[int, dict[str, Any], dict[str, Any]]] = {
    "resnet10": (10, {}, {}),
    "resnet18, shortcut A": (18, {"shortcut_type": "A"}, {}),
    "resnet34": (34, {}, {}),
    "resnet50": (50, {}, {}),
    "resnet50, no bias in the shortcuts": (50, {"bias_downsample": False}, {}),
    "resnet101": (101, {}, {}),
    "resnet152": (152, {}, {}),
    "resnet200": (200, {}, {}),
    "resnet18, 2-D": (18, {"spatial_dims": 2}, {}),
    "resnet18, conv1_t_stride=2": (18, {"conv1_t_stride": 2}, {"first_stride": 2}),
    "resnet10, conv1_t_size=3": (10, {"conv1_t_size": 3}, {}),
    "resnet10, no_max_pool": (10, {"no_max_pool": True, "conv1_t_stride": 2}, {"first_stride": 2, "pool": "none"}),
}


def monai_net(depth: int, **arguments: Any) -> nn.Module:
    """A network of 4 channels and 3 classes with its own values in every tensor."""
    block, layers, *_ = monai_resnet.resnet_params[f"resnet{depth}"]
    given = {"n_input_channels": 2, "num_classes": 3, **arguments}
    net = monai_resnet.ResNet(block, layers, [4, 8, 16, 32], **given)
    net.load_state_dict(fill(net.state_dict()))
    return net.eval()


def monai_maps(net: nn.Module, x: Tensor) -> list[Tensor]:
    """MONAI's maps after the stem and each stage, and its logits."""
    with torch.no_grad():
        maps = [net.act(net.bn1(net.conv1(x)))]
        h = maps[0] if net.no_max_pool else net.maxpool(maps[0])
        for name in ("layer1", "layer2", "layer3", "layer4"):
            h = getattr(net, name)(h)
            maps.append(h)
        return [*maps, net(x)]


def cases(folder: Path) -> list[OracleCase]:
    """Bare state dicts, as in MONAI's bundles, and under ``model`` beside an optimizer, as its CheckpointSaver's."""
    found = []
    for i, (layout, (depth, theirs, ours)) in enumerate(VARIANTS.items()):
        net, path = monai_net(depth, **theirs), folder / f"model{i}.pt"
        state = net.state_dict()
        torch.save({"model": state, "optimizer": {"state": {}, "param_groups": []}} if i % 2 else state, path)
        x = golden_input(1, 2, *(21, 18, 23)[: theirs.get("spatial_dims", 3)])
        maps = monai_maps(net, x)
        found.append(OracleCase("monai_resnet", path, x, maps, ORACLE, layout, features_and_logits, ours))
    return found
