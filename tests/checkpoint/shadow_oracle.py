"""The oracle of the tree from shadows: what torch's own loader makes of the same file.

``torch_file._load`` is the one place where torch's loader is called, so it tells which way was taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medtransfer.checkpoint import torch_file
from medtransfer.checkpoint.torch_file import read_torch_file
from medtransfer.errors import CheckpointError


@contextmanager
def ways() -> Iterator[list[str]]:
    """The calls of torch's loader while the block runs."""
    calls: list[str] = []
    original = torch_file._load
    torch_file._load = lambda *arguments: (calls.append("torch"), original(*arguments))[1]
    try:
        yield calls
    finally:
        torch_file._load = original


def _by_torch(path: Path) -> Any:
    original = torch_file._from_shadows
    torch_file._from_shadows = lambda *_arguments: None
    try:
        return read_torch_file(path)
    finally:
        torch_file._from_shadows = original


def outcome(read: Callable[[Path], Any], path: Path) -> Any:
    try:
        return read(path)
    except CheckpointError as error:
        return str(error)


def assert_same(one: Any, other: Any) -> None:
    """Of the same types and values all the way down, and shared where the other is shared."""
    twins: dict[int, Any] = {}
    storages: dict[int, int] = {}
    _assert_same(one, other, twins, storages)
    assert len(set(storages.values())) == len(storages)


def _assert_same(one: Any, other: Any, twins: dict[int, Any], storages: dict[int, int]) -> None:
    assert type(one) is type(other)
    if isinstance(one, Tensor | list | dict):
        assert twins.setdefault(id(one), other) is other
    if isinstance(one, Tensor):
        _assert_same_tensor(one, other, storages)
    elif isinstance(one, dict):
        assert [(type(key), key) for key in one] == [(type(key), key) for key in other]
        for key in one:
            _assert_same(one[key], other[key], twins, storages)
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            _assert_same(mine, theirs, twins, storages)
    else:
        assert one == other or (one != one and other != other)


def _assert_same_tensor(one: Tensor, other: Tensor, storages: dict[int, int]) -> None:
    for of in (Tensor.stride, Tensor.storage_offset, Tensor.is_conj, Tensor.is_neg, Tensor.size):
        assert of(one) == of(other)
    assert (one.dtype, one.device, one.requires_grad) == (other.dtype, other.device, other.requires_grad)
    mine, theirs = one.untyped_storage(), other.untyped_storage()
    assert mine.nbytes() == theirs.nbytes()
    assert torch.equal(_raw(mine), _raw(theirs))
    if mine.nbytes():
        assert storages.setdefault(mine._cdata, theirs._cdata) == theirs._cdata


def assert_as_torch(path: Path, by_shadows: bool | None = True) -> None:
    """Both ways give the same; ``by_shadows`` says which must be taken, None that either may be."""
    with ways() as calls:
        mine = outcome(read_torch_file, path)
    if by_shadows is not None:
        assert calls == ([] if by_shadows else ["torch"])
    theirs = outcome(_by_torch, path)
    assert isinstance(mine, str) == isinstance(theirs, str), (mine, theirs)
    if isinstance(mine, str):
        assert mine == theirs
    else:
        assert_same(mine.tree, theirs.tree)
        assert mine[1:] == theirs[1:]


def _raw(storage: torch.UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8, device="cpu").set_(storage)
