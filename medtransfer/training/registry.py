"""The registry scope ``medtransfer``: everything that a config may name by ``type``."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import mmengine.registry as root
import torch
from mmengine.registry import Registry
from monai import losses

from ..data.box_dataset import BoxDataset
from ..data.dataset import DecathlonDataset, LayoutDataset, ScanDataset, TableDataset
from ..data.multitask import MultiTaskDataset
from ..data.sampler import CaseSampler
from ..model_zoo.catalog import create_model
from ..model_zoo.names import MODEL_NAMES
from ..model_zoo.resnet import ResNet
from ..model_zoo.unet import UNet

SCOPE = "medtransfer"

# mmengine looks for a module <scope>.registry, and warns at every build that does not find it
sys.modules.setdefault(f"{SCOPE}.registry", sys.modules[__name__])


def _child(parent: Registry) -> Registry:
    return Registry(parent.name, parent=parent, scope=SCOPE)


# one child for each of mmengine's registries: it warns about every one that a scope lacks
REGISTRIES = {name: _child(parent) for name, parent in vars(root).items() if isinstance(parent, Registry)}
MODELS, DATASETS, DATA_SAMPLERS = (REGISTRIES[name] for name in ("MODELS", "DATASETS", "DATA_SAMPLERS"))
HOOKS, METRICS, VISUALIZERS = (REGISTRIES[name] for name in ("HOOKS", "METRICS", "VISUALIZERS"))
OPTIMIZERS, OPTIM_WRAPPERS = (REGISTRIES[name] for name in ("OPTIMIZERS", "OPTIM_WRAPPERS"))
PARAM_SCHEDULERS = REGISTRIES["PARAM_SCHEDULERS"]
TRACKERS = Registry("tracker", scope=SCOPE)

LOSSES = (
    losses.DiceLoss,
    losses.DiceCELoss,
    losses.DiceFocalLoss,
    losses.FocalLoss,
    losses.GeneralizedDiceLoss,
    losses.GeneralizedDiceFocalLoss,
    losses.TverskyLoss,
    torch.nn.CrossEntropyLoss,
    torch.nn.L1Loss,
    torch.nn.MSELoss,
    torch.nn.SmoothL1Loss,
)


def build_unet(encoder: dict[str, Any], num_classes: int, **arguments: Any) -> UNet:
    """``dict(type="UNet", encoder=dict(type="ResNet", depth=18, ...), num_classes=3)``: a UNet around that encoder."""
    return UNet.around(MODELS.build(encoder), num_classes, **arguments)


def _register_all() -> None:
    for name in MODEL_NAMES:
        MODELS.register_module(name=name, module=partial(create_model, name))
    for module in (ResNet, *LOSSES):
        MODELS.register_module(module=module)
    MODELS.register_module(name="UNet", module=build_unet)
    datasets = {"Cases": LayoutDataset, "Decathlon": DecathlonDataset, "Scans": ScanDataset, "Table": TableDataset}
    datasets |= {"Boxes": BoxDataset, "MultiTask": MultiTaskDataset}
    for name, dataset in datasets.items():
        DATASETS.register_module(name=name, module=dataset)
    DATA_SAMPLERS.register_module(module=CaseSampler)


_register_all()
