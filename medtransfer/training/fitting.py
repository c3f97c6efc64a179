"""Whether a checkpoint belongs to the network and the optimizer of a config; what differs is listed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ..errors import CheckpointError

SHOWN = 8
_HINT = "Resume with the config that the run was started with"


def refuse_other_network(
    model: nn.Module, weights: Mapping[str, torch.Tensor], saved: Any = None, stated: Any = None
) -> None:
    """Compare names and shapes; mmengine would load what fits and log the rest.

    Args:
        model: The network of the config.
        weights: The checkpoint's.
        saved: The section ``model`` of the config that the checkpoint was written under, if it is known.
        stated: That of the config now.

    Raises:
        CheckpointError: they differ; the entries of the config and the first tensors are listed.
    """
    own = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    theirs = {key: tuple(value.shape) for key, value in weights.items()}
    differing = [key for key in {**own, **theirs} if own.get(key) != theirs.get(key)]
    if not differing:
        return
    shown = [f"{key} {theirs.get(key, 'absent')} / {own.get(key, 'absent')}" for key in differing[:SHOWN]]
    more = f" and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
    words = [*_words(saved, stated, "model")] if saved and stated else []
    tensors = f"{len(differing)} tensors differ: {', '.join(shown)}{more}"
    reason = "; ".join(["the checkpoint is of another network (checkpoint / config)", *words[:SHOWN], tensors])
    raise CheckpointError(reason, hint=_HINT)


def _words(saved: Any, stated: Any, trail: str) -> Iterator[str]:
    """Entries of two configs that differ, by their dotted names."""
    if isinstance(saved, Mapping) and isinstance(stated, Mapping):
        for key in {**saved, **stated}:
            yield from _words(saved.get(key), stated.get(key), f"{trail}.{key}")
    elif saved != (list(stated) if isinstance(stated, tuple) else stated):
        yield f"{trail} {saved!r} / {stated!r}"


def refuse_other_optimizer(optimizer: Any, state: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Compare the kind, the groups and the shapes; torch would find out in the first step, or not at all.

    Raises:
        CheckpointError: the state is of another optimizer, or of other parameters.
    """
    kind, saved = type(optimizer).__name__, meta.get("optimizer_type")
    if saved not in (None, kind):
        raise CheckpointError(f"the checkpoint's optimizer is {saved}, the config's {kind}", hint=_HINT)
    groups = [len(group["params"]) for group in optimizer.param_groups]
    theirs = [len(group["params"]) for group in state.get("param_groups", ())]
    if groups != theirs:
        reason = f"the checkpoint's optimizer has groups of {theirs} parameters, the config's of {groups}"
        raise CheckpointError(reason, hint=f"{_HINT}; freezing and parameter groups belong to it")
    parameters = [value for group in optimizer.param_groups for value in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    for number, value in zip(numbers, parameters, strict=True):
        shapes = _shapes(state.get("state", {}).get(number, {}))
        if shapes - {tuple(value.shape)}:
            reason = f"the checkpoint's optimizer has {shapes} where the network has {tuple(value.shape)}"
            raise CheckpointError(reason, hint=_HINT)


def _shapes(entries: Mapping[str, Any]) -> set[tuple[int, ...]]:
    """Shapes of an optimizer's moments; the count of steps has none."""
    return {tuple(entry.shape) for entry in entries.values() if isinstance(entry, torch.Tensor) and entry.ndim}
