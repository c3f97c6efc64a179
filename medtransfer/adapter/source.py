"""Anything that holds weights, read into tensors under the zoo's names."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor, nn

from ..checkpoint.card import ModelCard
from ..checkpoint.reader import read_weights
from ..checkpoint.tensor_checks import tensor_fault
from ..errors import TransferError, UsageError
from ..model_zoo.names import MODEL_NAMES
from .dialects import Dialect, Written, detect, dialect_named
from .dialects.base import Home, strip_prefixes
from .dialects.frameworks import framework

Source = nn.Module | Mapping[str, Tensor] | str | Path


@dataclass(frozen=True)
class SourceWeights:
    """Weights under the zoo's names.

    Attributes:
        tensors: Zoo name -> tensor.
        keys: Zoo name -> the source's own key.
        format: Container, wrapper and dialect in words.
        dialect: Name of the dialect, or None.
        home: The network of the zoo that these weights belong to, as far as it can be told.
        changes: Zoo name -> what the dialect did to the values, so that they mean the same here.
        unread: The source's own key -> tensor, for tensors that its network never reads, or that became part of others.
        path: The file or folder, if there is one.
        card: The model folder's card, if there is one.
        facts: What a foreign file says of its data: fields of a card.
        notes: What the reader noticed.
    """

    tensors: dict[str, Tensor]
    keys: dict[str, str]
    format: str
    dialect: str | None = None
    home: Home | None = None
    changes: dict[str, str] = field(default_factory=dict)
    unread: dict[str, tuple[Tensor, str]] = field(default_factory=dict)
    path: Path | None = None
    card: ModelCard | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def input_channels(self) -> list[str] | None:
        """Names of the input channels, where the source has them."""
        return self.card.input_channels if self.card else self.facts.get("input_channels")

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes, where the source has them."""
        return self.card.classes if self.card else self.facts.get("classes")


def read_source(source: Source, dialect: str | None = None, keep: Container[str] = ()) -> SourceWeights:
    """Read a module, a state dict, a weight file or a model folder.

    Args:
        source: Where the weights are.
        dialect: The name of the dialect to read them in, when it should not be told from the content.
        keep: Names that the network has to which they go: values are not changed to do without them.

    Raises:
        CheckpointError: the file was refused.
        TransferError: two keys are the same once their prefixes are gone, or the weights are not of that dialect.
        UsageError: the source is none of these, or there is no such dialect.
    """
    forced = None if dialect is None else dialect_named(dialect)
    if isinstance(source, nn.Module):
        record = getattr(source, "architecture", None)
        written = _written(source.state_dict(), metadata={} if record is None else {"architecture": record})
        return _named(written, "module", forced, keep, card=getattr(source, "card", None))
    if isinstance(source, Mapping):
        return _named(_written(_only_tensors(source)), "state dict", forced, keep)
    if not isinstance(source, str | Path):
        raise UsageError(f"a source is a module, a state dict or a path, got {type(source).__name__}")
    weights = read_weights(source)
    wrapper = f"under {weights.wrapper!r}" if weights.wrapper else None
    where = ", ".join(filter(None, (weights.format, framework(weights.metadata), wrapper)))
    card = msgspec.convert(weights.metadata, ModelCard) if weights.format == "model_folder" else None
    written = _written(weights.tensors, Path(source), weights.metadata, weights.wrapper)
    return _named(written, where, forced, keep, Path(source), card, list(weights.notes))


def canonical_names(state: Mapping[str, Tensor]) -> dict[str, str]:
    """A network's own key -> the zoo's name."""
    written = _written(state)
    names = _names(written, detect(written))
    return {own: names[bare] or own for bare, own in written.own_keys.items()}


def own_keys(names: Mapping[str, str], path: Path | None = None) -> dict[str, str]:
    """The inverse of a mapping of keys to names.

    Raises:
        TransferError: two keys have the same name.
    """
    keys: dict[str, str] = {}
    for key, name in names.items():
        if name in keys:
            raise TransferError(
                f"{keys[name]!r} and {key!r} are the same tensor once wrapper prefixes are stripped",
                path=path,
                hint="Pass one network",
            )
        keys[name] = key
    return keys


