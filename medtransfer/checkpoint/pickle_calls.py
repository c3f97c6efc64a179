"""What a pickle may call, and with what: checked on shadows of the objects, before torch makes the call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from .tensor_checks import MAX_DIMENSIONS

_LATIN = ("latin1", "latin-1", "iso-8859-1")
STORAGE_BYTES: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(("torch.ByteStorage", "torch.CharStorage", "torch.BoolStorage"), 1),
        **dict.fromkeys(("torch.HalfStorage", "torch.BFloat16Storage", "torch.ShortStorage"), 2),
        **dict.fromkeys(("torch.FloatStorage", "torch.IntStorage"), 4),
        **dict.fromkeys(("torch.DoubleStorage", "torch.LongStorage", "torch.ComplexFloatStorage"), 8),
        "torch.ComplexDoubleStorage": 16,
        "torch.storage.UntypedStorage": 1,
    }
)


class PickleFaultError(ValueError):
    """The pickle asks for something that no file of plain weights needs."""


@dataclass(frozen=True)
class Name:
    """A global, named and not looked up."""

    text: str


@dataclass(frozen=True)
class Stored:
    """A reference to stored data; ``kind`` is the name of its type, such as ``torch.FloatStorage``."""

    nbytes: int
    itemsize: int
    kind: str


class Pack(NamedTuple):
    """A tuple; ``weight`` counts what it holds, all the way down."""

    items: list[Any]
    weight: int
    depth: int


_NO_REFERENCE = "its pickle refers to stored data in a way that torch does not"
OTHER, TENSOR = object(), object()
"""An object whose content does not matter here (a list, a dict, a result), and a tensor."""


def reference(identity: Any) -> dict[tuple[str, str], Stored]:
    """What a reference ``('storage', type, key, location, count[, view])`` claims; the last is what it refers to.

    A view (before torch 1.6) is a part of a storage, under a key of its own.
    """
    items = identity.items if isinstance(identity, Pack) else []
    if len(items) not in (5, 6) or items[0] != "storage" or not isinstance(items[1], Name):
        raise PickleFaultError(_NO_REFERENCE)
    kind, key, count = items[1].text, items[2], items[4]
    view: list[Any] = items[5].items if len(items) == 6 and isinstance(items[5], Pack) else ["", 0, 0]
    if kind not in STORAGE_BYTES or [type(key), *map(type, view)] != [str, str, int, int] or not _is_count(count):
        raise PickleFaultError(_NO_REFERENCE)
    if not all(map(_is_count, view[1:])) or view[1] + view[2] > count:
        raise PickleFaultError("truncated or damaged: a view claims more than is stored")
    size = STORAGE_BYTES[kind]
    whole = {(key, ""): Stored(count * size, size, kind)}
    return {**whole, (key, view[0]): Stored(view[2] * size, size, kind)} if view[0] else whole


def call(function: Any, arguments: list[Any]) -> Any:
    name = function.text if isinstance(function, Name) else ""
    if name in CALLS:
        return CALLS[name](arguments)
    if name in STORAGE_BYTES or name in ("torch.Tensor", "torch.nn.parameter.Parameter"):
        return refuse_call(name)
    return OTHER


def refuse_call(name: str) -> Any:
    raise PickleFaultError(f"its pickle would make memory by {name}, which no saved tensor needs")


def _encode(arguments: list[Any]) -> Any:
    """Bytes are written as text and the codec that turns it back; other codecs can be slow, or import modules."""
    if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] not in _LATIN:
        raise PickleFaultError("its pickle asks for another codec than the one for bytes")
    return OTHER


def _words(arguments: list[Any]) -> Any:
    if not all(isinstance(item, str) for item in arguments):
        raise PickleFaultError("its pickle holds a path or type that is not made of words")
    return OTHER


def _numpy_kind(arguments: list[Any]) -> Any:
    return _words(arguments[:1])


def _size(arguments: list[Any]) -> Any:
    """A torch.Size is a tuple, and counts as one."""
    return arguments[0] if arguments and isinstance(arguments[0], Pack) else OTHER


def _tensor(arguments: list[Any]) -> Any:
    _check_view(arguments, None)
    return TENSOR


def _untyped_tensor(arguments: list[Any]) -> Any:
    kind = arguments[6] if len(arguments) > 6 else None
    dtype = getattr(torch, kind.text.removeprefix("torch."), None) if isinstance(kind, Name) else None
    if not isinstance(dtype, torch.dtype):
        raise PickleFaultError("its pickle holds a tensor of no type")
    _check_view(arguments, dtype.itemsize)
    return TENSOR


def _check_view(arguments: list[Any], itemsize: int | None) -> None:
    """Storage, offset, size and strides: all that the tensor reaches must be stored."""
    stored, offset, size, stride = (*arguments, None, None, None, None)[:4]
    if not isinstance(stored, Stored) or not isinstance(size, Pack) or not isinstance(stride, Pack):
        raise PickleFaultError("its pickle builds a tensor from something else than stored data")
    numbers = [offset, *size.items, *stride.items]
    if not all(map(_is_count, numbers)) or not len(size.items) == len(stride.items) <= MAX_DIMENSIONS:
        raise PickleFaultError("its pickle holds a tensor with an impossible shape")
    last = offset + sum((count - 1) * step for count, step in zip(size.items, stride.items, strict=True))
    if 0 not in size.items and (last + 1) * (itemsize or stored.itemsize) > stored.nbytes:
        raise PickleFaultError("truncated or damaged: a tensor claims more than is stored for it")


def _parameter(arguments: list[Any]) -> Any:
    if arguments[:1] != [TENSOR]:
        raise PickleFaultError("its pickle makes a parameter from something else than a tensor")
    return TENSOR


def _typed(arguments: list[Any]) -> Any:
    """``_rebuild_from_type_v2(function, type, arguments, state)``: a tensor with attributes."""
    function, inner = (*arguments, None, None, None)[:3:2]
    name = function.text if isinstance(function, Name) else ""
    if not name.startswith("torch._utils._rebuild_") or not isinstance(inner, Pack):
        raise PickleFaultError("its pickle calls something else than a builder of tensors")
    return call(function, inner.items)


CALLS: Mapping[str, Callable[[list[Any]], Any]] = MappingProxyType(
    {
        "_codecs.encode": _encode,
        "numpy.dtype": _numpy_kind,
        "torch.Size": _size,
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_tensor_v3": _untyped_tensor,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_parameter_with_state": _parameter,
        "torch._tensor._rebuild_from_type_v2": _typed,
        **{
            f"{module}.{name}": _words
            for module in ("pathlib", "pathlib._local")
            for name in ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
        },
    }
)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0
