"""What would move where: every tensor of both sides decided, before anything is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from ..devices import dtype_name
from ..errors import TransferError, UsageError
from .detector_rows import has_own_rows, inflate_pooled, other_boxes, remap_detector
from .dialects.base import part_of, sees_input
from .geometry import geometry_notes
from .head_rows import HIDDEN, HeadChoice, adapt_head, head_twin
from .inflate import fit_kernel
from .input_conv import ChannelMap, adapt_input_conv, map_input_conv
from .report import Entry, TransferReport
from .source import SourceWeights, canonical_names, own_keys


@dataclass(frozen=True)
class Choices:
    """How what does not fit as it is may be made to fit.

    Attributes:
        input_channels: A mode of :func:`adapt_input_conv`, or a map from the new channels to the source's.
        head: ``drop``, ``keep``, ``convert``, or a map from the new classes to the source's.
        inflation: How a 2-D kernel becomes a 3-D one: ``mean``, ``center``, ``acs``.
        inflation_axis: The new axis, 2, 3 or 4, of a weight (out, in, D, H, W).
        kernels: ``strict``, or ``adapt`` to crop or pad kernels of another size about their centre.
    """

    input_channels: str | ChannelMap = "interpolate"
    head: HeadChoice = "drop"
    inflation: str = "mean"
    inflation_axis: int = 2
    kernels: str = "strict"


@dataclass(frozen=True)
class Target:
    """A network that takes weights, seen under the zoo's names.

    Attributes:
        module: The network.
        state: Its own key -> tensor.
        names: Its own key -> the zoo's name.
        channels, classes: Names of its input channels and classes, where they are known.
    """

    module: nn.Module
    state: dict[str, Tensor]
    names: dict[str, str]
    channels: Sequence[str] | None = None
    classes: Sequence[str] | None = None

    @classmethod
    def of(
        cls, module: nn.Module, channels: Sequence[str] | None = None, classes: Sequence[str] | None = None
    ) -> Target:
        """The view of a network; the names are those of its card when not given.

        Raises:
            TransferError: it is on the meta device, and can hold no values.
        """
        state = module.state_dict()
        empty = [key for key, tensor in state.items() if tensor.is_meta]
        if empty:
            raise TransferError(f"the target's {empty[0]} is on the meta device, it cannot hold values",
                                hint="Move the target to a device with to_empty")  # fmt: skip
        card = getattr(module, "card", None)
        own_channels, own_classes = (None, None) if card is None else (card.input_channels, card.classes)
        return cls(module, state, canonical_names(state), channels or own_channels, classes or own_classes)

    @cached_property
    def keys(self) -> dict[str, str]:
        """The zoo's name -> own key."""
        return own_keys(self.names)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The zoo's name -> tensor."""
        return {self.names[key]: tensor for key, tensor in self.state.items()}

    @cached_property
    def encoder(self) -> dict[str, int]:
        """Own key -> size, for the parameters of the encoder; of all but the head where no parts are known."""
        sizes = {key: parameter.numel() for key, parameter in self.module.named_parameters()}
        own = {key: size for key, size in sizes.items() if part_of(self.names[key]) == "encoder"}
        return own or {key: size for key, size in sizes.items() if part_of(self.names[key]) != "head"}

    def layer(self, name: str) -> nn.Module | None:
        """The layer that owns a tensor, by the zoo's name of the tensor."""
        key = self.keys.get(name)
        return None if key is None else self.module.get_submodule(key.rpartition(".")[0])


@dataclass
class Plan:
    """What would be written: the target's key -> new values; and the report that says so."""

    report: TransferReport
    values: dict[str, Tensor] = field(default_factory=dict)


