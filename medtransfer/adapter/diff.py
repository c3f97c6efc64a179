"""How two sets of weights differ: tensor by tensor under the zoo's names, and part by part."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table
from torch import Tensor

from ..devices import dtype_name
from .dialects.base import part_of
from .report import SHOWN, render_table, shown_shape
from .source import Source, SourceWeights, read_source
from .tensor_change import tensor_change

GROUPS = ("changed", "reshaped", "only_in_a", "only_in_b")
_STAGE = re.compile(r"(layer\d+|stage\d+)\.")


@dataclass(frozen=True)
class Side:
    """One of the two.

    Attributes:
        source: The path, or what it was given as.
        format: Container, wrapper and dialect in words.
        architecture: What the network looks like, such as ``resnet18``, or None.
        arguments: That network's arguments, as far as the source tells.
        tensors, parameters: How many tensors, and values in them.
        dtypes: Tensors of each dtype.
    """

    source: str
    format: str
    architecture: str | None
    arguments: dict[str, Any]
    tensors: int
    parameters: int
    dtypes: dict[str, int]


@dataclass(frozen=True)
class TensorDifference:
    """One tensor.

    Attributes:
        key: The zoo's name, the source's own where there is none.
        part: ``stem``, ``layer1`` ..., ``decoder``, ``head`` or ``other``.
        how: In words.
        a_key, b_key: The sources' own keys.
        a_shape, b_shape, a_dtype, b_dtype: None where a side has no such tensor.
        values: How many numbers differ.
        largest: The largest absolute difference; None where shapes differ or a side has no such tensor.
        relative: The same as a share of the largest absolute value of both.
    """

    key: str
    part: str
    how: str = ""
    a_key: str | None = None
    b_key: str | None = None
    a_shape: tuple[int, ...] | None = None
    b_shape: tuple[int, ...] | None = None
    a_dtype: str | None = None
    b_dtype: str | None = None
    values: int | None = None
    largest: float | None = None
    relative: float | None = None


@dataclass(frozen=True)
class PartDifference:
    """One part of the network: tensors that are the same and that are not, and the largest changes among them."""

    same: int
    changed: int
    reshaped: int
    only_in_a: int
    only_in_b: int
    largest: float
    relative: float


@dataclass
class Difference:
    """How two sources differ.

    Attributes:
        a, b: The sources.
        same: Names of the tensors that are equal bit for bit.
        changed: Tensors of one shape with other values, another dtype or other bits.
        reshaped: Tensors of one name with other shapes.
        only_in_a, only_in_b: Tensors that one side lacks.
        parts: Part -> what changed there, in the order of the network.
        card: Field of the card (or of what a foreign file says of its data) -> the two values, where they differ.
        notes: Anything else worth saying.
    """

    a: Side
    b: Side
    same: list[str] = field(default_factory=list)
    changed: list[TensorDifference] = field(default_factory=list)
    reshaped: list[TensorDifference] = field(default_factory=list)
    only_in_a: list[TensorDifference] = field(default_factory=list)
    only_in_b: list[TensorDifference] = field(default_factory=list)
    parts: dict[str, PartDifference] = field(default_factory=dict)
    card: dict[str, list[Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def identical(self) -> bool:
        """Whether both hold the same tensors under the same names, bit for bit."""
        return not any(getattr(self, group) for group in GROUPS)

    def summary(self) -> str:
        """One line: how many tensors are the same, and how many are not."""
        if self.identical:
            return f"all {len(self.same)} tensors are equal bit for bit"
        counts = ", ".join(
            f"{len(getattr(self, group))} {group.replace('_', ' ')}" for group in GROUPS if getattr(self, group)
        )
        return f"{len(self.same)} tensors are equal bit for bit, {counts}"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {"identical": self.identical, **asdict(self)}

    def __str__(self) -> str:
        lines = [*_side_lines(self.a, self.b), *(f"card {key}: {a!r} -> {b!r}" for key, (a, b) in self.card.items())]
        lines += [*self.notes, self.summary()]
        tables = [] if self.identical else [_parts_table(self.parts), _tensors_table(self)]
        return "\n".join([*lines, *map(render_table, tables)])


def diff(a: Source, b: Source) -> Difference:
    """How two sources of weights differ, by the zoo's names, whatever either calls its tensors.

    Equal means equal bit for bit, in dtype too. Tensors of different dtypes are compared by value. The tensors of
    files are mapped, not copied, and compared in pieces.

    Args:
        a, b: Modules, state dicts, weight files or model folders.

    Raises:
        CheckpointError: a file was refused.
        UsageError: a source is none of these.

    >>> from medtransfer import create_model
    >>> network = create_model("resnet10", base_channels=4, stem_channels=4)
    >>> before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    >>> _ = network.head_fc.bias.data.add_(0.5)
    >>> difference = diff(before, network)
    >>> [(change.key, change.how) for change in difference.changed]
    [('head_fc.bias', '2 of 2 values differ')]
    """
    ours, theirs = read_source(a), read_source(b)
    found = Difference(_side(a, ours), _side(b, theirs), card=_card_changes(ours, theirs))
    for name in {**ours.tensors, **theirs.tensors}:
        _compare(found, name, ours, theirs)
    found.parts = _parts(found)
    found.notes = [note for side, weights in (("a", ours), ("b", theirs)) for note in _notes(side, weights)]
    return found


def _compare(found: Difference, name: str, ours: SourceWeights, theirs: SourceWeights) -> None:
    one, other = ours.tensors.get(name), theirs.tensors.get(name)
    entry = {"key": name, "part": part_name(name), **_told("a", ours, name), **_told("b", theirs, name)}
    if one is None or other is None:
        (found.only_in_b if one is None else found.only_in_a).append(TensorDifference(**entry))
    elif one.shape != other.shape:
        found.reshaped.append(TensorDifference(**entry, how="the shapes differ"))
    else:
        change = tensor_change(one, other)
        if not change.bits:
            found.same.append(name)
            return
        how = _how(one, other, change.values)
        found.changed.append(
            TensorDifference(**entry, how=how, values=change.values, largest=change.largest, relative=change.relative)
        )


def _told(side: str, weights: SourceWeights, name: str) -> dict[str, Any]:
    tensor = weights.tensors.get(name)
    if tensor is None:
        return {}
    return {
        f"{side}_key": weights.keys[name],
        f"{side}_shape": tuple(tensor.shape),
        f"{side}_dtype": dtype_name(tensor.dtype),
    }


def _how(one: Tensor, other: Tensor, values: int) -> str:
    count = f"{values} of {one.numel()} values differ" if values else "equal in value"
    if one.dtype != other.dtype:
        return f"{dtype_name(one.dtype)} -> {dtype_name(other.dtype)}, {count}"
    return count if values else "equal in value, other bits (-0 or NaN)"


def part_name(name: str) -> str:
    """The part of a network that a tensor belongs to, by the zoo's name.

    >>> [part_name(name) for name in ("stem.0.conv.weight", "layer2.0.bn1.bias", "decoder_1.up.bias", "head_fc.bias")]
    ['stem', 'layer2', 'decoder', 'head']
    """
    stage = _STAGE.match(name)
    if stage:
        return stage.group(1)
    part = part_of(name)
    return "stem" if part == "encoder" else part


def _parts(found: Difference) -> dict[str, PartDifference]:
    groups: dict[str, Iterable[str]] = {"same": map(part_name, found.same)}
    groups.update({group: (entry.part for entry in getattr(found, group)) for group in GROUPS})
    counts = {group: Counter(parts) for group, parts in groups.items()}
    return {
        part: PartDifference(
            **{group: count[part] for group, count in counts.items()},
            largest=_most(entry.largest for entry in found.changed if entry.part == part),
            relative=_most(entry.relative for entry in found.changed if entry.part == part),
        )
        for part in sorted({part for count in counts.values() for part in count}, key=_order)
    }


def _order(part: str) -> tuple[int, str]:
    known = ("stem", "", "decoder", "head", "other")
    return (known.index(part) if part in known else 1), part


def _most(values: Iterable[float | None]) -> float:
    numbers = [value for value in values if value is not None]
    return math.nan if any(map(math.isnan, numbers)) else max(numbers, default=0.0)


def _side(source: Source, weights: SourceWeights) -> Side:
    named = str(source) if isinstance(source, str | Path) else type(source).__name__
    return Side(
        named,
        weights.format,
        weights.home.name if weights.home else None,
        dict(weights.home.arguments) if weights.home else {},
        len(weights.tensors),
        sum(tensor.numel() for tensor in weights.tensors.values()),
        dict(Counter(dtype_name(tensor.dtype) for tensor in weights.tensors.values())),
    )


def _card_changes(ours: SourceWeights, theirs: SourceWeights) -> dict[str, list[Any]]:
    """Fields that differ, where both have any; not the checksum, since the tensors are compared themselves."""
    one, other = _card(ours), _card(theirs)
    if not one or not other:
        return {}
    fields = [name for name in {**one, **other} if name != "sha256" and one.get(name) != other.get(name)]
    return {name: [one.get(name), other.get(name)] for name in fields}


def _card(weights: SourceWeights) -> Mapping[str, Any]:
    return msgspec.to_builtins(weights.card) if weights.card else weights.facts


def _notes(side: str, weights: SourceWeights) -> list[str]:
    changed = f"{len(weights.changes)} tensors are compared after: {next(iter(weights.changes.values()), '')}"
    unread = f"{len(weights.unread)} tensors are not compared: {next(iter(weights.unread.values()), (0, ''))[1]}"
    notes = [*weights.notes, *([changed] if weights.changes else []), *([unread] if weights.unread else [])]
    return [f"{side}: {note}" for note in notes]


def _side_lines(a: Side, b: Side) -> list[str]:
    return [
        f"{name}: {side.source} ({side.format}; {side.architecture or 'unknown network'}; {side.tensors} tensors, "
        f"{side.parameters:,} values)"
        for name, side in (("a", a), ("b", b))
    ]


def _parts_table(parts: Mapping[str, PartDifference]) -> Table:
    table = Table("part", "same", "changed", "reshaped", "only in a", "only in b", "largest change", "relative")
    for name, part in parts.items():
        counts = (part.same, part.changed, part.reshaped, part.only_in_a, part.only_in_b)
        table.add_row(name, *map(str, counts), f"{part.largest:.3g}", f"{part.relative:.3g}")
    return table


def _tensors_table(found: Difference) -> Table:
    table = Table("group", "key", "a", "b", "largest change", "relative", "what")
    for group in GROUPS:
        entries: list[TensorDifference] = getattr(found, group)
        if group == "changed":
            entries = sorted(entries, key=lambda entry: -math.inf if entry.relative is None else -entry.relative)
        words = group.replace("_", " ")
        for entry in entries[:SHOWN]:
            table.add_row(words, entry.key, shown_shape(entry.a_shape), shown_shape(entry.b_shape),
                          _number(entry.largest), _number(entry.relative), entry.how)  # fmt: skip
        if len(entries) > SHOWN:
            table.add_row(words, f"... and {len(entries) - SHOWN} more", "", "", "", "", "")
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
