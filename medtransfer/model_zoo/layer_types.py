"""Types of layers by the names that mmcv gives them.

Those that are torch's own stand here. mmcv, whose import takes as long as torch's since it brings mmengine's runner, is
read only when another type is asked for.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from .acs import ACSConv3d

_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ReLU6, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh)
#: name in a config -> class; a name always stands for the same class, whatever else is imported
OWN: dict[str, type[nn.Module]] = {
    **{f"Conv{ndim}d": getattr(nn, f"Conv{ndim}d") for ndim in (1, 2, 3)},
    **{f"BN{ndim}d": getattr(nn, f"BatchNorm{ndim}d") for ndim in (1, 2, 3)},
    **{f"IN{ndim}d": getattr(nn, f"InstanceNorm{ndim}d") for ndim in (1, 2, 3)},
    **{kind.__name__: kind for kind in (ACSConv3d, *_ACTIVATIONS)},
    "GN": nn.GroupNorm,
    "SyncBN": nn.SyncBatchNorm,
    # without a dimension mmcv means two
    "Conv": nn.Conv2d,
    "BN": nn.BatchNorm2d,
    "IN": nn.InstanceNorm2d,
}
#: kind of norm -> the name of its attribute, by mmcv's rule
NORM_NAMES = {"BN": "bn", "IN": "in", "GN": "gn", "SyncBN": "bn"}
_WRAPPERS = "mmcv.cnn.bricks.wrappers"


def layer_type(name: str) -> Any:
    """The class of a layer by its name in a config: torch's, or one that is registered with mmcv; None if unknown.

    >>> layer_type("BN3d").__name__, layer_type("HSwish").__name__, layer_type("Relu")
    ('BatchNorm3d', 'Hardswish', None)
    """
    return OWN.get(name) or _registered().get(name)


def known_types() -> list[str]:
    """All names that :func:`layer_type` knows."""
    return list({**OWN, **_registered()})


def torch_type(layer: nn.Module | None) -> type:
    """The class of a layer; of mmcv's convolutions torch's, to which they add only what old torch lacked."""
    kind = type(layer)
    return kind.__bases__[0] if kind.__module__ == _WRAPPERS else kind


def _registered() -> dict[str, Any]:
    """The types that mmcv has and those that users registered, those of the current scope first.

    ``Registry.get`` would import any module that has the name, which a model folder must not be able to ask for.
    """
    import mmcv.cnn  # noqa: F401  registers its layers
    from mmengine.registry import MODELS

    with MODELS.switch_scope_and_registry(None) as registry:
        return {**MODELS.module_dict, **registry.module_dict}
