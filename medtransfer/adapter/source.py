"""Anything that holds weights, read into tensors under the zoo's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor, nn

from ..checkpoint.card import ModelCard
from ..checkpoint.reader import read_weights
from ..checkpoint.tensor_checks import tensor_fault
from ..errors import TransferError, UsageError
from .dialects import detect
from .dialects.base import strip_prefixes

Source = nn.Module | Mapping[str, Tensor] | str | Path


@dataclass(frozen=True)
class SourceWeights:
    """Weights under the zoo's names.

    Attributes:
        tensors: Zoo name -> tensor.
        keys: Zoo name -> the source's own key.
        format: Container, wrapper and dialect in words.
        dialect: Name of the dialect, or None.
        path: The file or folder, if there is one.
        card: The model folder's card, if there is one.
        notes: What the reader noticed.
    """

    tensors: dict[str, Tensor]
    keys: dict[str, str]
    format: str
    dialect: str | None = None
    path: Path | None = None
    card: ModelCard | None = None
    notes: list[str] = field(default_factory=list)


def read_source(source: Source) -> SourceWeights:
    """Read a module, a state dict, a weight file or a model folder.

    Raises:
        CheckpointError: the file was refused.
        TransferError: two keys are the same once their prefixes are gone.
        UsageError: the source is none of these.
    """
    if isinstance(source, nn.Module):
        return _named(source.state_dict(), "module", card=getattr(source, "card", None))
    if isinstance(source, Mapping):
        return _named(_only_tensors(source), "state dict")
    if not isinstance(source, str | Path):
        raise UsageError(f"a source is a module, a state dict or a path, got {type(source).__name__}")
    weights = read_weights(source)
    where = weights.format + (f", under {weights.wrapper!r}" if weights.wrapper else "")
    card = msgspec.convert(weights.metadata, ModelCard) if weights.format == "model_folder" else None
    return _named(weights.tensors, where, Path(source), card, list(weights.notes))


def canonical_names(keys: list[str]) -> tuple[dict[str, str], str | None]:
    """Key -> the zoo's name, and the dialect's name."""
    stripped = strip_prefixes(keys)
    dialect = detect(stripped.values())
    renamed = dialect.rename(list(stripped.values())) if dialect else {}
    return {key: renamed.get(bare, bare) for key, bare in stripped.items()}, dialect.name if dialect else None


def _named(
    tensors: Mapping[str, Tensor],
    where: str,
    path: Path | None = None,
    card: ModelCard | None = None,
    notes: list[str] | None = None,
) -> SourceWeights:
    _refuse_faulty(tensors, path)
    names, dialect = canonical_names(list(tensors))
    keys = own_keys(names, path)
    said = f"{where}, {dialect} keys" if dialect else f"{where}, unknown keys"
    by_name = {name: tensors[key] for name, key in keys.items()}
    return SourceWeights(by_name, keys, said, dialect, path, card, notes or [])


def own_keys(names: Mapping[str, str], path: Path | None = None) -> dict[str, str]:
    """The zoo's name -> the network's own key, the inverse of :func:`canonical_names`.

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
