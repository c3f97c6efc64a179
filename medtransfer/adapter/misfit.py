"""Whether a plan may be carried out; and if not, the one line that says why and what to do."""

from __future__ import annotations

from ..errors import TransferError
from .dialects.base import part_of
from .guess import same_blocks
from .plan import Target
from .report import Entry, TransferReport
from .source import SourceWeights


def refuse_misfit(report: TransferReport, weights: SourceWeights, target: Target, min_coverage: float) -> None:
    """Raise unless enough of the encoder comes from a source of the same build.

    Raises:
        TransferError: with the report as ``.report``.
    """
    wrong = [entry for entry in report.mismatched if part_of(target.names[entry.key]) != "decoder"]
    looks = _different_architecture(weights, target)
    # blocks of a deeper network fit a shallower one by name and shape, and compute something else there
    accepted = not looks or min_coverage == 0
    if not wrong and accepted and report.coverage > 0 and report.coverage >= min_coverage:
        return
    reason, hint = _complaint(report, wrong, min_coverage) or _nothing_matches(weights, target)
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


def _nothing_matches(weights: SourceWeights, target: Target) -> tuple[str, str]:
    theirs, ours = list(weights.keys.values())[:3], list(target.state)[:3]
    reason = (
        f"0 of {len(target.state)} tensors of the target match; first keys of the source {', '.join(theirs)}; "
        f"of the target {', '.join(ours)}"
    )
    if weights.home is None:
        return reason, "Check that this is the file you mean and that the target has its architecture"
    return reason, f"The source is a {weights.home.name} ({weights.dialect} keys): build the target of that family"


def _different_architecture(weights: SourceWeights, target: Target) -> str | None:
    if same_blocks(weights.tensors, target.tensors):
        return None
    theirs = weights.home.name if weights.home else "another network"
    record = getattr(target.module, "architecture", None)
    ours = record["name"] if record else "of other stages"
    return f"the checkpoint looks like {theirs}, the target is {ours}"


def _shape_hint(entry: Entry) -> str:
    source, target = entry.source_shape or (), entry.target_shape or ()
    if part_of(entry.key) == "head" or "final_layer" in entry.key:
        return "Pass head='drop' to leave the head away, or a map {new class: old class or None}"
    if len(source) > len(target):
        return "The weights are 3-D, the target is 2-D: build the target with conv_cfg=dict(type='Conv3d')"
    if len(source) > 2 and source[:1] + source[2:] == target[:1] + target[2:]:
        return (
            f"The source has {source[1]} input channels, the target {target[1]}: pass input_channels='interpolate' or "
            "another mode to adapt them"
        )
    if len(source) == len(target) > 2 and source[:2] == target[:2]:
        return "The kernels are of another size: pass kernels='adapt' to crop or pad them about their centre"
    return "Build the target with the source's widths (base_channels, stem_channels, deep_stem, pool)"
