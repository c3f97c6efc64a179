"""Parameter groups: learning rates that fall towards the input, a faster head, no weight decay where it harms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ..errors import ModelError, UsageError
from .parts import HEAD, encoder_units, parts_of, unwrapped, zoo_networks
from .select import What, select

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


def layer_ids(model: nn.Module) -> dict[str, int]:
    """The layer that each parameter belongs to, counted from the input.

    The stem is 0, every residual block (of networks without blocks every convolution with its norm) one more, decoder
    and head the maximum, and so is all that stands beside the networks of the zoo.

    Raises:
        ModelError: there is no network of the zoo in the module.

    >>> from medtransfer.model_zoo import create_model
    >>> ids = layer_ids(create_model("resnet18", base_channels=4, stem_channels=4))
    >>> ids["conv1.weight"], ids["layer1.0.conv1.weight"], ids["layer4.1.bn2.bias"], ids["head_fc.weight"]
    (0, 1, 8, 9)
    """
    model = unwrapped(model)
    networks = zoo_networks(model)
    if not networks:
        raise ModelError(
            f"the layers of {type(model).__name__} are not known, so their order is not",
            hint="layer_decay is for networks of the zoo; of others, give groups to the optimizer yourself",
        )
    known: dict[int, int] = {}
    for network in networks:
        for number, unit in enumerate(encoder_units(network)):
            known |= {id(p): number for module in unit for p in module.parameters() if id(p) not in known}
    top = max(known.values()) + 1
    return {name: known.get(id(parameter), top) for name, parameter in model.named_parameters()}


def param_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    layer_decay: float | None = None,
    head_lr_mult: float = 1.0,
    no_decay_norms: bool = True,
    no_decay: What = (),
) -> list[dict[str, Any]]:
    """Groups for any optimizer of torch, with every parameter in exactly one of them, frozen ones too.

    So parts can be unfrozen later. Each group also has ``lr_scale``, its learning rate over ``lr``, for schedules that
    set learning rates themselves, and ``layer``, its layer's id.

    Args:
        model: A network.
        lr: Learning rate of the decoder, and of the head before ``head_lr_mult``.
        weight_decay: For all but biases and norms.
        layer_decay: The learning rate of layer i is ``layer_decay ** (top - i)`` of ``lr``, see :func:`layer_ids`.
        head_lr_mult: Factor for the head.
        no_decay_norms: No weight decay for norms and biases.
        no_decay: Parts without weight decay, in the words of :func:`medtransfer.freeze`.

    Raises:
        UsageError: a number that cannot be meant.
        ModelError: ``layer_decay`` or ``head_lr_mult`` for a network whose layers are not known.

    Source: timm's ``param_groups_layer_decay`` (rule), Clark et al., ICLR 2020 (decay by layer).

    >>> from medtransfer.model_zoo import create_model
    >>> net = create_model("resnet18", base_channels=4, stem_channels=4)
    >>> groups = param_groups(net, lr=1e-3, weight_decay=0.01, layer_decay=0.5, head_lr_mult=10)
    >>> [(group["lr"], group["weight_decay"]) for group in (groups[0], groups[-1])]
    [(1.953125e-06, 0.01), (0.01, 0.0)]
    """
    _check(lr=lr, weight_decay=weight_decay, head_lr_mult=head_lr_mult)
    _check_decay(layer_decay)
    model = unwrapped(model)
    ids = {} if layer_decay is None else layer_ids(model)
    top = max(ids.values(), default=0)
    heads = _head_parameters(model, head_lr_mult)
    bare = {id(p) for p in _without_decay(model, no_decay_norms)} | {id(p) for p in select(model, no_decay)}
    groups: dict[tuple[int, bool, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        layer, is_head, is_bare = ids.get(name, top), id(parameter) in heads, id(parameter) in bare
        scale = (1.0 if layer_decay is None else layer_decay ** (top - layer)) * (head_lr_mult if is_head else 1.0)
        new = {"params": [], "lr": lr * scale, "weight_decay": 0.0 if is_bare else weight_decay}
        group = groups.setdefault((layer, is_head, is_bare), {**new, "lr_scale": scale, "layer": layer})
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def _without_decay(model: nn.Module, norms_and_biases: bool) -> Iterator[nn.Parameter]:
    for module in model.modules() if norms_and_biases else ():
        for parameter in module.parameters(recurse=False):
            # biases, and scales of any kind, are vectors
            if isinstance(module, NORMS) or parameter.ndim < 2:
                yield parameter


def _head_parameters(model: nn.Module, head_lr_mult: float) -> set[int]:
    parts = [part for network in zoo_networks(model) for part in parts_of(network) if part.kind == HEAD]
    if head_lr_mult != 1 and not parts:
        hint = "Leave head_lr_mult away, or give groups to the optimizer yourself"
        raise ModelError(f"this {type(model).__name__} has no head that is known", hint=hint)
    return {id(p) for part in parts for module in part.modules for p in module.parameters()}


def _check(**numbers: float) -> None:
    for name, value in numbers.items():
        if not 0 <= value < float("inf"):
            raise UsageError(f"{name} must be a number, 0 or above, got {value!r}")


def _check_decay(layer_decay: float | None) -> None:
    if layer_decay is not None and not 0 < layer_decay <= 1:
        raise UsageError(f"layer_decay must be above 0 and at most 1, got {layer_decay!r}")
