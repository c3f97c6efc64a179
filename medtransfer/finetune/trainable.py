"""What trains, part by part: how much, how fast, and from which step on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from .parts import Part, parts_of, unwrapped, zoo_networks
from .phases import Phase, frozen_now, trained_by
from .select import Parameters, select
from .statistics import has_statistics

COUNTS = ("parameters", "trainable", "norms_moving", "norms_held")


@dataclass(frozen=True)
class TrainableRow:
    """What trains in a part of a network, at the end if there are phases.

    Attributes:
        name: Name of the part.
        parameters, trainable: Numbers of values.
        norms_moving, norms_held: Numbers of norms whose running statistics move in training, or do not.
        from_step: The first step, counted from 1, in which something of it trains; None: nothing ever does.
        learning_rates: Those of what trains, lowest first; empty where no groups are given.
        weight_decays: Those of what trains, highest first.
    """

    name: str
    parameters: int
    trainable: int
    norms_moving: int
    norms_held: int
    from_step: int | None = None
    learning_rates: tuple[float, ...] = ()
    weight_decays: tuple[float, ...] = ()


@dataclass(frozen=True)
class PhaseRow:
    """A phase: from step ``from_step`` (counted from 1) on these parts train, so many values and statistics."""

    from_step: int
    trains: tuple[str, ...]
    trainable: int
    norms_moving: int


@dataclass
class TrainableTable(Sequence[TrainableRow]):
    """Rows of :class:`TrainableRow`, the last of which is the total; printed, a table.

    Attributes:
        rows: The rows.
        phases: Where the parts that train change: each phase.
    """

    rows: list[TrainableRow]
    phases: list[PhaseRow] = field(default_factory=list)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        columns = [column for column in COLUMNS if column.shown(self)]
        cells = [[column.title for column in columns], *([column.text(row) for column in columns] for row in self.rows)]
        widths = [max(len(line[number]) for line in cells) for number in range(len(columns))]
        lines = ["  ".join(c.pad(text, w) for c, text, w in zip(columns, line, widths, strict=True)) for line in cells]
        return "\n".join([*(line.rstrip() for line in lines), *map(_phase_line, self.phases)])

    def to_dict(self) -> dict[str, Any]:
        """``{"parts": [...], "total": {...}, "phases": [...]}``, of plain numbers and words."""
        *parts, total = [asdict(row) for row in self.rows]
        return {"parts": parts, "total": total, "phases": [asdict(phase) for phase in self.phases]}


def trainable_table(
    model: nn.Module,
    groups: Iterable[Mapping[str, Any]] = (),
    phases: Sequence[Phase] = (),
    fixed: Parameters | None = None,
) -> TrainableTable:
    """What trains, part by part, what two parts share in the first of them. The network is left as it is.

    Args:
        model: Any network.
        groups: Parameter groups, as of :func:`medtransfer.param_groups` or of an optimizer: their learning rates and
            weight decay are shown.
        phases: Which parts train when, see :func:`~medtransfer.finetune.phases.build_phases`; without them what trains
            at present.
        fixed: What stays frozen in every phase.

    Raises:
        UsageError: the network has none of the parts that a phase trains.

    >>> from medtransfer.model_zoo import create_model
    >>> from medtransfer.finetune.freeze import freeze
    >>> from medtransfer.finetune.groups import param_groups
    >>> net = create_model("resnet10", base_channels=4, stem_channels=4)
    >>> frozen = freeze(net, "encoder", except_="layer4")
    >>> print(trainable_table(net, param_groups(net, lr=0.01, weight_decay=0.1, head_lr_mult=10)))
    part    parameters  trainable  norm statistics   learning rate  weight decay
    stem         1,380          0  1 held                        -             -
    layer1         880          0  2 held                        -             -
    layer2       2,672          0  3 held                        -             -
    layer3      10,592          0  3 held                        -             -
    layer4      42,176     42,176  3 moving                   0.01        0.1, 0
    head            66         66  none                        0.1        0.1, 0
    total       57,766     42,242  3 moving, 9 held   0.01 to 0.1        0.1, 0
    """
    model = unwrapped(model)
    chosen = [trained_by(model, phase.trains, fixed) for phase in phases]
    facts = _Facts(_first_steps(model, phases, chosen), _rates(groups))
    seen: set[int] = set()
    rows = [facts.row(part, seen) for part in _parts(model)]
    rows = [row for row in rows if row.parameters or row.norms_held or row.norms_moving]
    told = zip(phases, chosen, strict=True) if len(phases) > 1 else ()
    return TrainableTable([*rows, _total(rows)], [_phase_row(phase, trained) for phase, trained in told])


def _first_steps(model: nn.Module, phases: Sequence[Phase], chosen: Sequence[Parameters]) -> dict[int, int]:
    """For all that trains the step, counted from 1, from which it does."""
    now = [(1, select(model, None).without(frozen_now(model)))]
    times = [(phase.start + 1, trained) for phase, trained in zip(phases, chosen, strict=True)] or now
    first: dict[int, int] = {}
    for step, trained in times:
        for thing in (*trained, *trained.norms.values()):
            first.setdefault(id(thing), step)
    return first


def _rates(groups: Iterable[Mapping[str, Any]]) -> dict[int, tuple[float, float]]:
    return {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}


@dataclass(frozen=True)
class _Facts:
    """By the identity of a parameter or norm: from when it trains; of a parameter, learning rate and weight decay."""

    first: Mapping[int, int]
    rates: Mapping[int, tuple[float, float]]

    def row(self, part: Part, seen: set[int]) -> TrainableRow:
        """The row of a part, without what was seen before."""
        inner = [inside for module in part.modules for inside in module.modules()]
        parameters = {id(p): p for inside in inner for p in inside.parameters(recurse=False) if id(p) not in seen}
        norms = {id(inside) for inside in inner if has_statistics(inside) and id(inside) not in seen}
        seen |= parameters.keys() | norms
        rates = [self.rates[key] for key in parameters if key in self.first and key in self.rates]
        return TrainableRow(
            part.name,
            sum(p.numel() for p in parameters.values()),
            sum(p.numel() for key, p in parameters.items() if key in self.first),
            len(norms & self.first.keys()),
            len(norms - self.first.keys()),
            min((self.first[key] for key in (*parameters, *norms) if key in self.first), default=None),
            tuple(sorted({rate for rate, _ in rates})),
            tuple(sorted({decay for _, decay in rates}, reverse=True)),
        )


def _total(rows: Sequence[TrainableRow]) -> TrainableRow:
    counts = {name: sum(getattr(row, name) for row in rows) for name in COUNTS}
    rates = tuple(sorted({rate for row in rows for rate in row.learning_rates}))
    decays = tuple(sorted({decay for row in rows for decay in row.weight_decays}, reverse=True))
    steps = [row.from_step for row in rows if row.from_step is not None]
    first = min(steps, default=None)
    return TrainableRow("total", **counts, from_step=first, learning_rates=rates, weight_decays=decays)


def _phase_row(phase: Phase, trained: Parameters) -> PhaseRow:
    return PhaseRow(phase.start + 1, phase.trains, sum(p.numel() for p in trained), len(trained.norms))


def _phase_line(phase: PhaseRow) -> str:
    values = f"{phase.trainable:,} values, statistics of {phase.norms_moving} norms"
    return f"from step {phase.from_step}: {', '.join(phase.trains)} ({values})"


def _parts(model: nn.Module) -> Sequence[Part]:
    """The parts of the networks in a module, then what is in none of them."""
    known = [part for network in zoo_networks(model) for part in parts_of(network)]
    named = known or [Part(name, "other", (child,)) for name, child in model.named_children()]
    return [*named, Part("other", "other", (model,))]


@dataclass(frozen=True)
class _Column:
    """A column of the printed table: its title, what a row has in it, when it is shown, on which side it is filled."""

    title: str
    text: Callable[[TrainableRow], str]
    shown: Callable[[TrainableTable], bool] = lambda _: True
    pad: Callable[[str, int], str] = str.rjust


def _norms(row: TrainableRow) -> str:
    counts = {"moving": row.norms_moving, "held": row.norms_held}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "none"


def _range(rates: Sequence[float]) -> str:
    ends = dict.fromkeys([f"{rates[0]:.3g}", f"{rates[-1]:.3g}"] if rates else ["-"])
    return " to ".join(ends)


def _has_rates(table: TrainableTable) -> bool:
    return bool(table.rows[-1].learning_rates)


COLUMNS = (
    _Column("part", lambda row: row.name, pad=str.ljust),
    _Column("parameters", lambda row: f"{row.parameters:,}"),
    _Column("trainable", lambda row: f"{row.trainable:,}"),
    _Column("norm statistics", _norms, pad=str.ljust),
    _Column("learning rate", lambda row: _range(row.learning_rates), _has_rates),
    _Column("weight decay", lambda row: ", ".join(f"{decay:.3g}" for decay in row.weight_decays) or "-", _has_rates),
    _Column("from step", lambda row: str(row.from_step or "never"), lambda table: bool(table.phases)),
)
