"""Weights from any source into a network, exactly or not at all.

The steps are in order: read, rename, match by name, fit the kernels, the input channels and the head, check, and only
then write into the target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..checkpoint.collector import paused_collector
from ..errors import UsageError
from .head_rows import HEAD_MODES, HeadChoice
from .inflate import AXES, INFLATION_MODES, KERNEL_MODES
from .input_conv import INPUT_MODES, ChannelMap
from .misfit import refuse_misfit
from .plan import Choices, Target, make_plan
from .report import TransferReport
from .source import Source, read_source


def transfer(
    source: Source,
    target: nn.Module,
    input_channels: str | ChannelMap = "interpolate",
    head: HeadChoice = "drop",
    min_coverage: float = 0.5,
    *,
    dialect: str | None = None,
    inflation: str = "mean",
    inflation_axis: int = 2,
    kernels: str = "strict",
    channel_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
) -> TransferReport:
    """Move weights into ``target``, and report every tensor of both sides.

    The target is written only when all is checked; a refused transfer leaves it bit-equal. The source never changes.

    Args:
        source: A module, a state dict, a weight file of a supported format, or a model folder.
        target: A network of the zoo, or any module whose keys one of the dialects names.
        input_channels: How the input convolution takes another number of channels: a mode of
            :func:`adapt_input_conv`; ``"names"``, which keeps the channels of one name when both sides have a card; or
            a map ``{"flair": "flair", "adc": None}`` from the new channels in order to the source's (by name, if the
            source is a model folder, or by index).
        head: ``"drop"`` leaves the classes' layers as they are, ``"keep"`` moves them too, ``"convert"`` also between
            a fully connected layer and a 1x1x1 convolution; or a map ``{new class: old class or None}`` by name or
            index, which keeps the rows of old classes.
        min_coverage: Smallest share of the target encoder's parameters that must come from the source, 0 to 1; 0 also
            accepts a network of another depth, of which the blocks that match are taken.
        dialect: The source's format by name, when it should not be told from the content.
        inflation: How 2-D kernels become 3-D ones: ``"mean"``, ``"center"`` or ``"acs"``.
        inflation_axis: The axis of a weight (out, in, D, H, W) along which a 2-D kernel is extended: 2, 3 or 4.
        kernels: ``"adapt"`` crops or pads kernels of another size about their centre; ``"strict"`` refuses them.
        channel_names, class_names: Names of the target's input channels and classes, where it has no card.

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
    _refuse_unknown("input_channels", input_channels, (*INPUT_MODES, "names"), " or a map")
    _refuse_unknown("head", head, HEAD_MODES, " or a map of classes")
    _refuse_unknown("inflation", inflation, INFLATION_MODES)
    _refuse_unknown("kernels", kernels, KERNEL_MODES)
    if inflation_axis not in AXES:
        raise UsageError(f"inflation_axis must be 2, 3 or 4, got {inflation_axis!r}")
    if not 0 <= min_coverage <= 1:
        raise UsageError(f"min_coverage must be between 0 and 1, got {min_coverage}")
    with paused_collector():
        taker = Target.of(target, channel_names, class_names)
        weights = read_source(source, dialect, keep=taker.keys)
        plan = make_plan(weights, taker, Choices(input_channels, head, inflation, inflation_axis, kernels))
        refuse_misfit(plan.report, weights, taker, min_coverage)
        _write(plan.values, taker.state)
    return plan.report


def _refuse_unknown(option: str, given: object, modes: tuple[str, ...], more: str = "") -> None:
    if not (isinstance(given, Mapping) and more) and given not in modes:
        raise UsageError(f"{option} must be one of {', '.join(modes)}{more}, got {given!r}")


def _write(values: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for key, value in values.items():
            state[key].copy_(value)
