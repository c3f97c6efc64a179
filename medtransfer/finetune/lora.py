"""Low-rank adapters beside convolutions and linear layers, and their way back into plain weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import ModelError, UsageError
from ..model_zoo.layer_types import torch_type
from .parts import source_part, unwrapped
from .select import What, select

#: exactly these: a subclass may use its weight in another way, as ACS convolutions do
KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
Layer = nn.Linear | Convolution | Transposed
POINTWISE: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
DOWN, UP, SCALE = "lora_down", "lora_up", "lora_scale"


def add_lora(model: nn.Module, rank: int = 8, pattern: What | None = None, alpha: float | None = None) -> list[str]:
    """Freeze the source part of a network and put trainable low-rank adapters beside its layers.

    A layer then gives ``base(x) + alpha / rank * up(down(x))``: ``down`` is a convolution with the base's kernel,
    stride, padding and dilation to ``rank`` channels, ``up`` one of 1x1x1, zero at first, so that the network computes
    what it did. A grouped convolution has adapters of ``rank`` channels in each group; of a transposed one ``down`` is
    1x1x1 and ``up`` has the base's kernel. The layers' own keys stay, and a network that shares them has the adapters
    too.

    What is frozen, statistics of norms included: the encoder and all adapted layers; of a network whose encoder is not
    known, everything. A new decoder or head trains on.

    Args:
        model: A network; adapted where it is.
        rank: Channels of the adapters.
        pattern: Which layers, in the words of :func:`medtransfer.freeze`; all of the encoder, or of the network, when
            None. Convolutions, plain and transposed, and linear layers are adapted; others, such as ACS convolutions,
            are passed over.
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
    source = source_part(model)
    layers = _layers(model, source if pattern is None else pattern)
    select(model, source).freeze()
    for layer in layers.values():
        layer.requires_grad_(False)
        _add(layer, rank, (rank if alpha is None else alpha) / rank)
    return list(layers)


def merge_lora(model: nn.Module) -> list[str]:
    """Fold the adapters into the weights: the network has its plain keys again, and computes the same.

    What was frozen stays so; see :func:`medtransfer.unfreeze`.

    Args:
        model: A network of :func:`add_lora`, changed where it is; one without adapters stays as it is.

    Returns:
        Names of the layers that had adapters.

    >>> net = nn.Sequential(nn.Conv3d(1, 2, 3))
    >>> adapted = add_lora(net, rank=1)
    >>> merge_lora(net), list(net.state_dict())
    (['0'], ['0.weight', '0.bias'])
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
    plain = ((name, module) for name, module in model.named_modules() if torch_type(module) in KINDS)
    layers = {name: layer for name, layer in plain if isinstance(layer, Layer) and id(layer.weight) in chosen}
    if not layers:
        raise UsageError(
            f"{'the network' if what is None else repr(what)} holds no layer that can have an adapter",
            hint="Convolutions, plain and transposed, and linear layers can",
        )
    return layers


def _add(layer: Layer, rank: int, scale: float) -> None:
    down, up = _pair(layer, rank)
    nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
    nn.init.zeros_(up.weight)
    layer.add_module(DOWN, down.to(layer.weight.device, layer.weight.dtype))
    layer.add_module(UP, up.to(layer.weight.device, layer.weight.dtype))
    setattr(layer, SCALE, scale)
    layer.register_forward_hook(_add_low_rank)


def _pair(layer: Layer, rank: int) -> tuple[Layer, Layer]:
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=False)
    inner, kind = rank * layer.groups, cast("Any", type(layer))
    names = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    same = {name: getattr(layer, name) for name in names}
    plain: dict[str, Any] = {"groups": layer.groups, "bias": False}
    if isinstance(layer, Transposed):
        up = kind(inner, layer.out_channels, output_padding=layer.output_padding, **same, **plain)
        return POINTWISE[len(layer.kernel_size)](layer.in_channels, inner, 1, **plain), up
    return kind(layer.in_channels, inner, **same, **plain), kind(inner, layer.out_channels, 1, **plain)


def _add_low_rank(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    down, up = layer.get_submodule(DOWN), layer.get_submodule(UP)
    # a transposed convolution may be told its output's size
    return output + getattr(layer, SCALE) * up(down(inputs[0]), *inputs[1:])


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
    # weights of transposed convolutions have their inputs first
    product = torch.bmm(down.mT, up) if isinstance(layer, Transposed) else torch.bmm(up, down)
    return product.reshape(layer.weight.shape)
