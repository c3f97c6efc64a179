"""One way in for weights of any kind: ``read_weights`` tells the kind by content and gives tensors by name."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
from torch import Tensor

from ..devices import dtype_name
from ..errors import CheckpointError
from .folder import read_model_folder
from .safetensors_file import load_safetensors
from .source import identify, local_path, read_steadily
from .tensor_checks import nonfinite_keys
from .torch_file import read_torch_file
from .wording import shown
from .wrappers import find_weights, without_tensors

MAX_NAME = 1000
WeightFormat = Literal["safetensors", "torch", "model_folder"]


@dataclass(frozen=True)
class Weights:
    """What a weight file holds.

    ``tensors`` are on the CPU, in the dtype they are stored in, under the file's own names; they may be mapped from
    the file. ``wrapper`` is the dotted key under which they stood (``"state_dict"``), None if at the top.
    ``metadata`` is the rest of the file that is plain data; ``notes`` are sentences worth telling the user.
    """

    tensors: dict[str, Tensor]
    format: WeightFormat
    wrapper: str | None
    path: Path
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_weights(path: str | os.PathLike[str], allow_nonfinite: bool = False, wrapper: str | None = None) -> Weights:
    """Read a torch file, a safetensors file or a model folder; nothing in it is executed.

    Args:
        path: The file or folder; told apart by content, so the suffix does not matter.
        allow_nonfinite: Accept NaN and infinite weights, with a note.
        wrapper: The dotted key to take the weights from, when a file holds several sets ("teacher").

    Raises:
        CheckpointError: anything wrong with the file; the message says what, and what to do.

    >>> import tempfile, torch
    >>> file = Path(tempfile.mkdtemp()) / "net.pth"
    >>> torch.save({"state_dict": {"conv.weight": torch.ones(2, 1, 3, 3, 3)}, "epoch": 7}, file)
    >>> weights = read_weights(file)
    >>> weights.format, weights.wrapper, list(weights.tensors), weights.metadata
    ('torch', 'state_dict', ['conv.weight'], {'epoch': 7})
    """
    path, finite = local_path(path), False
    if path.is_dir():
        weights = _read_folder(path)
    elif identify(path) == "safetensors":
        tensors, header = read_steadily(path, load_safetensors)
        weights = Weights(tensors, "safetensors", None, path, dict(header))
    else:
        weights, finite = _read_torch(path, wrapper)
    _refuse_unnamed(weights, wrapper)
    weights.notes.extend(_precision_notes(weights.tensors))
    return weights if finite else _check_finite(weights, allow_nonfinite)


def _read_folder(path: Path) -> Weights:
    tensors, card = read_model_folder(path)
    return Weights(tensors, "model_folder", None, path, msgspec.to_builtins(card))


def _read_torch(path: Path, wrapper: str | None) -> tuple[Weights, bool]:
    """The weights, and whether they are known to be finite."""
    file = read_torch_file(path)
    found = find_weights(file.tree, path, wrapper)
    notes = [*file.notes, *found.notes]
    weights = Weights(found.tensors, "torch", found.wrapper, path, without_tensors(found.rest), notes)
    return weights, file.finite


def _refuse_unnamed(weights: Weights, wrapper: str | None) -> None:
    if wrapper not in (None, weights.wrapper):
        reason = f"no weights found under {wrapper!r}: a {weights.format} file holds one set of weights"
        raise CheckpointError(reason, path=weights.path)
    if not weights.tensors:
        raise CheckpointError("no weights found: the file holds no tensors", path=weights.path)
    odd = [key for key in weights.tensors if not key.isprintable() or not 0 < len(key) <= MAX_NAME]
    if odd:
        raise CheckpointError(
            f"the name of a tensor is not printable or too long: {shown(odd[0])!r}", path=weights.path
        )


def _precision_notes(tensors: dict[str, Tensor]) -> list[str]:
    """Half precision is kept as stored; whoever loads the tensors casts them to the target's dtype."""
    half = [tensor.dtype for tensor in tensors.values() if tensor.is_floating_point() and tensor.dtype.itemsize < 4]
    names = " and ".join(sorted({dtype_name(dtype) for dtype in half}))
    return [f"{len(half)} of {len(tensors)} tensors are stored in {names} and kept so"] if half else []


def _check_finite(weights: Weights, allow_nonfinite: bool) -> Weights:
    keys = nonfinite_keys(weights.tensors)
    if not keys:
        return weights
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    reason = f"NaN or infinite values in {', '.join(keys[:3])}{more}"
    if not allow_nonfinite:
        hint = "Take an earlier checkpoint of that training"
        raise CheckpointError(reason, path=weights.path, hint=hint)
    weights.notes.append(reason)
    return weights
