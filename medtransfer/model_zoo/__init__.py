"""Networks: plain ``torch.nn.Module`` classes and the catalog that builds them by name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .catalog import create_model
    from .names import list_models
    from .resnet import ResNet
    from .unet import UNet
    from .vgg import VGG

# loaded on first use: the catalog's names must be readable without importing torch
_HOMES = {"ResNet": "resnet", "UNet": "unet", "VGG": "vgg", "create_model": "catalog", "list_models": "names"}

__all__ = ["ResNet", "UNet", "VGG", "create_model", "list_models"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
