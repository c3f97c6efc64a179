"""The parts of a network in the words of a user: stem, stages, encoder, decoder, head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from torch import nn

from ..model_zoo.blocks import ResLayer
from ..model_zoo.conv_blocks import Stack
from ..model_zoo.decoder import Decoder
from ..model_zoo.detection.detector import Detector
from ..model_zoo.encoder import Encoder, origin_of
from ..model_zoo.halves import Half
from ..model_zoo.multitask import MultiTask
from ..model_zoo.unet import UNet

ENCODER, DECODER, HEAD = "encoder", "decoder", "head"
#: GluonCV's words -> ours
BLOCKS = {"features": ENCODER, "output": HEAD}
Modules = tuple[nn.Module, ...]
Network = Encoder | UNet | MultiTask | Detector

#: what stands behind the encoder of a detector: name -> kind, modules; those that a detector has not are passed over
_OF_DETECTOR = {
    "fpn": (DECODER, ("backbone.fpn",)),
    "rpn": (DECODER, ("rpn",)),
    "box_head": (DECODER, ("roi_heads.box_head", "head.classification_head.conv", "head.regression_head")),
    HEAD: (HEAD, ("roi_heads.box_predictor", "head.classification_head.cls_logits")),
}
#: what the outputs of a detector say -> the layers that say it, each of which can be trained alone
_OUTPUTS = {
    "objectness": ("rpn.head.cls_logits",),
    "boxes": ("rpn.head.bbox_pred", "roi_heads.box_predictor.bbox_pred", "head.regression_head.bbox_reg"),
    "classes": ("roi_heads.box_predictor.cls_score", "head.classification_head.cls_logits"),
}


@dataclass(frozen=True)
class Part:
    """A stage of a network.

    Attributes:
        name: ``stem``, ``layer1``, ``stage0``, ``encoder_0``, ``decoder_0``, ``head`` ...; behind the heads' own names
            in a multi-task network, as ``organs.decoder_0``; ``fpn``, ``rpn`` and ``box_head`` of a detector.
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


def zoo_networks(model: nn.Module) -> list[Network]:
    """The networks of the zoo in a module, itself included: two that share an encoder are two.

    In ``network.features`` and ``network.output`` it is the network that they belong to.
    """
    model = cast("nn.Module", model.network) if isinstance(model, Half) else model
    found = [module for module in model.modules() if isinstance(module, Network)]
    # the encoder of a multi-task network or of a detector is a part of it
    inner = {id(module.encoder) for module in found if isinstance(module, MultiTask)}
    inner |= {id(part) for module in found if isinstance(module, Detector) for part in module.backbone.modules()}
    return [module for module in found if id(module) not in inner]


def parts_of(network: Network) -> list[Part]:
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


def _behind(network: Network) -> Iterator[Part]:
    if isinstance(network, MultiTask):
        for name, head in network.heads.items():
            yield from _of_head(head, f"{name}.")
    elif isinstance(network, Detector):
        for name, (kind, paths) in _OF_DETECTOR.items():
            if modules := _at(network, paths):
                yield Part(name, kind, modules)
    else:
        yield from _of_head(network)


def _at(network: nn.Module, paths: tuple[str, ...]) -> Modules:
    """The modules of these names that the network has."""
    known = dict(network.named_modules(remove_duplicate=False))
    return tuple(known[path] for path in paths if path in known)


def _of_head(network: nn.Module, prefix: str = "") -> Iterator[Part]:
    if isinstance(network, Decoder):
        for name in reversed(network.up_layer_name):
            yield Part(prefix + name, DECODER, (getattr(network, name),))
        if hasattr(network, "input_skip"):
            yield Part(f"{prefix}input_decoder", DECODER, (network.input_skip, network.input_decoder))
        heads = (network.final_layer, *([network.aux_layers] if hasattr(network, "aux_layers") else []))
        yield Part(prefix + HEAD, HEAD, heads)
        return
    children = tuple(module for name, module in network.named_children() if name.startswith("head_"))
    if children:
        yield Part(prefix + HEAD, HEAD, children)


def stage_names(network: Network) -> list[str]:
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
    is also ``encoder_3``. ``features`` and ``output`` are ``encoder`` and ``head``, where no child has that name. In a
    multi-task network the name of a head stands for its decoder and its last layer. A detector's ``head`` is what has
    rows of classes, and ``objectness``, ``boxes`` and ``classes`` are the layers of its outputs.

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
            elif "." in part.name:
                words += [part.name.partition(".")[0]]
            for word in dict.fromkeys(words):
                names[word] = (*names.get(word, ()), *part.modules)
        if isinstance(network, Detector):
            names |= {word: (*names.get(word, ()), *_at(network, paths)) for word, paths in _OUTPUTS.items()}
            names = {word: modules for word, modules in names.items() if modules}
    children = dict(model.named_children())
    return names | {word: names[name] for word, name in BLOCKS.items() if name in names and word not in children}


def source_part(model: nn.Module) -> str | None:
    """The part that the source of a transfer usually brings, by name: the encoder; None, everything, if none is known.

    >>> source_part(nn.Linear(2, 2)) is None
    True
    """
    return ENCODER if ENCODER in names_of(model) else None


def encoder_units(network: Network) -> list[Modules]:
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
