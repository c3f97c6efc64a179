"""Freezing parts of a network so that neither their weights nor their norms' statistics move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from .parts import Part, parts_of, unwrapped, zoo_networks
from .select import Parameters, What, select
from .statistics import has_statistics, moving


def freeze(
    model: nn.Module, what: What | None = None, norm_stats: bool = True, except_: What | None = None
) -> Parameters:
    """Freeze parts of a network; several calls add up.

    Their parameters get no gradients, and keep none, so that optimizers leave them alone, weight decay and momentum
    included. Statistics of their norms stay as they are, through ``model.train()``, deep copies and checkpoints; a norm
    that is exchanged afterwards (``convert_sync_batchnorm``) has to be frozen anew. Dropout goes on.

    Args:
        model: Any network; of one inside a data-parallel wrapper the inner names count.
        what: Names of stages (``"stem"``, ``"layer1"``, ``"encoder_0"``, ``"encoder"``, ``"decoder"``, ``"head"``) or
            of modules, regexes of full names, types of modules; one or several; None: everything.
        norm_stats: Whether the statistics of norms are held too.
        except_: What is left as it is, in the same words.

    Returns:
        What was frozen.

    Raises:
        UsageError: a word stands for nothing in this network.

    >>> from medtransfer.model_zoo import create_model
    >>> net = create_model("resnet10", base_channels=4, stem_channels=4)
    >>> frozen = freeze(net, ["stem", "layer1"])
    >>> net.train().layer1[0].bn1.training, net.layer2[0].bn1.training
    (False, True)
    >>> freeze(net, except_="head").names[-1]
    'layer4.0.downsample.1.bias'
    """
    return _selected(model, what, except_).freeze(norm_stats)


def unfreeze(
    model: nn.Module, what: What | None = None, norm_stats: bool = True, except_: What | None = None
) -> Parameters:
    """Let parts train again, in the words of :func:`freeze`.

    Raises:
        UsageError: a word stands for nothing in this network.
        ModelError: the network was built with ``frozen_stages`` and would freeze them again at its next ``train()``.
    """
    return _selected(model, what, except_).unfreeze(norm_stats)


def _selected(model: nn.Module, what: What | None, except_: What | None) -> Parameters:
    chosen = select(model, what)
    return chosen if except_ is None else chosen.without(select(model, except_))


@dataclass(frozen=True)
class TrainableRow:
    """What trains in a part of a network.

    Attributes:
        name: Name of the part.
        parameters, trainable: Numbers of values.
        norms_moving, norms_held: Numbers of norms whose running statistics move in training, or do not.
    """

    name: str
    parameters: int
    trainable: int
    norms_moving: int
    norms_held: int


class TrainableTable(list[TrainableRow]):
    """Rows of :class:`TrainableRow`, the last of which is the total; printed, a table."""

    def __str__(self) -> str:
        lines = [f"{'part':<16}{'parameters':>14}{'trainable':>14}  norm statistics"]
        for row in self:
            norms = {"moving": row.norms_moving, "held": row.norms_held}
            words = ", ".join(f"{count} {word}" for word, count in norms.items() if count) or "none"
            lines.append(f"{row.name:<16}{row.parameters:>14,}{row.trainable:>14,}  {words}")
        return "\n".join(lines)


def trainable_table(model: nn.Module) -> TrainableTable:
    """What trains, part by part, what two parts share in the first of them.

    >>> from medtransfer.model_zoo import create_model
    >>> net = create_model("resnet10", base_channels=4, stem_channels=4)
    >>> frozen = freeze(net, "encoder", except_="layer4")
    >>> print(trainable_table(net))
    part                parameters     trainable  norm statistics
    stem                     1,380             0  1 held
    layer1                     880             0  2 held
    layer2                   2,672             0  3 held
    layer3                  10,592             0  3 held
    layer4                  42,176        42,176  3 moving
    head                        66            66  none
    total                   57,766        42,242  3 moving, 9 held
    """
    model = unwrapped(model)
    moves = {id(norm) for norm in moving(model)}
    seen: set[int] = set()
    rows = TrainableTable(_row(part, moves, seen) for part in _parts(model))
    rows = TrainableTable(row for row in rows if row.parameters or row.norms_held or row.norms_moving)
    columns = ("parameters", "trainable", "norms_moving", "norms_held")
    rows.append(TrainableRow("total", *(sum(getattr(row, column) for row in rows) for column in columns)))
    return rows


def _parts(model: nn.Module) -> Sequence[Part]:
    """The parts of the networks in a module, then what is in none of them."""
    known = [part for network in zoo_networks(model) for part in parts_of(network)]
    if known:
        return [*known, Part("other", "other", (model,))]
    return [
        *(Part(name, "other", (child,)) for name, child in model.named_children()),
        Part("other", "other", (model,)),
    ]


def _row(part: Part, moves: set[int], seen: set[int]) -> TrainableRow:
    inner = [inside for module in part.modules for inside in module.modules()]
    parameters = {id(p): p for inside in inner for p in inside.parameters(recurse=False) if id(p) not in seen}
    norms = {id(inside) for inside in inner if has_statistics(inside) and id(inside) not in seen}
    seen |= parameters.keys() | norms
    return TrainableRow(
        part.name,
        sum(p.numel() for p in parameters.values()),
        sum(p.numel() for p in parameters.values() if p.requires_grad),
        len(norms & moves),
        len(norms - moves),
    )
