"""Weights from any source into a network, exactly or not at all.

The steps are in order: read, rename, match by name, adapt the input convolution, set the head apart, check, and only
then write into the target.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..errors import TransferError, UsageError
from .dialects.base import INPUT_CONVS, part_of
from .guess import describe, guess_architecture, same_blocks
from .input_conv import INPUT_MODES, ChannelMap, adapt_input_conv, map_input_conv
from .report import Entry, TransferReport
from .source import Source, SourceWeights, canonical_names, own_keys, read_source

HEAD_MODES = ("drop", "keep")


@dataclass
class Plan:
    """What would be written: the target's key -> new values; and the report that says so."""

    report: TransferReport
    values: dict[str, Tensor] = field(default_factory=dict)


def transfer(
    source: Source,
    target: nn.Module,
    input_channels: str | ChannelMap = "interpolate",
    head: str = "drop",
    min_coverage: float = 0.5,
) -> TransferReport:
    """Move weights into ``target``, and report every tensor of both sides.

    The target is written only when all is checked; a refused transfer leaves it bit-equal. The source never changes.

    Args:
        source: A module, a state dict, a weight file of a supported format, or a model folder.
        target: A network of the zoo, or any module whose keys one of the dialects names.
        input_channels: How the input convolution takes another number of channels: a mode of
            :func:`adapt_input_conv`, or a map ``{"flair": "flair", "adc": None}`` from the new channels in order to
            the source's (by name, if the source is a model folder, or by index).
        head: ``"drop"`` leaves the classes' layers as they are, ``"keep"`` moves them too.
        min_coverage: Smallest share of the target encoder's parameters that must come from the source, 0 to 1; 0 also
            accepts a network of another depth, of which the blocks that match are taken.

    Raises:
        TransferError: nothing or too little matches, or shapes of the encoder differ; ``.report`` says which.
        CheckpointError: the source file was refused.
        UsageError: an option is unknown.

    >>> from medtransfer import create_model
    >>> tiny = dict(base_channels=4, stem_channels=4)
    >>> classifier = create_model("resnet10", in_channels=2, num_classes=4, **tiny)
    >>> report = transfer(classifier, create_model("resunet10", in_channels=1, num_classes=3, **tiny))
    >>> report.coverage, [entry.key for entry in report.adapted]
    (1.0, ['encoder_0.0.weight'])
    """
    _check_options(input_channels, head, min_coverage)
    weights = read_source(source)
    plan = make_plan(weights, target, input_channels, head)
    _refuse_misfit(plan.report, weights, target, min_coverage)
    _write(plan.values, target)
    return plan.report


def make_plan(weights: SourceWeights, target: nn.Module, input_channels: str | ChannelMap, head: str) -> Plan:
    """Decide about every tensor without touching the target."""
    state = target.state_dict()
    _refuse_meta(state)
    target_keys = own_keys(canonical_names(list(state))[0])
    report = TransferReport(
        source_format=weights.format, architecture=guess_architecture(weights.tensors), notes=list(weights.notes)
    )
    plan = Plan(report)
    for name, tensor in weights.tensors.items():
        key = target_keys.get(name)
        _decide(plan, name, tensor, weights, key, None if key is None else state[key], input_channels, head)
    for key in target_keys.values():
        if key not in plan.values and not any(entry.key == key for entry in (*report.mismatched, *report.dropped)):
            report.missing.append(Entry(key, "keeps its initial values", target_shape=tuple(state[key].shape)))
    report.notes.extend(_cast_notes(report, weights, state))
    report.notes.extend(_stem_notes(weights, {name: state[key] for name, key in target_keys.items()}))
    report.coverage = _coverage(plan.values, target, {key: name for name, key in target_keys.items()})
    return plan


