"""Reading ``.safetensors``: the header is checked here first, since the library takes the last of two equal keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import CheckpointError
from .source import unreadable
from .strict_json import parse_json
from .tensor_checks import MAX_TENSORS, tensor_fault
from .wording import COPY_AGAIN, shown

#: Over 300 for each of 50 000 tensors; parsed JSON takes up to thirty times its size.
MAX_HEADER_BYTES = 16 << 20


def load_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read all tensors of a safetensors file, mapped from it, and the words of its ``__metadata__``.

    Raises:
        CheckpointError: the file is damaged or repeats a key; the reason says how.

    >>> import tempfile, torch
    >>> from safetensors.torch import save_file
    >>> path = Path(tempfile.mkdtemp()) / "a.safetensors"
    >>> save_file({"w": torch.ones(2)}, path, metadata={"made": "here"})
    >>> load_safetensors(path)
    ({'w': tensor([1., 1.])}, {'made': 'here'})
    """
    header = _read_header(path)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise _damaged(path, str(error)) from error
    for key, tensor in tensors.items():
        if fault := tensor_fault(tensor):
            raise CheckpointError(f"the tensor {shown(key)!r} is {fault}", path=path, hint="Save dense tensors")
    metadata = header.get("__metadata__") or {}
    return tensors, {str(key): str(value) for key, value in metadata.items()}


def _read_header(path: Path) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(size - 8, MAX_HEADER_BYTES):
                raise _damaged(path, f"the header should be {length} bytes long, the file is {size}")
            header = parse_json(file.read(length))
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise error if isinstance(error, CheckpointError) else _damaged(path, f"header: {error}") from error
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__") or {}, dict):
        raise _damaged(path, "header: not a JSON object")
    if len(header) > MAX_TENSORS:
        raise CheckpointError(f"holds {len(header)} tensors, more than the {MAX_TENSORS} that are read", path=path)
    return header


def _damaged(path: Path, detail: str) -> CheckpointError:
    reason = f"truncated or damaged safetensors file ({shown(detail, 200)})"
    return CheckpointError(reason, path=path, hint=COPY_AGAIN)
