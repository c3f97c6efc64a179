"""2-D networks of the zoo as 3-D ones: built anew by name, so that they know what they are and can be saved."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

from ..errors import ModelError
from ..model_zoo.catalog import create_model
from .inflate import fit_kernel
from .inflate_layers import Inflation


def is_of_zoo(module: nn.Module) -> bool:
    """Whether a network carries the record by which ``create_model`` builds it again."""
    return isinstance(getattr(module, "architecture", None), dict) and hasattr(module, "ndim")


def inflate_zoo_network(network: Any, how: Inflation) -> nn.Module:
    """The same network with ``Conv3d`` (or ``ACSConv3d``) layers and the inflated weights.

    Raises:
        ModelError: it is 3-D already, its layers or strides are not plain 2-D ones, or an option asks for more than
            another dimension.
    """
    if network.ndim != 2:
        raise ModelError(f"is {network.ndim}-D already")
    if how.depth is not None or how.stride != "same":
        raise ModelError("a network of the zoo is inflated with its own kernels and strides", hint=_HINT)
    record = network.architecture
    new = create_model(record["name"], **_arguments(record["arguments"], how))
    new.load_state_dict(_weights(network.state_dict(), new, how))
    parameters = dict(new.named_parameters())
    for name, old in network.named_parameters():
        parameters[name].requires_grad = old.requires_grad
    first = next(network.parameters())
    return new.to(first.device, first.dtype).train(network.training)


_HINT = "Build the 3-D network with create_model, and use transfer(inflation=...)"


def _arguments(given: dict[str, Any], how: Inflation) -> dict[str, Any]:
    if (kind := given["conv_cfg"]["type"]) != "Conv2d":
        raise ModelError(f"its convolutions are of the type {kind!r}, only Conv2d is inflated", hint=_HINT)
    if uneven := next((name for name, value in given.items() if _is_per_axis(name, value)), None):
        raise ModelError(f"its {uneven} are given for two axes: {given[uneven]}", hint=_HINT)
    norm = given.get("norm_cfg")
    norms = {"norm_cfg": {**norm, "type": re.sub(r"2d$", "", norm["type"])}} if norm else {}
    # the head keeps as many inputs as it has
    pool = {"head_pool": list(how.insert(_pair(given["head_pool"]), 1))} if "head_pool" in given else {}
    return {**given, **norms, **pool, "conv_cfg": {"type": "ACSConv3d" if how.mode == "acs-layers" else "Conv3d"}}


def _pair(size: int | list[int]) -> list[int]:
    return [size, size] if isinstance(size, int) else size


def _is_per_axis(name: str, value: Any) -> bool:
    """Strides and kernels may be one number for all axes, or lists of such numbers, one a stage."""
    if name in ("first_stride", "pool_stride", "stem_kernel"):
        return isinstance(value, list)
    return name in ("strides", "kernel_sizes") and isinstance(value, list) and any(isinstance(v, list) for v in value)


def _weights(state: dict[str, Tensor], new: nn.Module, how: Inflation) -> dict[str, Tensor]:
    mode = "acs" if how.mode == "acs-layers" else how.mode
    own = new.state_dict()
    fitted = {}
    for key, tensor in state.items():
        layer = new.get_submodule(key.rpartition(".")[0])
        found = fit_kernel(tensor, own[key].shape, mode, how.axis, layer=layer)
        if found is None or found[0].shape != own[key].shape:
            shapes = f"{list(tensor.shape)} in 2-D and {list(own[key].shape)} in 3-D"
            raise ModelError(f"{key} has the shapes {shapes}", hint=_HINT)
        fitted[key] = found[0]
    return fitted
