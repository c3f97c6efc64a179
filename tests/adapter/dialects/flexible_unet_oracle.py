"""MONAI's FlexibleUNet, run here: the maps of its ResNet encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import monai
import torch
from monai.networks.nets import FlexibleUNet
from torch import nn

from tests.adapter.dialects.oracle_case import OracleCase, fill
from tests.adapter.dialects.resnet_keys import golden_input

ORACLE = f"the encoder of monai.networks.nets.FlexibleUNet ({monai.__version__})"


def flexible_unet(backbone: str, spatial_dims: int, **arguments: Any) -> nn.Module:
    """A network with a small decoder and its own values in every tensor."""
    net = FlexibleUNet(2, 3, backbone, spatial_dims=spatial_dims, decoder_channels=(16, 8, 8, 4, 4), **arguments)
    net.load_state_dict(fill(net.state_dict()))
    return net.eval()


def cases(folder: Path) -> list[OracleCase]:
    """Bare state dicts, and one behind ``module.`` as DataParallel leaves it."""
    found = []
    for backbone, ndim, prefix in (("resnet10", 3, ""), ("resnet18", 2, "module."), ("resnet50", 2, "")):
        net, path = flexible_unet(backbone, ndim), folder / f"{backbone}_{ndim}d.pt"
        torch.save({prefix + key: tensor for key, tensor in net.state_dict().items()}, path)
        x = golden_input(1, 2, *(32, 21, 18)[:ndim])
        with torch.no_grad():
            maps = list(net.encoder(x))
        found.append(OracleCase("flexible_unet", path, x, maps, ORACLE, f"{backbone}, {ndim}-D"))
    return found