def _written(
    tensors: Mapping[str, Tensor],
    path: Path | None = None,
    metadata: Mapping[str, Any] | None = None,
    wrapper: str | None = None,
) -> Written:
    _refuse_faulty(tensors, path)
    own = own_keys(strip_prefixes(tensors), path)
    return Written({bare: tensors[key] for bare, key in own.items()}, own, metadata or {}, wrapper)


def _names(written: Written, dialect: Dialect | None) -> dict[str, str | None]:
    renamed = dialect.rename(written) if dialect else {}
    return {key: renamed.get(key, key) for key in written.tensors}


def _named(
    written: Written,
    where: str,
    forced: Dialect | None = None,
    keep: Container[str] = (),
    path: Path | None = None,
    card: ModelCard | None = None,
    notes: list[str] | None = None,
) -> SourceWeights:
    if forced is not None:
        _refuse_misread(written, forced, path)
    dialect = forced or detect(written)
    names = _names(written, dialect)
    bare_keys = own_keys({key: name for key, name in names.items() if name is not None}, path)
    weights = SourceWeights(
        tensors={name: written.tensors[bare] for name, bare in bare_keys.items()},
        keys={name: written.own_keys[bare] for name, bare in bare_keys.items()},
        format=f"{where}, {dialect.name if dialect else 'unknown'} keys",
        dialect=dialect.name if dialect else None,
        unread={
            written.own_keys[key]: (written.tensors[key], "the source's network never reads it")
            for key, name in names.items()
            if name is None
        },
        path=path,
        card=card,
        facts=dialect.card(written) if dialect else {},
        notes=notes or [],
    )
    if dialect is None:
        return weights
    _convert(weights, dialect, keep)
    return replace(weights, home=_home(weights, written, dialect))


def _convert(weights: SourceWeights, dialect: Dialect, keep: Container[str]) -> None:
    """Change the values that mean something else here, unless the target has a place for them as they are."""
    converted = dialect.convert(weights.tensors)
    if any(value is None and name in keep for name, (value, _) in converted.items()):
        return
    for name, (value, how) in converted.items():
        if value is None:
            weights.unread[weights.keys.pop(name)] = (weights.tensors.pop(name), how)
        else:
            weights.tensors[name], weights.changes[name] = value, how


def _home(weights: SourceWeights, written: Written, dialect: Dialect) -> Home | None:
    """A card or a network of the zoo knows how it was built; else the dialect reads it off the tensors."""
    if weights.card is not None:
        record = weights.card.architecture
        return Home(record.name, dict(record.arguments), complete=True)
    built = written.metadata.get("architecture") if weights.path is None else None
    if isinstance(built, dict) and built.get("name") in MODEL_NAMES:
        return Home(built["name"], dict(built["arguments"]), complete=True)
    return dialect.home(weights.tensors, written)


def _refuse_misread(written: Written, forced: Dialect, path: Path | None) -> None:
    if forced.can_read(written):
        return
    found = detect(written)
    keys = ", ".join(list(written.own_keys.values())[:3])
    raise TransferError(
        f"these are not the keys of {forced.name!r} ({forced.title}): the first are {keys}",
        path=path,
        hint=f"They look like {found.name!r}: leave dialect away" if found else "Leave dialect away",
    )


def _refuse_faulty(tensors: Mapping[str, Tensor], path: Path | None) -> None:
    for key, tensor in tensors.items():
        if fault := tensor_fault(tensor):
            raise TransferError(f"the tensor {key!r} is {fault}", path=path, hint="Pass dense tensors with data")


def _only_tensors(state: Mapping[Any, Any]) -> dict[str, Tensor]:
    wrong = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if wrong or not state:
        raise UsageError(
            f"a state dict maps names to tensors, got {'nothing' if not state else f'{wrong[0]!r}: no tensor'}",
            hint="Pass module.state_dict(), or the path of the checkpoint",
        )
    return dict(state)
