"""One network with several heads out of one with a single head, and back."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from ..errors import ModelError
from ..model_zoo.encoder import Encoder
from ..model_zoo.hollow import hollow
from ..model_zoo.multitask import MultiTask
from ..model_zoo.task_heads import head_words
from ..model_zoo.unet import UNet
from .share import encoder_of, to_classifier

_DEFAULTS = {name: parameter.default for name, parameter in inspect.signature(UNet).parameters.items()}


def to_multitask(network: nn.Module, heads: Mapping[str, Mapping[str, Any] | None], share: bool = True) -> MultiTask:
    """A network of several heads around the encoder of another.

    Args:
        network: A classifier, a segmenter or a multi-task network of the zoo.
        heads: Name -> description of a new head, see :class:`~medtransfer.model_zoo.multitask.MultiTask`; or None for
            the head that the network has (of a multi-task network the one of that name), weights and all.
        share: Take the very modules, so that a step on one network moves the other; else copies.

    Raises:
        ModelError: the network or its head is none of the zoo, or a head is not described.

    >>> from medtransfer.model_zoo.catalog import create_model
    >>> segmenter = create_model("resunet10", num_classes=3, base_channels=4, stem_channels=4)
    >>> net = to_multitask(segmenter, {"organs": None, "age": {"task": "regression"}})
    >>> net.encoder.layer2 is segmenter.encoder_2, net.heads.organs.decoder_0 is segmenter.decoder_0
    (True, True)
    """
    taken = network if share else copy.deepcopy(network)
    encoder = encoder_of(taken)
    kept = {name: _own_head(name, taken, encoder) for name, given in heads.items() if given is None}
    described = {name: kept[name][0] if given is None else given for name, given in heads.items()}
    built = MultiTask(encoder, {name: dict(given) for name, given in described.items()})
    for name, (_, parts) in kept.items():
        _take_over(built.heads[name], parts)
    return built.train(network.training)


def to_single_task(network: MultiTask, head: str, share: bool = True) -> UNet | Encoder:
    """One task of a multi-task network as a network of its own: a segmenter or a classifier.

    With shared modules it is also how a head is moved alone: ``transfer(source, to_single_task(net, "organs"),
    head="keep")`` writes into ``net``.

    Args:
        network: The multi-task network.
        head: The head's name.
        share: Take the very modules; else copies.

    Raises:
        ModelError: there is no such head, or it is a regression, which no single-task network of the zoo gives.

    >>> from medtransfer.model_zoo.catalog import create_model
    >>> heads = {"ill": {"task": "classification", "num_classes": 2}}
    >>> net = create_model("multitask_resnet10", heads=heads, base_channels=4, stem_channels=4)
    >>> to_single_task(net, "ill").head_fc is net.heads.ill.head_fc
    True
    """
    given = _description(network, head)
    taken = network if share else copy.deepcopy(network)
    outputs = given.get("num_classes", 1)
    if given["task"] == "classification":
        single: UNet | Encoder = to_classifier(taken, outputs)
    elif given["task"] == "segmentation":
        own = {word: value for word, value in given.items() if word not in ("task", "num_classes")}
        # on the meta device, since every tensor of the decoder is replaced
        with hollow():
            single = UNet.around(taken.encoder, outputs, **own)
    else:
        raise ModelError(f"the head {head!r} is a regression, and no network of one task gives values",
                         hint="Use the multi-task network itself")  # fmt: skip
    _take_over(single, _parts(taken.heads[head]))
    return single.train(network.training)


def _description(network: nn.Module, head: str) -> dict[str, Any]:
    known = network.head_arguments if isinstance(network, MultiTask) else {}
    if head not in known:
        has = f"has the heads {', '.join(known)}" if known else f"a {type(network).__name__} is no multi-task network"
        raise ModelError(f"there is no head {head!r}: the network {has}" if known else has)
    return dict(known[head])


def _own_head(name: str, network: nn.Module, encoder: Encoder) -> tuple[dict[str, Any], dict[str, nn.Module]]:
    """The description of the head that a network has, and its parts."""
    if isinstance(network, MultiTask):
        return _description(network, name), _parts(network.heads[name])
    if isinstance(network, UNet):
        return _decoder_of(network, encoder), network.decoder_parts()
    if not hasattr(network, "head_fc") or hasattr(network, "head_hidden"):
        raise ModelError(f"the head {name!r} cannot be that of this {type(network).__name__}, whose head is not one "
                         "linear layer behind pooling", hint="Describe a new head in place of None")  # fmt: skip
    last = network.get_submodule("head_fc")
    return {"task": "classification", "num_classes": last.out_features}, {"head_fc": last}


def _decoder_of(network: UNet, encoder: Encoder) -> dict[str, Any]:
    """What must be said of a UNet's decoder beyond what follows from its encoder."""
    words = [word for word in head_words("segmentation") if word != "num_classes"]
    own = {word: network.arguments.get(word, _DEFAULTS[word]) for word in words}
    usual = {word: encoder.decoder_arguments.get(word, _DEFAULTS[word]) for word in words}
    changed = {word: value for word, value in own.items() if value != usual[word]}
    return {"task": "segmentation", "num_classes": network.num_classes, **changed}


def _parts(head: nn.Module) -> dict[str, nn.Module]:
    return {name: part for name, part in head.named_children() if name != "dropout"}


def _take_over(network: nn.Module, parts: Mapping[str, nn.Module]) -> None:
    for name, part in parts.items():
        network.add_module(name, part)
