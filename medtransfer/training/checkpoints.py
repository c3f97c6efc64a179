"""Training checkpoints that hold plain data only, are written whole or not at all, and resume bit-exactly."""

from __future__ import annotations

import random
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import Tensor

from ..checkpoint.torch_file import load_torch_file
from ..errors import CheckpointError, ResourceError
from ..files import atomic_file

NAME = re.compile(r"(?:epoch|iter)_(\d+)\.pth")
LAST = "last_checkpoint"
_BLOCK = 2**24
_REMOTE = (r"\w[\w+.-]*:",)  # any scheme, as in https://, torchvision://, open-mmlab://, s3://


class AtomicBackend(LocalBackend):
    """mmengine's local files, where a write that fails leaves the older file as it was."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes and read them back; the file appears whole or not at all.

        Raises:
            ResourceError: the disk is full, or the folder cannot be written.
        """
        with atomic_file(filepath, overwrite=True) as part:
            part.write_bytes(obj)
            if not _reads_back(part, memoryview(obj)):
                raise ResourceError("does not read back as it was written", path=filepath, hint="Check the disk")

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Write text, in the same way."""
        self.put(obj.encode(encoding), filepath)


def _reads_back(path: Path, written: memoryview) -> bool:
    with path.open("rb") as file:
        blocks = (written[start : start + _BLOCK] for start in range(0, len(written), _BLOCK))
        return all(file.read(_BLOCK) == block for block in blocks) and not file.read(1)


def install() -> None:
    """Let mmengine write atomically, and read checkpoints as data from local files only, in this process."""
    register_backend("local", AtomicBackend, force=True, prefixes="")
    schemes = [prefix for prefix in CheckpointLoader._schemes if prefix]
    CheckpointLoader.register_scheme([*schemes, *_REMOTE], loader=_refuse_remote, force=True)
    CheckpointLoader.register_scheme("", loader=load_from_local, force=True)


def _refuse_remote(filename: str, map_location: Any = None) -> Any:
    raise CheckpointError(f"{filename!r} is not a local file: local files only", hint="Download it, then name the file")


def load_from_local(filename: str, map_location: Any = None) -> Any:
    return load_torch_file(filename)


def tidy(work_dir: str | Path) -> None:
    """Clear away what a run that was killed amid writing left behind; ``best`` is put back if its swap was cut."""
    work_dir = Path(work_dir)
    old, best = work_dir / "best.old", work_dir / "best"
    if old.is_dir() and not best.exists():
        old.rename(best)
    for folder in (old, work_dir / "best.part"):
        shutil.rmtree(folder, ignore_errors=True)
    for part in (*work_dir.glob("*.part.*"), *work_dir.glob("*.part")):
        part.unlink(missing_ok=True)


def find_resumable(work_dir: str | Path) -> tuple[Path, list[str]]:
    """The newest checkpoint of a training folder that can be read.

    ``last_checkpoint`` is not asked: it may be missing, name a folder of another machine, or be older than the newest
    file when a run was killed between the two.

    Returns:
        The file, and a note for each newer file that was damaged, with what is lost by it.

    Raises:
        CheckpointError: there is none.
    """
    work_dir = Path(work_dir)
    found, notes = [], []
    for kind in ("epoch", "iter"):
        position, path, faults = _newest(work_dir, kind)
        notes += faults
        if path is not None:
            found.append((position, path))
    if not found:
        reason = "; ".join(notes) or "there is no epoch_*.pth or iter_*.pth to resume"
        raise CheckpointError(reason, path=work_dir, hint="Name the checkpoint, or train anew without --resume")
    return max(found)[1], notes


def _newest(work_dir: Path, kind: str) -> tuple[tuple[int, int], Path | None, list[str]]:
    """The newest sound file of a kind with its place in the run (steps, epochs), and notes on newer ones."""
    numbered = {int(match[1]): path for path in work_dir.glob(f"{kind}_*.pth") if (match := NAME.fullmatch(path.name))}
    faults: dict[int, str] = {}
    for number in sorted(numbered, reverse=True):
        try:
            meta = check_resumable(numbered[number])["meta"]
        except CheckpointError as error:
            faults[number] = error.reason
            continue
        words = {"epoch": "epoch", "iter": "step"}[kind]
        notes = [
            f"{numbered[bad].name} cannot be resumed ({fault}); {numbered[number].name} lacks its last "
            f"{bad - number} {words}{'s' * (bad - number > 1)}"
            for bad, fault in faults.items()
        ]
        return (int(meta.get("iter", 0)), int(meta.get("epoch", 0))), numbered[number], notes
    return (-1, -1), None, [f"{numbered[bad].name} cannot be resumed ({fault})" for bad, fault in faults.items()]


def check_resumable(path: str | Path) -> Mapping[str, Any]:
    """Read a checkpoint and see that training could go on from it.

    Raises:
        CheckpointError: it cannot be read, or lacks a part.
    """
    checkpoint = load_torch_file(path)
    needed = ("meta", "state_dict", "message_hub", "optimizer")
    missing = [key for key in needed if not (isinstance(checkpoint, dict) and isinstance(checkpoint.get(key), dict))]
    if missing:
        hint = "Weights alone are taken over by transfer=dict(source=...)"
        raise CheckpointError(f"is no training checkpoint: {', '.join(missing)} missing", path=path, hint=hint)
    wrong = not_finite(checkpoint["state_dict"])
    if wrong:
        reason = f"{len(wrong)} of its tensors hold NaN or infinity, {wrong[0]} among them"
        raise CheckpointError(reason, path=path, hint="Resume from an older checkpoint")
    return checkpoint


def not_finite(weights: Mapping[str, Any]) -> list[str]:
    """Names of the tensors that hold a NaN or an infinity.

    >>> not_finite({"a": torch.ones(2), "b": torch.tensor([1.0, float("nan")]), "c": torch.arange(3)})
    ['b']
    """
    return [
        name
        for name, value in weights.items()
        if isinstance(value, Tensor) and value.is_floating_point() and not bool(value.isfinite().all())
    ]


def as_plain(value: Any) -> Any:
    """Tensors, numbers, words, lists and dicts; entries of a dict that cannot be so (functions) are left out.

    >>> as_plain({"a": np.float64(1.5), "b": [np.arange(2)], "c": len})
    {'a': 1.5, 'b': [tensor([0, 1])]}
    """
    if isinstance(value, HistoryBuffer):
        return _plain_history(value)
    if isinstance(value, Mapping):
        return {key: as_plain(item) for key, item in value.items() if _can_be_plain(item)}
    if isinstance(value, list | tuple):
        return type(value)(as_plain(item) for item in value) if type(value) in (list, tuple) else list(value)
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    return value.item() if isinstance(value, np.generic) else value


def _can_be_plain(value: Any) -> bool:
    plain = (Tensor, HistoryBuffer, Mapping, list, tuple, np.ndarray, np.generic, str, bytes, bool, int, float)
    return value is None or isinstance(value, plain)


def _plain_history(history: HistoryBuffer) -> dict[str, Any]:
    values, counts = history.data
    return {"values": values.tolist(), "counts": counts.tolist(), "max_length": history.max_length}


def as_history(record: Any) -> HistoryBuffer | None:
    """A history again, from the record above or from what the safe reader makes of mmengine's own."""
    if not isinstance(record, Mapping):
        return None
    values = record.get("values", record.get("_log_history"))
    counts = record.get("counts", record.get("_count_history"))
    if values is None or counts is None or len(values) != len(counts):
        return None
    length = int(record.get("max_length", 1_000_000))
    return HistoryBuffer(_as_list(values), _as_list(counts), max_length=length)


def _as_list(values: Any) -> list[float]:
    return values.tolist() if isinstance(values, Tensor) else list(values)


def random_states() -> dict[str, Any]:
    """The states of the generators of torch, CUDA, numpy and Python, as plain data."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002 - the global one
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "python": [version, list(words), gauss],
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Set the generators to what :func:`random_states` gave; a warning tells when there are other CUDA devices now.

    >>> before = random_states()
    >>> first = random.random()
    >>> restore_random_states(before)
    >>> random.random() == first
    True
    """
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002 - the global one
    torch.set_rng_state(states["torch"])
    saved, devices = list(states.get("cuda") or ()), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if len(saved) != devices:
        text = f"the checkpoint has the random states of {len(saved)} CUDA devices, this machine has {devices}"
        warnings.warn(f"{text}: the run goes on, but not bit for bit as it would have", stacklevel=2)
    for number, state in enumerate(saved[:devices]):
        torch.cuda.set_rng_state(state.cpu(), number)
