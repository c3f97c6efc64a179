"""What is in a weight file, without loading any code."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ..devices import dtype_name
from .dialects.base import INPUT_CONVS
from .guess import num_classes
from .source import read_source

#: keys shown in the text
SHOWN_KEYS = 6


@dataclass(frozen=True)
class Inspection:
    """What a weight file or model folder holds.

    Attributes:
        path: The file or folder.
        format: Container, wrapper and dialect in words.
        dialect: The source format's name, or None.
        architecture: A guess such as ``resnet18``, or None.
        arguments: Arguments of that network as far as the tensors tell, such as ``deep_stem``.
        in_channels, num_classes, ndim: As far as the tensors tell.
        tensors: Number of tensors.
        parameters: Number of values in them.
        dtypes: Tensors of each dtype.
        keys: First and last keys.
        card: The model folder's card as plain data, or None.
        facts: What a foreign file says of its data: channels, classes, spacing ... in a card's words.
        notes: What the reader noticed.
    """

    path: str
    format: str
    dialect: str | None
    architecture: str | None
    arguments: dict[str, Any]
    in_channels: int | None
    num_classes: int | None
    ndim: int | None
    tensors: int
    parameters: int
    dtypes: dict[str, int]
    keys: list[str]
    card: dict[str, Any] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        dtypes = ", ".join(f"{count} {name}" for name, count in self.dtypes.items())
        rows = {
            "file": self.path,
            "format": self.format,
            "architecture": (self.architecture or "unknown") + (f" ({arguments})" if arguments else ""),
            "dimension": self.ndim,
            "input channels": self.in_channels,
            "classes": self.num_classes,
            "tensors": f"{self.tensors} ({dtypes}), {self.parameters:,} values",
            "keys": ", ".join(self.keys),
            **{f"card {name}": value for name, value in (self.card or {}).items()},
            **{f"data {name}": value for name, value in self.facts.items()},
            **{f"note {i + 1}": note for i, note in enumerate(self.notes)},
        }
        width = max(map(len, rows))
        return "\n".join(f"{name:<{width}}  {'-' if value is None else value}" for name, value in rows.items())


def inspect(path: str | Path, dialect: str | None = None) -> Inspection:
    """Format, architecture guess, channels, classes, tensors and card of a weight file or model folder.

    Args:
        path: The file or folder.
        dialect: The source's format by name, when it should not be told from the content.

    Raises:
        CheckpointError: the file was refused.
        UsageError: there is no such dialect.
        TransferError: the weights are not of that dialect, or two keys are the same once their prefixes are gone.

    >>> import tempfile, torch
    >>> from medtransfer.model_zoo.catalog import create_model
    >>> file = Path(tempfile.mkdtemp()) / "net.pth"
    >>> torch.save(create_model("resnet18", num_classes=3, base_channels=4, stem_channels=4).state_dict(), file)
    >>> found = inspect(file)
    >>> found.architecture, found.in_channels, found.num_classes, found.arguments
    ('resnet18', 1, 3, {'stem_channels': 4, 'base_channels': 4})
    """
    weights = read_source(path, dialect)
    home = weights.home
    arguments = dict(home.arguments) if home else {}
    stem = next((weights.tensors[name] for name in INPUT_CONVS if name in weights.tensors), None)
    keys = list(weights.keys.values())
    shown = keys if len(keys) <= 2 * SHOWN_KEYS else [*keys[:SHOWN_KEYS], "...", *keys[-SHOWN_KEYS:]]
    return Inspection(
        path=str(path),
        format=weights.format,
        dialect=weights.dialect,
        architecture=home.name if home else None,
        in_channels=arguments.pop("in_channels", None) or (None if stem is None else stem.shape[1]),
        num_classes=arguments.pop("num_classes", None) or num_classes(weights.tensors, home),
        ndim=None if stem is None else stem.ndim - 2,
        arguments=arguments,
        tensors=len(keys),
        parameters=sum(tensor.numel() for tensor in weights.tensors.values()),
        dtypes=dict(Counter(dtype_name(t.dtype) for t in weights.tensors.values())),
        keys=shown,
        card=msgspec.to_builtins(weights.card) if weights.card else None,
        facts=dict(weights.facts),
        notes=[*weights.notes, *([home.note] if home and home.note else [])],
    )