def _decide(
    plan: Plan,
    name: str,
    tensor: Tensor,
    weights: SourceWeights,
    key: str | None,
    old: Tensor | None,
    input_channels: str | ChannelMap,
    head: str,
) -> None:
    def entry(how: str) -> Entry:
        own = weights.keys[name]
        return Entry(key or own, how, own, tuple(tensor.shape), None if old is None else tuple(old.shape))

    report = plan.report
    if part_of(name) == "head" and head == "drop":
        report.dropped.append(entry("head='drop'"))
    elif key is None or old is None:
        report.unexpected.append(entry("the target has no such tensor"))
    elif name in INPUT_CONVS and _wants_adapting(tensor, old, input_channels):
        wide = tensor.to(torch.promote_types(tensor.dtype, old.dtype))
        plan.values[key], how = _adapt(wide, old.shape[1], input_channels, weights)
        report.adapted.append(entry(how))
    elif tensor.shape != old.shape:
        report.mismatched.append(entry("the shapes differ"))
    else:
        plan.values[key] = tensor
        report.loaded.append(entry("" if tensor.dtype == old.dtype else f"{_dtype(tensor)} cast to {_dtype(old)}"))


def _wants_adapting(tensor: Tensor, old: Tensor, input_channels: str | ChannelMap) -> bool:
    fits_otherwise = tensor.ndim == old.ndim and tensor.shape[0] == old.shape[0] and tensor.shape[2:] == old.shape[2:]
    if input_channels == "strict":
        return False
    return fits_otherwise and (tensor.shape[1] != old.shape[1] or not isinstance(input_channels, str))


def _adapt(
    tensor: Tensor, in_channels: int, input_channels: str | ChannelMap, weights: SourceWeights
) -> tuple[Tensor, str]:
    if isinstance(input_channels, str):
        how = f"{tensor.shape[1]} -> {in_channels} input channels by {input_channels!r}"
        return adapt_input_conv(in_channels, tensor, input_channels), how
    if len(input_channels) != in_channels:
        raise UsageError(
            f"input_channels maps {len(input_channels)} channels ({', '.join(input_channels)}), the target has "
            f"{in_channels}"
        )
    names = weights.card.input_channels if weights.card else None
    pairs = ", ".join(f"{new} <- {'zeros' if old is None else old}" for new, old in input_channels.items())
    return map_input_conv(tensor, input_channels, names), f"input channels {pairs}"


def _coverage(values: Mapping[str, Tensor], target: nn.Module, names: Mapping[str, str]) -> float:
    sizes = {key: parameter.numel() for key, parameter in target.named_parameters()}
    encoder = {key: size for key, size in sizes.items() if part_of(names[key]) == "encoder"}
    # a network of another kind has no parts that we know: then all but the head counts
    counted = encoder or {key: size for key, size in sizes.items() if part_of(names[key]) != "head"}
    moved = sum(size for key, size in counted.items() if key in values)
    return moved / sum(counted.values()) if counted else 0.0


def _refuse_misfit(report: TransferReport, weights: SourceWeights, target: nn.Module, min_coverage: float) -> None:
    names = canonical_names(list(target.state_dict()))[0]
    wrong = [entry for entry in report.mismatched if part_of(names[entry.key]) != "decoder"]
    looks = _different_architecture(weights, target)
    # blocks of a deeper network fit a shallower one by name and shape, and compute something else there
    accepted = not looks or min_coverage == 0
    if not wrong and accepted and report.coverage > 0 and report.coverage >= min_coverage:
        return
    reason, hint = _complaint(report, wrong, min_coverage) or (
        f"0 of {len(names)} tensors of the target match; {_first_keys(weights, names)}",
        "Check that this is the file you mean and that the target has its architecture",
    )
    if looks:
        reason, hint = f"{looks}: {reason}", "Build the target with that depth"
    error = TransferError(reason, path=weights.path, hint=hint)
    error.report = report
    raise error


