"""Turning what torch's loader built into plain data: tensors, numbers, words, lists and dicts, each checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .stand_ins import StandIn
from .tensor_checks import tensor_fault

MAX_DEPTH = 100
_SCALARS = (str, bytes, bool, int, float, complex, type(None), torch.dtype, torch.device)


class PlainTree:
    """One walk over a loaded checkpoint.

    Every object is visited once, so that lists that hold each other many times over cost no more than they weigh.
    ``tensors`` are all tensors met, each once.

    >>> tree = PlainTree()
    >>> tree.convert({"w": torch.nn.Parameter(torch.ones(1)), "n": (1, "a")})
    {'w': tensor([1.]), 'n': (1, 'a')}
    """

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self._done: dict[int, Any] = {}
        self._open: set[int] = set()
        self._kept: list[Any] = []  # keeps objects alive, so that no id is given twice

    def convert(self, value: Any, trail: tuple[str, ...] = ()) -> Any:
        """Return ``value`` as plain data.

        Raises:
            ValueError: it holds itself, is nested too deep, or holds a tensor or object that is not plain.
        """
        if isinstance(value, _SCALARS):
            return value
        if id(value) in self._done:
            return self._done[id(value)]
        if id(value) in self._open or len(trail) > MAX_DEPTH:
            raise ValueError(f"{_name(trail)} is nested without end")
        self._open.add(id(value))
        self._kept.append(value)
        self._done[id(value)] = plain = self._convert_object(value, trail)
        self._open.remove(id(value))
        return plain

    def _convert_object(self, value: Any, trail: tuple[str, ...]) -> Any:
        if isinstance(value, Tensor):
            return self._convert_tensor(value, trail)
        if isinstance(value, StandIn):
            return self.convert(value.plain(), (*trail, ""))
        if isinstance(value, dict):
            build: Callable[..., Any] = Counter if isinstance(value, Counter) else dict
            return build({self._key(key, trail): self.convert(item, (*trail, str(key))) for key, item in value.items()})
        if isinstance(value, list | tuple | set):
            items = (self.convert(item, (*trail, str(index))) for index, item in enumerate(value))
            return _sequence_kind(value)(items)
        raise ValueError(f"{_name(trail)} is a {type(value).__name__}, which is not plain data")

    def _key(self, key: Any, trail: tuple[str, ...]) -> Any:
        """Keys are plain too; a tuple of plain keys is one."""
        key = self.convert(key, (*trail, "key"))
        if isinstance(key, Tensor):
            raise ValueError(f"{_name(trail)} has a tensor as a key")
        return key

    def _convert_tensor(self, tensor: Tensor, trail: tuple[str, ...]) -> Tensor:
        if type(tensor) not in (Tensor, torch.nn.Parameter):
            raise ValueError(f"the tensor {_name(trail)} is a {type(tensor).__name__}")
        # by way of the class: a file can put attributes on a tensor, also such as hide its methods
        plain = Tensor.detach(tensor)
        if fault := tensor_fault(plain):
            raise ValueError(f"the tensor {_name(trail)} is {fault}")
        self.tensors.append(plain)
        return plain


def _sequence_kind(value: list[Any] | tuple[Any, ...] | set[Any]) -> type:
    return next(kind for kind in (list, tuple, set) if isinstance(value, kind))


def _name(trail: tuple[str, ...]) -> str:
    """The dotted place of a value in the file, shortened in the middle when it is deep."""
    parts = [part[:80] for part in trail if part]
    shown = parts if len(parts) <= 8 else [*parts[:4], "...", *parts[-3:]]
    return repr(".".join(shown)) if shown else "the file"