def make_plan(weights: SourceWeights, target: Target, choices: Choices) -> Plan:
    """Decide about every tensor without touching the target."""
    report = TransferReport(
        source_format=weights.format,
        architecture=weights.home.name if weights.home else None,
        notes=list(weights.notes),
    )
    plan = Plan(report)
    choices = replace(choices, input_channels=_channel_choice(choices.input_channels, weights, target))
    for name in weights.tensors:
        _decide(plan, name, weights, target, choices)
    for key, (tensor, how) in weights.unread.items():
        report.dropped.append(Entry(key, how, key, tuple(tensor.shape)))
    decided = {entry.key for entry in (*report.mismatched, *report.dropped) if entry.target_shape is not None}
    # a tensor under several names, such as a shared encoder, is written under one of them
    written = {target.state[key].data_ptr() for key in plan.values}
    for key, tensor in target.state.items():
        if key not in decided and tensor.data_ptr() not in written:
            report.missing.append(Entry(key, "keeps its initial values", target_shape=tuple(tensor.shape)))
    report.notes.extend(_notes(report, weights, target))
    report.coverage = _coverage(plan.values, target)
    return plan


def _decide(plan: Plan, name: str, weights: SourceWeights, target: Target, choices: Choices) -> None:
    tensor, report = weights.tensors[name], plan.report
    place = name if name in target.keys or choices.head in ("drop", "keep") else head_twin(name)
    key = target.keys.get(place)
    old = None if key is None else target.state[key]

    def entry(how: str) -> Entry:
        own = weights.keys[name]
        return Entry(key or own, how, own, tuple(tensor.shape), None if old is None else tuple(old.shape))

    if part_of(name) == "head" and choices.head == "drop":
        report.dropped.append(entry("head='drop'"))
    elif why := other_boxes(name, weights.tensors, target.tensors):
        report.dropped.append(entry(why))
    elif key is None or old is None:
        report.unexpected.append(entry("the target has no such tensor"))
    else:
        fitted, hows = _fit(name, tensor, old, weights, target, choices)
        if fitted.shape != old.shape:
            report.mismatched.append(entry("the shapes differ"))
        else:
            plan.values[key] = fitted
            cast_to = "" if tensor.dtype == old.dtype else f"{dtype_name(tensor.dtype)} cast to {dtype_name(old.dtype)}"
            (report.adapted if hows else report.loaded).append(entry("; ".join(hows) or cast_to))


def _fit(
    name: str, tensor: Tensor, old: Tensor, weights: SourceWeights, target: Target, choices: Choices
) -> tuple[Tensor, list[str]]:
    """The tensor after all that is needed and allowed to fit it to ``old``, and what was done, in order."""
    hows = [weights.changes[name]] if name in weights.changes else []
    if tensor.shape == old.shape and not sees_input(name) and part_of(name) != "head":
        return tensor, hows  # as most are
    steps: tuple[Callable[[Tensor], tuple[Tensor, str] | None], ...] = (
        lambda value: _kernel(name, value, old, target, choices),
        lambda value: inflate_pooled(
            name, value, old.shape, weights.tensors, target.tensors, choices.inflation, choices.inflation_axis
        ),
        lambda value: _input(name, value, old, weights, choices),
        lambda value: _head(name, value, old, weights, target, choices),
    )
    for step in steps:
        changed = step(tensor)
        if changed is not None:
            tensor, how = changed
            hows.append(how)
    return tensor, hows


def _kernel(name: str, tensor: Tensor, old: Tensor, target: Target, choices: Choices) -> tuple[Tensor, str] | None:
    if tensor.shape[2:] == old.shape[2:] and tensor.ndim == old.ndim:
        return None
    layer = target.layer(name)
    fitted = fit_kernel(tensor, old.shape, choices.inflation, choices.inflation_axis, choices.kernels, layer)
    return fitted if fitted and fitted[1] else None