def _complaint(report: TransferReport, wrong: list[Entry], min_coverage: float) -> tuple[str, str] | None:
    """Reason and hint; None if nothing matches at all."""
    if wrong:
        shapes = f"source {list(wrong[0].source_shape or ())}, target {list(wrong[0].target_shape or ())}"
        reason = f"{len(wrong)} tensors have other shapes than the target's, the first {wrong[0].key}: {shapes}"
        return reason, _shape_hint(wrong[0])
    if report.coverage == 0:
        return None
    if report.coverage < min_coverage:
        return (
            f"only {report.coverage:.1%} of the target encoder's parameters come from the source, "
            f"{min_coverage:.0%} are required ({len(report.missing)} tensors are missing)"
        ), "Pass a smaller min_coverage (--min-coverage) if that is what you want"
    counts = (
        f"{len(report.unexpected)} tensors of the source have no place, {len(report.missing)} of the target are missing"
    )
    return counts, "Build the target like the source"


def _different_architecture(weights: SourceWeights, target: nn.Module) -> str | None:
    own = _canonical_state(target)
    if same_blocks(weights.tensors, own):
        return None
    theirs = guess_architecture(weights.tensors) or "another network"
    return f"the checkpoint looks like {theirs}, the target is {guess_architecture(own) or 'of other stages'}"


def _canonical_state(module: nn.Module) -> dict[str, Tensor]:
    state = module.state_dict()
    return {name: state[key] for key, name in canonical_names(list(state))[0].items()}


def _shape_hint(entry: Entry) -> str:
    source, target = entry.source_shape or (), entry.target_shape or ()
    if len(source) != len(target):
        return "The weights are of another dimension (2-D or 3-D) than the target"
    if entry.key.endswith("weight") and source[:1] + source[2:] == target[:1] + target[2:]:
        return "Pass input_channels='interpolate' or another mode to adapt the input channels"
    if part_of(entry.key) == "head" or "final_layer" in entry.key:
        return "Pass head='drop' to leave the head away"
    return "Build the target with the source's widths (base_channels, stem_channels, deep_stem, pool)"


def _first_keys(weights: SourceWeights, names: Mapping[str, str]) -> str:
    theirs, ours = list(weights.keys.values())[:3], list(names)[:3]
    return f"first keys of the source {', '.join(theirs)}; of the target {', '.join(ours)}"


def _check_options(input_channels: str | ChannelMap, head: str, min_coverage: float) -> None:
    if isinstance(input_channels, str) and input_channels not in INPUT_MODES:
        raise UsageError(f"input_channels must be one of {', '.join(INPUT_MODES)} or a map, got {input_channels!r}")
    if head not in HEAD_MODES:
        raise UsageError(f"head must be one of {', '.join(HEAD_MODES)}, got {head!r}")
    if not 0 <= min_coverage <= 1:
        raise UsageError(f"min_coverage must be between 0 and 1, got {min_coverage}")


def _write(values: Mapping[str, Tensor], target: nn.Module) -> None:
    state = target.state_dict()
    with torch.no_grad():
        for key, value in values.items():
            state[key].copy_(value)


def _refuse_meta(state: Mapping[str, Tensor]) -> None:
    empty = [key for key, tensor in state.items() if tensor.is_meta]
    if empty:
        raise TransferError(f"the target's {empty[0]} is on the meta device, it cannot hold values",
                            hint="Move the target to a device with to_empty")  # fmt: skip


def _cast_notes(report: TransferReport, weights: SourceWeights, state: Mapping[str, Tensor]) -> list[str]:
    names = {key: name for name, key in weights.keys.items()}
    casts = Counter(
        (_dtype(weights.tensors[names[entry.source_key]]), _dtype(state[entry.key]))
        for entry in (*report.loaded, *report.adapted)
        if entry.source_key is not None
    )
    return [f"{count} tensors cast from {old} to {new}" for (old, new), count in casts.items() if old != new]


def _stem_notes(weights: SourceWeights, target: Mapping[str, Tensor]) -> list[str]:
    """A stem or pooling of another kind is a small share of the parameters, and the whole network stands on it."""
    if weights.dialect is None:
        return []
    theirs, ours = describe(weights.tensors), describe(target)
    wanted = [f"{name}={theirs[name]!r}" for name in ("deep_stem", "pool") if theirs[name] != ours[name]]
    return [f"the stems differ: build the target with {', '.join(wanted)} to take the source's whole"] if wanted else []


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
