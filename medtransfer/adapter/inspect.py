"""What is in a weight file, without loading any code."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from .guess import describe
from .source import read_source

#: keys shown in the text
SHOWN_KEYS = 6


@dataclass(frozen=True)
class Inspection:
    """What a weight file or model folder holds.

    Attributes:
        path: The file or folder.
        format: Container, wrapper and dialect in words.
        architecture: A guess such as ``resnet18``, or None.
        in_channels, num_classes, ndim: As far as the tensors tell.
        deep_stem, pool: The stem's kind.
        tensors: Number of tensors.
        parameters: Number of values in them.
        dtypes: Tensors of each dtype.
        keys: First and last keys.
        card: The model folder's card as plain data, or None.
        notes: What the reader noticed.
    """

    path: str
    format: str
    architecture: str | None
    in_channels: int | None
    num_classes: int | None
    ndim: int | None
    deep_stem: bool
    pool: str
    tensors: int
    parameters: int
    dtypes: dict[str, int]
    keys: list[str]
    card: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        guess = self.architecture or "unknown"
        dtypes = ", ".join(f"{count} {name}" for name, count in self.dtypes.items())
        rows = {
            "file": self.path,
            "format": self.format,
            "architecture": f"{guess} ({'deep' if self.deep_stem else 'plain'} stem, {self.pool} pooling)",
            "dimension": self.ndim,
            "input channels": self.in_channels,
            "classes": self.num_classes,
            "tensors": f"{self.tensors} ({dtypes}), {self.parameters:,} values",
            "keys": ", ".join(self.keys),
            **{f"card {name}": value for name, value in (self.card or {}).items()},
            **{f"note {i + 1}": note for i, note in enumerate(self.notes)},
        }
        width = max(map(len, rows))
        return "\n".join(f"{name:<{width}}  {'-' if value is None else value}" for name, value in rows.items())


def inspect(path: str | Path) -> Inspection:
    """Format, architecture guess, channels, classes, tensors and card of a weight file or model folder.

    Raises:
        CheckpointError: the file was refused.
    """
    weights = read_source(path)
    keys = list(weights.keys.values())
    shown = keys if len(keys) <= 2 * SHOWN_KEYS else [*keys[:SHOWN_KEYS], "...", *keys[-SHOWN_KEYS:]]
    return Inspection(
        path=str(path),
        format=weights.format,
        tensors=len(keys),
        parameters=sum(tensor.numel() for tensor in weights.tensors.values()),
        dtypes=dict(Counter(str(t.dtype).removeprefix("torch.") for t in weights.tensors.values())),
        keys=shown,
        card=msgspec.to_builtins(weights.card) if weights.card else None,
        notes=weights.notes,
        **describe(weights.tensors),
    )
