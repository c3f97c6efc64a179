"""medtransfer: transfer learning on 3-D medical images.

The public names load on first use, so that ``import medtransfer`` costs no import of torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import MedTransferError
from .version import __version__

if TYPE_CHECKING:
    from .adapter.input_conv import adapt_input_conv
    from .adapter.inspect import inspect
    from .adapter.persist import load, save
    from .adapter.report import TransferReport
    from .adapter.share import to_classifier, to_segmenter
    from .adapter.transfer import transfer
    from .checkpoint.card import ModelCard
    from .inference.predictor import Predictor
    from .model_zoo.catalog import create_model
    from .model_zoo.names import list_models

_HOMES = {
    "list_models": "model_zoo.names",
    "create_model": "model_zoo.catalog",
    "to_segmenter": "adapter.share",
    "to_classifier": "adapter.share",
    "transfer": "adapter.transfer",
    "TransferReport": "adapter.report",
    "adapt_input_conv": "adapter.input_conv",
    "inspect": "adapter.inspect",
    "save": "adapter.persist",
    "load": "adapter.persist",
    "ModelCard": "checkpoint.card",
    "Predictor": "inference.predictor",
}

__all__ = [
    "MedTransferError",
    "ModelCard",
    "Predictor",
    "TransferReport",
    "__version__",
    "adapt_input_conv",
    "create_model",
    "inspect",
    "list_models",
    "load",
    "save",
    "to_classifier",
    "to_segmenter",
    "transfer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
