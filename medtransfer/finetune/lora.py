"""Low-rank adapters beside convolutions and linear layers, and their way back into plain weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from mmcv.cnn.bricks import wrappers
from torch import Tensor, nn

from ..errors import ModelError, UsageError
from .parts import ENCODER, names_of, unwrapped
from .select import What, select

#: exactly these: a subclass may use its weight in another way, as ACS convolutions do
KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, wrappers.Conv2d, wrappers.Conv3d, wrappers.Linear)
Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
DOWN, UP, SCALE = "lora_down", "lora_up", "lora_scale"


def add_lora(model: nn.Module, rank: int = 8, pattern: What | None = None, alpha: float | None = None) -> list[str]:
    """Freeze the source part of a network and put trainable low-rank adapters beside its layers.

    A layer then gives ``base(x) + alpha / rank * up(down(x))``: ``down`` is a convolution with the base's kernel,
    stride, padding and dilation to ``rank`` channels, ``up`` one of 1x1x1, zero at first, so that the network computes
    what it did. A grouped convolution has adapters of ``rank`` channels in each group. The layers' own keys stay, and
    a network that shares them has the adapters too.

    What is frozen, statistics of norms included: the encoder and all adapted layers; of a network whose encoder is not
    known, everything. A new decoder or head trains on.

    Args:
        model: A network; adapted where it is.
        rank: Channels of the adapters.
        pattern: Which layers, in the words of :func:`medtransfer.freeze`; all of the encoder, or of the network, when
            None. Only plain convolutions and linear layers are adapted.
        alpha: Strength; the rank when None.

    Returns:
        Names of the adapted layers.

    Raises:
        UsageError: the rank is no positive number, or there is no layer to adapt.
        ModelError: there are adapters already.

    Source: Hu et al., ICLR 2022; of convolutions as in Hugging Face's peft, which leaves the dilation out.

    >>> from medtransfer.model_zoo import create_model
    >>> net = create_model("resnet10", base_channels=4, stem_channels=4)
    >>> add_lora(net, rank=2, pattern="layer[34]")[:3]
    ['layer3.0.conv1', 'layer3.0.conv2', 'layer3.0.downsample.0']
    >>> merge_lora(net)[:2], "layer3.0.conv1.lora_up.weight" in net.state_dict()
    (['layer3.0.conv1', 'layer3.0.conv2'], False)
    """
    if not isinstance(rank, int) or rank < 1:
        raise UsageError(f"rank must be a whole number above 0, got {rank!r}")
    model = unwrapped(model)
    if adapted := next(_adapted(model), None):
        raise ModelError(f"{adapted[0]} has an adapter already", hint="Call merge_lora first")
    encoder = ENCODER if ENCODER in names_of(model) else None
    layers = _layers(model, encoder if pattern is None else pattern)
    select(model, encoder).freeze()
    for layer in layers.values():
        layer.requires_grad_(False)
        _add(layer, rank, (rank if alpha is None else alpha) / rank)
    return list(layers)


def merge_lora(model: nn.Module) -> list[str]:
    """Fold the adapters into the weights: the network has its plain keys again, and computes the same.

    What was frozen stays so; see :func:`medtransfer.unfreeze`.

    Returns:
        Names of the layers that had adapters.
    """
    adapted = dict(_adapted(unwrapped(model)))
    for layer in adapted.values():
        _merge(layer)
    return list(adapted)


def merged(model: nn.Module) -> nn.Module:
    """The network itself if it has no adapters, else a copy in which they are merged."""
    if next(_adapted(model), None) is None:
        return model
    plain = copy.deepcopy(model)
    merge_lora(plain)
    return plain


def _adapted(model: nn.Module) -> Iterator[tuple[str, Layer]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, Layer) and _has_pair(module))


def _has_pair(layer: Layer) -> bool:
    return DOWN in layer._modules


def _layers(model: nn.Module, what: What | None) -> dict[str, Layer]:
    chosen = {id(parameter) for parameter in select(model, what)}
    plain = ((name, module) for name, module in model.named_modules() if type(module) in KINDS)
    layers = {name: layer for name, layer in plain if isinstance(layer, Layer) and id(layer.weight) in chosen}
    if not layers:
        raise UsageError(
            f"{'the network' if what is None else repr(what)} holds no layer that can have an adapter",
            hint="Plain convolutions and linear layers can",
        )
    return layers


def _add(layer: Layer, rank: int, scale: float) -> None:
    down, up = _linear_pair(layer, rank) if isinstance(layer, nn.Linear) else _conv_pair(layer, rank)
    nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
    nn.init.zeros_(up.weight)
    layer.add_module(DOWN, down.to(layer.weight.device, layer.weight.dtype))
    layer.add_module(UP, up.to(layer.weight.device, layer.weight.dtype))
    setattr(layer, SCALE, scale)
    layer.register_forward_hook(_add_low_rank)


def _linear_pair(layer: nn.Linear, rank: int) -> tuple[Layer, Layer]:
    return nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=False)


def _conv_pair(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, rank: int) -> tuple[Layer, Layer]:
    kind: Any = type(layer)
    names = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    same = {name: getattr(layer, name) for name in names}
    inner = rank * layer.groups
    down = kind(layer.in_channels, inner, bias=False, **same)
    return down, kind(inner, layer.out_channels, 1, groups=layer.groups, bias=False)


def _add_low_rank(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    down, up = layer.get_submodule(DOWN), layer.get_submodule(UP)
    return output + getattr(layer, SCALE) * up(down(*inputs))


@torch.no_grad()
def _merge(layer: Layer) -> None:
    # in float64, so that the one rounding is that of the result
    layer.weight.copy_(layer.weight.double() + getattr(layer, SCALE) * _product(layer))
    for name in (DOWN, UP, SCALE):
        delattr(layer, name)
    for key, hook in list(layer._forward_hooks.items()):
        if hook is _add_low_rank:
            del layer._forward_hooks[key]


def _product(layer: Layer) -> Tensor:
    """``up @ down`` in the shape of the layer's weight, group by group."""
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    down, up = (layer.get_parameter(f"{name}.weight").double() for name in (DOWN, UP))
    down = down.reshape(groups, down.shape[0] // groups, -1)
    up = up.reshape(groups, up.shape[0] // groups, -1)
    return torch.bmm(up, down).reshape(layer.weight.shape)
