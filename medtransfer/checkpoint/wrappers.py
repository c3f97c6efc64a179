"""Where in a checkpoint the weights stand: at the top, or wrapped under ``state_dict``, ``model``, ``teacher`` ..."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import CheckpointError
from .wording import shown

#: Known wrapper keys, the preferred first: of student and teacher, or of a model and its average, the trained one.
WRAPPERS = (
    "state_dict",
    "network_weights",
    "model_state_dict",
    "net",
    "network",
    "model",
    "student",
    "teacher",
    "state_dict_ema",
    "model_ema",
    "weights",
    "params",
)

_NOT_WEIGHTS = ("optim", "sched", "scaler", "grad_scaler", "rng", "message_hub")
_MAX_DEPTH = 4


@dataclass(frozen=True)
class Found:
    """Weights taken out of a checkpoint: the tensors, the dotted key they stood under, and all that stood beside."""

    tensors: dict[str, Tensor]
    wrapper: str | None
    rest: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def find_weights(tree: Any, path: Path, wrapper: str | None = None) -> Found:
    """Find the mapping of names to tensors in a checkpoint.

    Args:
        tree: What :func:`~medtransfer.checkpoint.torch_file.load_torch_file` gave.
        path: The file, for errors.
        wrapper: The dotted key to take, None to choose.

    Raises:
        CheckpointError: no weights there; the reason says what the file holds instead.

    >>> import torch
    >>> found = find_weights({"model": {"fc.bias": torch.ones(1)}, "epoch": 3}, Path("a.pth"))
    >>> found.wrapper, list(found.tensors), found.rest
    ('model', ['fc.bias'], {'epoch': 3})
    """
    if not isinstance(tree, Mapping):
        reason = f"no weights found: the file holds a {type(tree).__name__}, not names with tensors"
        raise CheckpointError(reason, path=path, hint="Save model.state_dict()")
    sets = {".".join(trail): mapping for trail, mapping in _weight_sets(tree, ())}
    chosen = _choose(sets, wrapper)
    if chosen is None:
        missing = "" if wrapper is None else f" under {wrapper!r}"
        raise CheckpointError(f"no weights found{missing}; {_describe_keys(tree)}", path=path)
    tensors = {key: value for key, value in sets[chosen].items() if isinstance(value, Tensor) and isinstance(key, str)}
    return Found(tensors, chosen or None, _rest(tree, chosen), _notes(sets, chosen, tensors))


def without_tensors(tree: Mapping[Any, Any]) -> dict[str, Any]:
    """The part of a checkpoint that is plain data: words, numbers, lists and dicts with words as keys.

    >>> import torch
    >>> without_tensors({"epoch": 3, "plans": {"patch": (8, 8, 8)}, "optimizer": {"state": {0: torch.ones(1)}}})
    {'epoch': 3, 'plans': {'patch': [8, 8, 8]}, 'optimizer': {'state': {}}}
    """
    return {key: _plain(value) for key, value in tree.items() if isinstance(key, str) and _is_plain(value)}


def _weight_sets(
    tree: Mapping[Any, Any], trail: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """All mappings that hold tensors, known wrappers first, then the level itself, then unknown names."""
    nested = {key: value for key, value in tree.items() if isinstance(key, str) and isinstance(value, Mapping)}
    known = [key for key in WRAPPERS if key in nested]
    unknown = [key for key in nested if key not in WRAPPERS and not key.startswith(_NOT_WEIGHTS)]
    deeper = len(trail) < _MAX_DEPTH
    for key in known if deeper else ():
        yield from _weight_sets(nested[key], (*trail, key))
    if any(isinstance(value, Tensor) and isinstance(key, str) for key, value in tree.items()):
        yield trail, tree
    for key in unknown if deeper else ():
        yield from _weight_sets(nested[key], (*trail, key))


def _choose(sets: Mapping[str, Mapping[Any, Any]], wrapper: str | None) -> str | None:
    if wrapper is not None:
        return wrapper if wrapper in sets else None
    leaders = [name for name in sets if name == "" or name.split(".")[0] in WRAPPERS]
    if leaders:
        return leaders[0]
    return max(sets, key=lambda name: len(sets[name]), default=None)


def _notes(sets: Mapping[str, Mapping[Any, Any]], chosen: str, tensors: Mapping[str, Tensor]) -> list[str]:
    notes = [f"weights found under {chosen!r}"] if chosen else []
    others = [name for name in sets if name and name != chosen and not name.startswith(f"{chosen}.")]
    if others:
        notes.append(f"the file also holds weights under {', '.join(map(repr, others[:5]))}, not taken")
    skipped = [str(key) for key in sets[chosen] if key not in tensors]
    if chosen and skipped:
        notes.append(
            f"{len(skipped)} entries beside the weights are not tensors and were left: {shown(skipped[0])!r} ..."
        )
    return notes


def _rest(tree: Mapping[Any, Any], chosen: str) -> dict[str, Any]:
    """The checkpoint without the branch that was taken; of a bare state dict, what is no tensor."""
    top = chosen.split(".")[0]
    return {key: value for key, value in tree.items() if isinstance(key, str) and key != top}


def _describe_keys(tree: Mapping[Any, Any]) -> str:
    if not tree:
        return "the file holds an empty dict"
    names = ", ".join(shown(key, 60) for key in list(tree)[:6])
    return f"keys are {names}{' ...' if len(tree) > 6 else ''}"


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | bool | int | float | list | tuple | Mapping)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_tensors(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value if _is_plain(item)]
    return value
