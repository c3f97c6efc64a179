"""Torch's own files (``.pth``, ``.pt``, ``.ckpt``), read as data: the one place where ``torch.load`` is called."""

from __future__ import annotations

import mmap
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..errors import CheckpointError
from .pickle_scan import TORCH_PICKLE_PROTOCOL, PickleScan, scan_pickle
from .plain_tree import PlainTree
from .shadow_tree import ShadowTree
from .source import identify, local_path, read_steadily
from .stand_ins import STAND_INS
from .tensor_checks import MAX_REUSE, MAX_TENSORS, total_bytes
from .torch_archive import Archive, Checks, checking, read_archive
from .wording import COPY_AGAIN, shown

_PLAIN = "Ask for a file of tensors and plain numbers only"
_LOADING = threading.Lock()  # torch's list of allowed globals belongs to the whole process
_NO_SUMS = "written without checksums (set_crc32_options(False)): damage would not be seen"
_NO_SUMS_THEN = "written before torch 1.6, without checksums: damage in the weights would not be seen"
_LEGACY_PICKLES = 5  # magic number, version, system, the checkpoint itself, keys of the storages
_REBUILT = {
    "torch._utils._rebuild_sparse_tensor": "sparse tensors",
    "torch._utils._rebuild_sparse_csr_tensor": "sparse tensors",
    "torch._utils._rebuild_qtensor": "quantised tensors",
    "torch._utils._rebuild_meta_tensor_no_storage": "tensors on the meta device, without data",
    "torch._utils._rebuild_nested_tensor": "nested tensors",
    "torch._utils._rebuild_wrapper_subclass": "tensors of another class",
}


class TorchFile(NamedTuple):
    """A file's tree, notes for the user, and whether all its numbers are known to be finite."""

    tree: Any
    notes: list[str]
    finite: bool


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
    return read_torch_file(local_path(path), allow).tree


def read_torch_file(path: Path, allow: Mapping[str, Callable[..., Any]] = STAND_INS) -> TorchFile:
    """As :func:`load_torch_file`, with what was noticed beside the tree.

    Raises:
        CheckpointError: as :func:`load_torch_file`.
    """
    kind = identify(path)
    if kind == "safetensors" or path.is_dir():
        raise CheckpointError("is not a file of torch.save", path=path, hint="Read it with read_weights")
    return read_steadily(path, lambda path: _read(path, allow))


def _read(path: Path, allow: Mapping[str, Callable[..., Any]]) -> TorchFile:
    if identify(path) != "torch":
        _refuse_code(path, _scan_legacy(path), allow)
        return TorchFile(_plain(path, _load(path, False, allow)), [_NO_SUMS_THEN], finite=False)
    archive = read_archive(path)
    with _damage_named(path):
        scan = scan_pickle(archive.pickle)
    _refuse_code(path, scan, allow)
    _refuse_sizes(path, scan, archive)
    kinds = {f"data/{key}": claim.kind for key, claim in scan.stored.items()}
    with checking(path, archive, kinds) as checks:
        loaded = _from_shadows(scan, archive, checks)
        if loaded is None:
            with _damage_named(path):
                loaded = _load(path, True, allow)
        # damage is the reason to give, whatever the damaged tensors look like
        all_finite = checks.all_finite()
        tree = _plain(path, loaded)
    # numpy's arrays stand in the pickle itself
    sure = all_finite and archive.is_little_endian and not any(name.startswith("numpy") for name in scan.globals)
    return TorchFile(tree, [] if archive.has_sums else [_NO_SUMS], sure)


def _from_shadows(scan: PickleScan, archive: Archive, checks: Checks) -> Any:
    """What ``torch.load`` would give, at a fraction of its time; None where that is not certain, or nothing."""
    default = torch.serialization.get_default_load_endianness()
    is_little = sys.byteorder == "little" and default in (None, torch.serialization.LoadEndianness.LITTLE)
    if not (archive.is_usual and archive.has_sums and is_little):
        return None
    places = {key: checks.ranges[f"data/{key}"] for key in scan.stored if f"data/{key}" in checks.ranges}
    with suppress(LookupError, RuntimeError, TypeError, ValueError, OverflowError):
        return ShadowTree(checks.mapped, places).real(scan.tree)
    return None


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
    if scan.references > MAX_TENSORS:
        raise CheckpointError(f"holds more than {MAX_TENSORS} tensors", path=path)
    if scan.fault:
        raise CheckpointError(scan.fault, path=path, hint=_PLAIN)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(map(shown, names[:6])) + more


def _refuse_sizes(path: Path, scan: PickleScan, archive: Archive) -> None:
    """torch maps as many bytes as the pickle claims, whatever the entry holds."""
    for key, claim in scan.stored.items():
        member = archive.members.get(f"data/{key}")
        if claim.nbytes != (member.file_size if member else 0):
            reason = f"truncated or damaged: data/{shown(key)} should hold {claim.nbytes} bytes"
            raise CheckpointError(reason, path=path, hint=COPY_AGAIN)


def _scan_legacy(path: Path) -> PickleScan:
    """The five pickles that stand one after another in files of torch < 1.6, before the raw storages."""
    scans: list[PickleScan] = []
    with _damage_named(path), path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for _ in range(_LEGACY_PICKLES):
            scans.append(scan_pickle(data, scans[-1].end if scans else 0))
            if scans[-1].fault:
                break
        size = len(data)
    scan = _joined(scans)
    if scan.claimed > size and not scan.fault:
        reason = f"truncated or damaged: its tensors should hold {scan.claimed} bytes, the file has {size}"
        raise CheckpointError(reason, path=path, hint=COPY_AGAIN)
    return scan


def _joined(scans: list[PickleScan]) -> PickleScan:
    return PickleScan(
        globals=tuple(dict.fromkeys(name for scan in scans for name in scan.globals)),
        references=sum(scan.references for scan in scans),
        stored={key: claim for scan in scans for key, claim in scan.stored.items()},
        protocol=max(scan.protocol for scan in scans),
        fault=scans[-1].fault,
        end=scans[-1].end,
    )


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
        if type(error).__name__ == "UnpicklingError":  # torch's own words advise to load without safety
            raise CheckpointError("its pickle does what plain data does not need", path=path, hint=_PLAIN) from error
        detail = shown(str(error).strip().partition("\n")[0], 160) or type(error).__name__
        raise CheckpointError(f"truncated or damaged ({detail})", path=path, hint=COPY_AGAIN) from error


def _plain(path: Path, loaded: Any) -> Any:
    tree = PlainTree()
    try:
        plain = tree.convert(loaded)
    except (ValueError, TypeError, IndexError, RuntimeError, AttributeError, RecursionError) as error:
        raise CheckpointError(shown(error, 300), path=path, hint="Save dense tensors and plain numbers") from error
    if total_bytes(tree.tensors) > MAX_REUSE * path.stat().st_size:
        raise CheckpointError(f"its tensors claim more than {MAX_REUSE} times the size of the file", path=path)
    return plain
