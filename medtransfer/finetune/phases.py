"""Policies of fine-tuning as data: which parts train from which step on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ..errors import ModelError, UsageError
from .parts import DECODER, ENCODER, HEAD, names_of, parts_of, unwrapped, zoo_networks
from .select import Parameters, select
from .statistics import moving

#: What the source usually does not bring.
BEHIND = (DECODER, HEAD)
ALL = (ENCODER, DECODER, HEAD)
#: policies in which the same parts train all the time
CONSTANT: dict[str, tuple[str, ...]] = {"full": ALL, "frozen": BEHIND, "head": (HEAD,)}
POLICIES = (*CONSTANT, "lp_ft", "gradual")


@dataclass(frozen=True)
class Phase:
    """From step ``start`` on these parts train and no others, statistics of their norms included."""

    start: int
    trains: tuple[str, ...]


def build_phases(
    policy: str,
    encoder: Sequence[str] | nn.Module,
    steps: int,
    steps_per_epoch: int = 1,
    share: float = 0.25,
    every: float = 1.0,
) -> list[Phase]:
    """The phases of a policy.

    ``full`` trains everything; ``frozen`` all but the encoder; ``head`` the head alone; ``lp_ft`` all but the encoder
    for ``share`` of the steps, then everything (Kumar et al., ICLR 2022); ``gradual`` all but the encoder, then
    another stage of it, from the deepest up to the stem, after ``every`` epochs (Howard and Ruder, ACL 2018).

    Args:
        policy: One of :data:`POLICIES`.
        encoder: Names of the encoder's stages from the input on, or the network of the zoo that has them.
        steps: Of the whole training.
        steps_per_epoch: Of an epoch.
        share: Of ``lp_ft``: above 0, below 1.
        every: Of ``gradual``: epochs, or a part of one.

    Raises:
        UsageError: an unknown policy, a number that cannot be meant, or training ends before the stem trains.
        ModelError: a network whose stages are not known.

    >>> build_phases("lp_ft", ["stem", "layer1"], steps=100)
    [Phase(start=0, trains=('decoder', 'head')), Phase(start=25, trains=('encoder', 'decoder', 'head'))]
    >>> [(phase.start, phase.trains[2:]) for phase in build_phases("gradual", ["stem", "layer1"], 100, 10)]
    [(0, ()), (10, ('layer1',)), (20, ('layer1', 'stem'))]
    """
    if policy in CONSTANT:
        return [Phase(0, CONSTANT[policy])]
    if policy == "lp_ft":
        return _linear_probe_first(steps, share)
    if policy == "gradual":
        stages = encoder_stages(encoder) if isinstance(encoder, nn.Module) else encoder
        return _top_down(stages, steps, steps_per_epoch, every)
    raise UsageError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")


def _linear_probe_first(steps: int, share: float) -> list[Phase]:
    if not 0 < share < 1:
        raise UsageError(f"share must be above 0 and below 1, got {share!r}")
    return [Phase(0, BEHIND), Phase(max(1, round(share * steps)), ALL)]


def _top_down(encoder: Sequence[str], steps: int, steps_per_epoch: int, every: float) -> list[Phase]:
    if not every > 0:
        raise UsageError(f"every must be a number of epochs above 0, got {every!r}")
    names = list(reversed(encoder))
    starts = [max(number, round(number * every * steps_per_epoch)) for number in range(len(names) + 1)]
    if starts[-1] >= steps:
        fits = math.floor(100 * (steps - 1) / len(names) / steps_per_epoch) / 100
        reason = f"gradual with every={every:g} lets {names[-1]} train from step {starts[-1]}, training has {steps}"
        raise UsageError(reason, hint=f"Set every to {fits} or less, or train longer")
    return [Phase(start, (*BEHIND, *names[:number])) for number, start in enumerate(starts)]


def phase_at(phases: Sequence[Phase], step: int) -> Phase:
    """The phase that a step belongs to; steps count from 0.

    >>> phase_at(build_phases("lp_ft", [], 100), 24).trains, phase_at(build_phases("lp_ft", [], 100), 25).start
    (('decoder', 'head'), 25)
    """
    return [phase for phase in phases if phase.start <= step][-1]


def encoder_stages(model: nn.Module) -> list[str]:
    """Names of the encoder's stages from the input on.

    Raises:
        ModelError: there is no network of the zoo in the module.
    """
    networks = zoo_networks(unwrapped(model))
    if not networks:
        hint = "Use freeze and unfreeze with names of its modules"
        raise ModelError(f"the stages of {type(model).__name__} are not known", hint=hint)
    return list(dict.fromkeys(p.name for network in networks for p in parts_of(network) if p.kind == ENCODER))


def train_only(model: nn.Module, trains: Sequence[str], fixed: Parameters | None = None) -> Parameters:
    """Let the parts train, and freeze all else, statistics of norms included.

    Args:
        model: A network of the zoo.
        trains: Names of parts; those that this network has not (the decoder of a classifier) are passed over.
        fixed: What stays frozen in any case.

    Returns:
        What trains.

    Raises:
        UsageError: none of the parts is there.

    >>> from medtransfer.model_zoo import create_model
    >>> train_only(create_model("resnet10", base_channels=4, stem_channels=4), ("decoder", "head")).names
    ['head_fc.weight', 'head_fc.bias']
    """
    chosen = trained_by(model, trains, fixed)
    # what trains is not frozen for a moment: its gradients stay
    select(model, None).without(chosen).freeze()
    return chosen.unfreeze()


def trained_by(model: nn.Module, trains: Sequence[str], fixed: Parameters | None = None) -> Parameters:
    """What :func:`train_only` lets train; nothing is changed.

    Raises:
        UsageError: none of the parts is there.
    """
    known = names_of(unwrapped(model))
    present = [name for name in trains if name in known]
    if not present:
        raise UsageError(f"this {type(model).__name__} has no {' or '.join(trains)} to train")
    chosen = select(model, present)
    return chosen if fixed is None else chosen.without(fixed)


def frozen_now(model: nn.Module) -> Parameters:
    """What does not train at present: parameters without gradients, norms whose statistics do not move."""
    model = unwrapped(model)
    moves = {id(norm) for norm in moving(model)}
    everything = select(model, None)
    still = {name: p for name, p in everything.by_name.items() if not p.requires_grad}
    return Parameters(model, still, {name: n for name, n in everything.norms.items() if id(n) not in moves})
