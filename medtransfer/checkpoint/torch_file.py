"""Torch's own files (``.pth``, ``.pt``, ``.ckpt``), read as data: the one place where ``torch.load`` is called."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from .pickle_scan import TORCH_PICKLE_PROTOCOL, PickleScan, scan_pickle
from .plain_tree import PlainTree
from .source import identify, local_path
from .stand_ins import STAND_INS
from .tensor_checks import MAX_REUSE, MAX_TENSORS, total_bytes
from .torch_archive import MAX_PICKLE_BYTES, read_pickle
from .wording import shown

_LOADING = threading.Lock()  # torch's list of allowed globals belongs to the whole process
_LEGACY_PICKLES = 5  # magic number, version, system, the checkpoint itself, keys of the storages
_REBUILT = {
    "torch._utils._rebuild_sparse_tensor": "sparse tensors",
    "torch._utils._rebuild_sparse_csr_tensor": "sparse tensors",
    "torch._utils._rebuild_qtensor": "quantised tensors",
    "torch._utils._rebuild_meta_tensor_no_storage": "tensors on the meta device, without data",
    "torch._utils._rebuild_nested_tensor": "nested tensors",
    "torch._utils._rebuild_wrapper_subclass": "tensors of another class",
}


def load_torch_file(path: str | os.PathLike[str], *, allow: Mapping[str, Callable[..., Any]] = STAND_INS) -> Any:
    """Load what ``torch.save`` wrote, as a tree of tensors, numbers, words, lists, tuples and dicts.

    Nothing in the file is executed: torch's safe unpickler runs with ``weights_only=True`` and sees harmless
    stand-ins for the few foreign classes that checkpoints often hold (numpy numbers become Python's, numpy arrays
    tensors, ``argparse.Namespace`` and mmengine's ``HistoryBuffer`` dicts). Tensors are on the CPU, without gradient,
    and mapped from the file: no byte is copied before it is used.

    Args:
        path: The file; its suffix does not matter.
        allow: Names (``module.name``) of further globals, with the stand-ins that take their place.

    Raises:
        CheckpointError: whatever is wrong with the file; the reason says what.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "a.pth"
    >>> torch.save({"w": torch.ones(2), "epoch": 3}, file)
    >>> load_torch_file(file)
    {'w': tensor([1., 1.]), 'epoch': 3}
    """
    return read_torch_file(local_path(path), allow)[0]


def read_torch_file(path: Path, allow: Mapping[str, Callable[..., Any]] = STAND_INS) -> tuple[Any, list[str]]:
    """As :func:`load_torch_file`, with notes for the user beside the tree.

    Raises:
        CheckpointError: as :func:`load_torch_file`.
    """
    kind = identify(path)
    if kind == "safetensors" or path.is_dir():
        raise CheckpointError("is not a file of torch.save", path=path, hint="Read it with read_weights")
    scan, notes = _scan_archive(path) if kind == "torch" else _scan_legacy(path)
    _refuse_code(path, scan, allow)
    return _plain(path, _load(path, kind == "torch", allow)), notes


def _refuse_code(path: Path, scan: PickleScan, allow: Mapping[str, Callable[..., Any]]) -> None:
    """Refuse a pickle that names anything but plain data; the reason lists what it names."""
    refused = scan.refused(allow)
    unusual = sorted({_REBUILT[name] for name in refused if name in _REBUILT})
    if unusual and all(name.startswith("torch.") for name in refused):
        raise CheckpointError(f"holds {' and '.join(unusual)}", path=path, hint="Save dense tensors on the CPU")
    if any(name.startswith("torch.nn.modules.") for name in refused):
        reason = f"contains code objects ({_listed(refused)}): a whole network was saved"
        hint = "Where it was made, re-save state_dict: torch.save(model.state_dict(), path)"
        raise CheckpointError(reason, path=path, hint=hint)
    if refused:
        hint = "Ask for a file of tensors only (a state dict, or safetensors)"
        raise CheckpointError(f"refused: it would call or build {_listed(refused)}", path=path, hint=hint)
    if scan.protocol != TORCH_PICKLE_PROTOCOL:
        reason = f"written with pickle protocol {scan.protocol}; only torch's own, {TORCH_PICKLE_PROTOCOL}, is read"
        raise CheckpointError(reason, path=path, hint="Re-save it with torch.save(state_dict, path)")
    if scan.storages > MAX_TENSORS:
        raise CheckpointError(f"holds more than {MAX_TENSORS} tensors", path=path)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(map(shown, names[:6])) + more


def _scan_archive(path: Path) -> tuple[PickleScan, list[str]]:
    data, notes = read_pickle(path)
    with _damage_named(path):
        return scan_pickle(io.BytesIO(data)), notes


def _scan_legacy(path: Path) -> tuple[PickleScan, list[str]]:
    """The five pickles that stand one after another in files of torch < 1.6, before the raw storages."""
    with _damage_named(path), path.open("rb") as file:
        scans = [scan_pickle(file) for _ in range(_LEGACY_PICKLES)]
        if file.tell() > MAX_PICKLE_BYTES:
            raise CheckpointError(f"its pickles are larger than {MAX_PICKLE_BYTES >> 20} MiB", path=path)
    names = tuple(dict.fromkeys(name for scan in scans for name in scan.globals))
    scan = PickleScan(names, sum(scan.storages for scan in scans), max(scan.protocol for scan in scans))
    return scan, ["written before torch 1.6, without checksums: damage in the weights would not be seen"]


def _load(path: Path, is_archive: bool, allow: Mapping[str, Callable[..., Any]]) -> Any:
    # torch hands names that end so to safetensors, whatever they hold; given the open file it cannot
    mapped = is_archive and path.suffix != ".safetensors"
    with _damage_named(path), path.open("rb") as file, _only_allowed(allow):
        return torch.load(str(path) if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)


@contextmanager
def _only_allowed(allow: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Let torch's unpickler see the stand-ins and nothing that someone else allowed in this process."""
    with _LOADING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        others = torch.serialization.get_safe_globals()
        torch.serialization.clear_safe_globals()
        try:
            with torch.serialization.safe_globals([(stand_in, name) for name, stand_in in allow.items()]):
                yield
        finally:
            torch.serialization.add_safe_globals(others)


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Whatever a damaged file makes the parsers raise (KeyError '101', EOFError, OSError 22 ...) becomes one error."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        detail = shown(str(error).strip().partition("\n")[0], 160) or type(error).__name__
        raise CheckpointError(
            f"truncated or damaged ({detail})", path=path, hint="Download or copy it again"
        ) from error


def _plain(path: Path, loaded: Any) -> Any:
    tree = PlainTree()
    try:
        plain = tree.convert(loaded)
    except (ValueError, TypeError, IndexError, RuntimeError, AttributeError, RecursionError) as error:
        raise CheckpointError(shown(error, 300), path=path, hint="Save dense tensors and plain numbers") from error
    if total_bytes(tree.tensors) > MAX_REUSE * path.stat().st_size:
        raise CheckpointError(f"its tensors claim more than {MAX_REUSE} times the size of the file", path=path)
    return plain