def _input(
    name: str, tensor: Tensor, old: Tensor, weights: SourceWeights, choices: Choices
) -> tuple[Tensor, str] | None:
    if not sees_input(name) or choices.input_channels == "strict":
        return None
    fits = tensor.ndim == old.ndim and tensor.shape[0] == old.shape[0] and tensor.shape[2:] == old.shape[2:]
    if not fits or (isinstance(choices.input_channels, str) and tensor.shape[1] == old.shape[1]):
        return None
    wide = tensor.to(torch.promote_types(tensor.dtype, old.dtype))
    if isinstance(choices.input_channels, str):
        how = f"{tensor.shape[1]} -> {old.shape[1]} input channels by {choices.input_channels!r}"
        return adapt_input_conv(old.shape[1], wide, choices.input_channels), how
    return _map_channels(wide, old.shape[1], choices.input_channels, weights)


def _map_channels(tensor: Tensor, in_channels: int, given: ChannelMap, weights: SourceWeights) -> tuple[Tensor, str]:
    if len(given) != in_channels:
        raise UsageError(
            f"input_channels maps {len(given)} channels ({', '.join(given)}), the target has {in_channels}"
        )
    pairs = ", ".join(f"{new} <- {'zeros' if old is None else old}" for new, old in given.items())
    return map_input_conv(tensor, given, weights.input_channels), f"input channels {pairs}"


def _channel_choice(given: str | ChannelMap, weights: SourceWeights, target: Target) -> str | ChannelMap:
    """``names`` as the map that it stands for: channels of one name keep their weights, new ones start at zero."""
    if given != "names":
        return given
    theirs, ours = weights.input_channels, target.channels
    if theirs is None or ours is None:
        side = "source" if theirs is None else "target"
        raise UsageError(f"input_channels='names' needs named channels on both sides, the {side} has none",
                         hint="Pass a map {new channel: source channel or None}")  # fmt: skip
    if not set(theirs) & set(ours):
        raise UsageError(f"no channel has the same name: the source's are {', '.join(theirs)}, the target's "
                         f"{', '.join(ours)}", hint="Pass a map {new channel: source channel or None}")  # fmt: skip
    return {name: name if name in theirs else None for name in ours}


def _head(
    name: str, tensor: Tensor, old: Tensor, weights: SourceWeights, target: Target, choices: Choices
) -> tuple[Tensor, str] | None:
    if part_of(name) != "head" or choices.head in ("drop", "keep"):
        return None
    choice = "convert" if HIDDEN in name else choices.head
    if has_own_rows(name) and not isinstance(choice, str):
        names = weights.classes, target.classes
        return remap_detector(name, tensor, tuple(old.shape), choice, weights.tensors, names)
    return adapt_head(tensor, tuple(old.shape), choice, weights.classes, target.classes)


def _coverage(values: Mapping[str, Tensor], target: Target) -> float:
    moved = sum(size for key, size in target.encoder.items() if key in values)
    return moved / sum(target.encoder.values()) if target.encoder else 0.0


def _notes(report: TransferReport, weights: SourceWeights, target: Target) -> list[str]:
    return [
        *_cast_notes(report, weights, target),
        *_stem_notes(report, target),
        *geometry_notes(weights.home, target.module),
    ]


def _stem_notes(report: TransferReport, target: Target) -> list[str]:
    """That the first convolution did not come: few parameters, but all that follow look through it."""
    first = next(iter(target.encoder), None)
    came = {entry.key for entry in (*report.loaded, *report.adapted)}
    if first is None or first in came or not came.intersection(target.encoder):
        return []
    return [
        f"the first convolution, {first}, did not come from the source: all layers behind it were trained on another's"
    ]


def _cast_notes(report: TransferReport, weights: SourceWeights, target: Target) -> list[str]:
    names = {key: name for name, key in weights.keys.items()}
    casts = Counter(
        (weights.tensors[names[entry.source_key]].dtype, target.state[entry.key].dtype)
        for entry in (*report.loaded, *report.adapted)
        if entry.source_key is not None
    )
    return [
        f"{count} tensors cast from {dtype_name(old)} to {dtype_name(new)}"
        for (old, new), count in casts.items()
        if old != new
    ]
