"""A pickle's tree of shadows made real: tensors that stand where the file is mapped, without torch's own unpickler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, UntypedStorage

from .pickle_calls import STORAGE_DTYPES, Name, Pack, Stored, TensorShadow

_DTYPES = {str(dtype): dtype for dtype in STORAGE_DTYPES.values()}


class ShadowTree:
    """Turns what the machine left into what ``torch.load(mmap=True)`` would give, in place.

    Args:
        mapped: The file's bytes, of which none is copied.
        ranges: Key of a storage -> where its bytes begin and end.
    """

    def __init__(self, mapped: UntypedStorage, ranges: Mapping[str, tuple[int, int]]) -> None:
        self._mapped, self._ranges = mapped, ranges
        self._storages: dict[str, UntypedStorage] = {}
        self._done: dict[int, Any] = {}
        self._open: list[list[Any] | dict[Any, Any]] = []

    def real(self, shadow: Any) -> Any:
        """The tree; lists and dicts may hold each other or themselves.

        Raises:
            LookupError, RuntimeError, TypeError, ValueError, OverflowError: torch's own loader must judge it.
        """
        root = self._real(shadow)
        while self._open:
            container = self._open.pop()
            places = container.items() if isinstance(container, dict) else enumerate(container)
            for place, value in list(places):
                container[place] = self._real(value)
        return root

    def _real(self, value: Any) -> Any:
        if isinstance(value, Pack | TensorShadow | list | dict):
            if id(value) not in self._done:
                self._done[id(value)] = (value, self._made(value))  # kept, so that no id is given twice
            return self._done[id(value)][1]
        if isinstance(value, Stored):
            raise TypeError("stored data without a tensor")
        return _DTYPES[value.text] if isinstance(value, Name) else value

    def _made(self, value: Any) -> Any:
        if isinstance(value, TensorShadow):
            return self._tensor(value)
        if isinstance(value, Pack):  # the machine bounds how deep they are
            return tuple(map(self._real, value.items))
        self._open.append(value)
        return value

    def _tensor(self, shadow: TensorShadow) -> Tensor:
        stored = shadow.stored
        if stored.key not in self._storages:
            begin, end = self._ranges[stored.key]
            self._storages[stored.key] = self._mapped[begin:end]
        empty = torch.empty(0, dtype=STORAGE_DTYPES[stored.kind], device="cpu")
        return empty.set_(self._storages[stored.key], shadow.offset, shadow.size, shadow.stride)
