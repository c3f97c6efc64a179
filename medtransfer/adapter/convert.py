"""A weight file of another project into a model folder that computes the same function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from ..checkpoint.source import file_sha256
from ..errors import MedTransferError, TransferError, UsageError
from ..model_zoo.catalog import create_model
from ..model_zoo.hollow import hollow
from .dialects.base import Home, part_of
from .misfit import refuse_misfit
from .persist import card_of, save
from .plan import Choices, Plan, Target, make_plan
from .report import Entry, TransferReport
from .source import Source, SourceWeights, read_source


def convert(
    source: Source,
    folder: str | Path,
    dialect: str | None = None,
    overwrite: bool = False,
    num_classes: int | None = None,
) -> TransferReport:
    """Write the network of the zoo in which these weights compute what they computed before, as a model folder.

    Every tensor of that network must come from the source (but for a head that ``num_classes`` asks for); what the
    source has more is listed in the report. The card says what the file itself tells of its data, and in ``parent``
    where the weights came from.

    Args:
        source: A weight file, or anything else that :func:`transfer` takes.
        folder: The model folder to make.
        dialect: The source's format by name, when it should not be told from the content.
        overwrite: Replace a model folder that exists.
        num_classes: Classes of a new head, for weights of an encoder alone; a model folder holds whole networks.

    Returns:
        What moved where.

    Raises:
        TransferError: no network of the zoo is known for these weights, or they do not fill it.
        CheckpointError: the source was refused.
        UsageError: ``num_classes`` is missing for an encoder alone, or given for weights that have a head.
        OutputExistsError: the folder exists.

    >>> import tempfile, torch, medtransfer as mt
    >>> file, folder = (Path(tempfile.mkdtemp()) / name for name in ("net.pth", "net"))
    >>> network = create_model("resnet10", num_classes=3, base_channels=4, stem_channels=4)
    >>> torch.save({"state_dict": network.state_dict()}, file)
    >>> convert(file, folder).coverage, type(mt.load(folder)).__name__
    (1.0, 'ResNet')
    """
    weights = read_source(source, dialect)
    home = _home(weights, num_classes)
    _refuse_claims(weights, home)
    network = _build(weights, home)
    taker = Target.of(network)
    plan = make_plan(weights, taker, Choices(head="keep"))
    refuse_misfit(plan.report, weights, taker, min_coverage=0.0)
    _refuse_gaps(plan, weights, new_head=num_classes is not None)
    network.load_state_dict(plan.values, strict=False)
    card, notes = _card(weights, network, home)
    plan.report.notes.extend(notes)
    save(network.eval(), folder, card, overwrite=overwrite)
    return plan.report


def _home(weights: SourceWeights, num_classes: int | None) -> Home:
    if weights.home is None:
        raise TransferError(
            "no network of the zoo is known for these weights",
            path=weights.path,
            hint="Look at the keys with medtransfer inspect; medtransfer transfer --to NAME takes what fits a network",
        )
    own = weights.home.arguments.get("num_classes")
    if own is None and num_classes is None:
        raise UsageError(
            f"the weights are those of a {weights.home.name} without a head, and a model folder holds whole networks",
            path=weights.path,
            hint="Pass num_classes (--num-classes N) for a new head, or move them to a task with medtransfer transfer",
        )
    if num_classes is not None and own is not None:
        hint = "Leave num_classes (--num-classes) away, or use medtransfer transfer"
        raise UsageError(f"the weights have a head of {own} classes", path=weights.path, hint=hint)
    return Home(weights.home.name, {**weights.home.arguments, "num_classes": own or num_classes}, weights.home.note)


def _refuse_claims(weights: SourceWeights, home: Home) -> None:
    """Before any memory is asked for: a file can claim a network of any size."""
    with hollow():
        state = _build(weights, home).state_dict()
    claimed = sum(tensor.numel() for name, tensor in state.items() if part_of(name) != "head")
    held = sum(tensor.numel() for tensor in weights.tensors.values())
    if claimed > 2 * held + 1_000_000:
        reason = f"the file describes a {home.name} of {claimed:,} values, and holds {held:,}"
        raise TransferError(reason, path=weights.path, hint="Take a file whose weights are those it describes")


def _build(weights: SourceWeights, home: Home) -> nn.Module:
    try:
        return create_model(home.name, **home.arguments)
    except Exception as error:  # whatever a file's own description makes the constructors say
        said = error.reason if isinstance(error, MedTransferError) else str(error).split("\n")[0]
        raise TransferError(
            f"the {home.name} that the weights describe cannot be built: {said}", path=weights.path
        ) from error


def _refuse_gaps(plan: Plan, weights: SourceWeights, new_head: bool) -> None:
    """A converted network computes what its source did: nothing of it may stay at initial values."""
    wrong = [entry for entry in (*plan.report.missing, *plan.report.mismatched) if not _may_lack(entry, new_head)]
    if not wrong:
        return
    reason = f"{len(wrong)} tensors of the network do not come from the source, the first {wrong[0].key}"
    error = TransferError(
        reason, path=weights.path, hint="Use medtransfer transfer, which takes a part and says what is missing"
    )
    error.report = plan.report
    raise error


def _may_lack(entry: Entry, new_head: bool) -> bool:
    """Counters of batches, which files of torch < 0.4.1 lack and nothing reads; and a head that was asked for."""
    return entry.key.endswith("num_batches_tracked") or (new_head and part_of(entry.key) == "head")


def _card(weights: SourceWeights, network: nn.Module, home: Home) -> tuple[dict[str, Any], list[str]]:
    """The source's card, or what a foreign file says, as far as a card can hold it; and notes on what it cannot."""
    known = msgspec.to_builtins(weights.card) if weights.card else dict(weights.facts)
    fields: dict[str, Any] = {"parent": _parent(weights)}
    notes: list[str] = []
    if home.note and not known.get("description"):
        fields["description"] = home.note
    for name, value in known.items():
        if name in ("architecture", "task", "sha256", "parent"):
            continue
        try:
            card_of(network, {**fields, name: value})
        except UsageError as error:
            notes.append(f"the source's {name} is not taken into the card: {error.reason}")
        else:
            fields[name] = value
    return fields, notes


def _parent(weights: SourceWeights) -> dict[str, Any]:
    parent: dict[str, Any] = {"format": weights.format}
    if weights.path is None:
        return parent
    digest = weights.card.sha256 if weights.card else file_sha256(weights.path)
    return {**parent, "source": weights.path.name, "sha256": digest}
