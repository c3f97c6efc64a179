"""The parts of a network in the words of a user: stem, stages, encoder, decoder, head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from ..model_zoo.blocks import ResLayer
from ..model_zoo.conv_blocks import Stack
from ..model_zoo.encoder import Encoder, origin_of
from ..model_zoo.unet import UNet

ENCODER, DECODER, HEAD = "encoder", "decoder", "head"
Modules = tuple[nn.Module, ...]


@dataclass(frozen=True)
class Part:
    """A stage of a network.

    Attributes:
        name: ``stem``, ``layer1``, ``stage0``, ``encoder_0``, ``decoder_0``, ``head`` ...
        kind: ``encoder``, ``decoder`` or ``head``.
        modules: What it is made of.
    """

    name: str
    kind: str
    modules: Modules


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside data-parallel and compiled wrappers."""
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    while isinstance(model, wrappers) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, wrappers) else model._orig_mod  # type: ignore[assignment]
    return model


def zoo_networks(model: nn.Module) -> list[Encoder | UNet]:
    """The networks of the zoo in a module, itself included: two that share an encoder are two."""
    return [module for module in model.modules() if isinstance(module, Encoder | UNet)]


def parts_of(network: Encoder | UNet) -> list[Part]:
    """The parts of a network of the zoo from the input to the output.

    >>> from medtransfer.model_zoo import ResNet, UNet
    >>> encoder = ResNet(10, 1, base_channels=4, stem_channels=4, num_stages=2, head_type="classification")
    >>> [part.name for part in parts_of(encoder)]
    ['stem', 'layer1', 'layer2', 'head']
    >>> [part.name for part in parts_of(UNet.around(encoder, num_classes=2))]
    ['encoder_0', 'encoder_1', 'encoder_2', 'decoder_1', 'decoder_0', 'head']
    """
    stages = network.stages()
    names = network.down_layer_name if isinstance(network, UNet) else stage_names(network)
    encoder = [Part(name, ENCODER, (stage,)) for name, stage in zip(names, stages, strict=True)]
    return [*encoder, *_behind(network)]


def _behind(network: Encoder | UNet) -> Iterator[Part]:
    if isinstance(network, UNet):
        for name in reversed(network.up_layer_name):
            yield Part(name, DECODER, (getattr(network, name),))
        if hasattr(network, "input_skip"):
            yield Part("input_decoder", DECODER, (network.input_skip, network.input_decoder))
        heads = (network.final_layer, *([network.aux_layers] if hasattr(network, "aux_layers") else []))
        yield Part(HEAD, HEAD, heads)
        return
    children = [(name, module) for name, module in network.named_children() if name.startswith("head_")]
    if children:
        yield Part(HEAD, HEAD, tuple(module for _, module in children))


def stage_names(network: Encoder | UNet) -> list[str]:
    """``stem, layer1 ...`` of a residual network, ``stage0 ...`` of others, ``encoder_0 ...`` of a foreign encoder."""
    stages = network.stages()
    origin = origin_of(stages)
    if origin is None:
        return [f"encoder_{i}" for i in range(len(stages))]
    if origin["parts"][0] == 0:
        return ["stem", *(f"layer{i}" for i in range(1, len(stages)))]
    return [f"stage{i}" for i in range(len(stages))]


def names_of(model: nn.Module) -> dict[str, Modules]:
    """Every name that stands for a part of the networks in a module, with the modules it stands for.

    In a UNet ``encoder_3`` has a second name, that of its encoder's own stage (``layer3``); in a classifier ``layer3``
    is also ``encoder_3``.

    >>> from medtransfer.model_zoo import create_model
    >>> list(names_of(create_model("resnet10", base_channels=4, stem_channels=4)))[:5]
    ['encoder', 'stem', 'encoder_0', 'layer1', 'encoder_1']
    """
    names: dict[str, Modules] = {}
    for network in zoo_networks(model):
        stages = iter(enumerate(stage_names(network)))
        for part in parts_of(network):
            words = [part.kind, part.name]
            if part.kind == ENCODER:
                number, own = next(stages)
                words += [own, f"encoder_{number}"]
            for word in dict.fromkeys(words):
                names[word] = (*names.get(word, ()), *part.modules)
    return names


def encoder_units(network: Encoder | UNet) -> list[Modules]:
    """The encoder as units from the input on: the stem, then every residual block or convolution with its norm.

    A stage of a foreign encoder is one unit. What stands before a block and is none (a pooling convolution) goes with
    it.
    """
    units: list[Modules] = []
    for stage in network.stages():
        units += _units(stage)
    return units


def _units(stage: nn.Module) -> list[Modules]:
    if isinstance(stage, ResLayer | Stack):
        return [(child,) for child in stage.children() if any(True for _ in child.parameters())]
    inner = list(stage.children()) if type(stage) is nn.Sequential else []
    if len(inner) == 2 and isinstance(inner[1], ResLayer | Stack):
        first, *rest = _units(inner[1])
        # a stem is a unit of its own, a pooling layer is not
        before = _units(inner[0]) if isinstance(inner[0], Stack) else []
        return [*before, first, *rest] if before else [(inner[0], *first), *rest]
    return [(stage,)] if any(True for _ in stage.parameters()) else []
