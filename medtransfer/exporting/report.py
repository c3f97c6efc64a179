"""The receipt of an export: what was written, what it takes and gives, and how near it is to the network."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """One comparison of the file with the network.

    Attributes:
        shape: Of the input.
        difference: max |file - network| / max |network|, the largest of all outputs, in float32.
    """

    shape: tuple[int, ...]
    difference: float


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        path, format: Of the output; ``format`` is its name in the table of formats.
        inputs, outputs: Name -> shape; an open axis is its name.
        sizes: Axis -> which sizes it takes, in words.
        dynamic: Names of the open axes.
        checks: The comparisons after writing.
        sha256, size: Of the file, of a bundle of its ``models/model.ts``; ``size`` in bytes.
        versions: Of what wrote it; of ONNX also the opset.
        not_included: What a scan needs beside the network, in sentences.
        notes: Anything else worth saying.
    """

    path: str
    format: str
    inputs: dict[str, list[int | str]]
    outputs: dict[str, list[int | str]]
    sizes: dict[str, str]
    dynamic: list[str]
    checks: list[Check]
    sha256: str
    size: int
    versions: dict[str, str]
    not_included: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def difference(self) -> float:
        """The largest of all comparisons."""
        return max(check.difference for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """All of the report as plain data."""
        return {**asdict(self), "difference": self.difference}

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        rows = {
            "written": f"{self.path} ({self.format}, {self.size / 1e6:.1f} MB, sha256 {self.sha256[:12]}...)",
            **{f"input {name}": _by(shape) for name, shape in self.inputs.items()},
            **{f"output {name}": _by(shape) for name, shape in self.outputs.items()},
            **{f"axis {name}": words for name, words in self.sizes.items()},
            **{f"difference at {_by(check.shape)}": f"{check.difference:.1g}" for check in self.checks},
            "with": versions,
        }
        width = max(map(len, rows))
        lines = [f"{name:<{width}}  {text}" for name, text in rows.items()]
        return "\n".join([*lines, "not in the file:", *(f"- {text}" for text in self.not_included), *self.notes])


def _by(shape: tuple[int | str, ...] | list[int | str]) -> str:
    return " x ".join(map(str, shape))
