"""What a pickle may call, and with what: checked on shadows of the objects, before torch makes the call."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from operator import mul
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from .tensor_checks import MAX_DIMENSIONS

_LATIN = ("latin1", "latin-1", "iso-8859-1")
STORAGE_DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "torch.FloatStorage": torch.float32,
        "torch.DoubleStorage": torch.float64,
        "torch.HalfStorage": torch.float16,
        "torch.BFloat16Storage": torch.bfloat16,
        "torch.ByteStorage": torch.uint8,
        "torch.CharStorage": torch.int8,
        "torch.ShortStorage": torch.int16,
        "torch.IntStorage": torch.int32,
        "torch.LongStorage": torch.int64,
        "torch.BoolStorage": torch.bool,
        "torch.ComplexFloatStorage": torch.complex64,
        "torch.ComplexDoubleStorage": torch.complex128,
    }
)
STORAGE_BYTES: Mapping[str, int] = MappingProxyType(
    {**{kind: dtype.itemsize for kind, dtype in STORAGE_DTYPES.items()}, "torch.storage.UntypedStorage": 1}
)


class PickleFaultError(ValueError):
    """The pickle asks for something that no file of plain weights needs."""


class Name(NamedTuple):
    """A global, named and not looked up."""

    text: str


class Stored(NamedTuple):
    """A reference to stored data; ``kind`` is the name of its type, such as ``torch.FloatStorage``."""

    nbytes: int
    itemsize: int
    kind: str
    key: str = ""


class Pack(NamedTuple):
    """A tuple; ``weight`` counts what it holds, all the way down; ``exact`` as of a tensor."""

    items: list[Any]
    weight: int
    depth: int
    exact: bool = True


class TensorShadow(NamedTuple):
    """A tensor: of what it is a view, and how; not ``exact`` if torch makes more of it, or may refuse it."""

    stored: Stored
    offset: int
    size: list[int]
    stride: list[int]
    exact: bool


_NO_REFERENCE = "its pickle refers to stored data in a way that torch does not"
#: An object of which nothing is known here.
OTHER = object()


def reference(identity: Any) -> dict[tuple[str, str], Stored]:
    """What a reference ``('storage', type, key, location, count[, view])`` claims; the last is what it refers to.

    A view (before torch 1.6) is a part of a storage, under a key of its own.
    """
    items = identity.items if isinstance(identity, Pack) else []
    if len(items) not in (5, 6) or items[0] != "storage" or not isinstance(items[1], Name):
        raise PickleFaultError(_NO_REFERENCE)
    kind, key, count = items[1].text, items[2], items[4]
    if kind not in STORAGE_BYTES or type(key) is not str or not _is_count(count):
        raise PickleFaultError(_NO_REFERENCE)
    size = STORAGE_BYTES[kind]
    whole = {(key, ""): Stored(count * size, size, kind, key)}
    if len(items) == 5 or not isinstance(items[5], Pack):
        return whole
    view = items[5].items
    if [*map(type, view)] != [str, int, int] or view[1] < 0 or view[2] < 0:
        raise PickleFaultError(_NO_REFERENCE)
    if view[1] + view[2] > count:
        raise PickleFaultError("truncated or damaged: a view claims more than is stored")
    return {**whole, (key, view[0]): Stored(view[2] * size, size, kind, key)} if view[0] else whole


def call(function: Any, arguments: list[Any]) -> Any:
    """What a call would give, as far as it is known here; else :data:`OTHER`.

    Raises:
        PickleFaultError: it would make memory, or is given what no file of plain weights gives it.
    """
    name = function.text if isinstance(function, Name) else ""
    if name in CALLS:
        return CALLS[name](arguments)
    if name in STORAGE_BYTES or name in ("torch.Tensor", "torch.nn.parameter.Parameter"):
        return refuse_call(name)
    return OTHER


def refuse_call(name: str) -> Any:
    """Refuse a constructor that would make memory.

    Raises:
        PickleFaultError: always.
    """
    raise PickleFaultError(f"its pickle would make memory by {name}, which no saved tensor needs")


def _encode(arguments: list[Any]) -> Any:
    """Bytes are written as text and the codec that turns it back; other codecs can be slow, or import modules."""
    if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] not in _LATIN:
        raise PickleFaultError("its pickle asks for another codec than the one for bytes")
    try:
        return arguments[0].encode("latin1")
    except UnicodeEncodeError:
        return OTHER


def _words(arguments: list[Any]) -> Any:
    if not all(isinstance(item, str) for item in arguments):
        raise PickleFaultError("its pickle holds a path or type that is not made of words")
    return OTHER


def _numpy_kind(arguments: list[Any]) -> Any:
    return _words(arguments[:1])


def _size(arguments: list[Any]) -> Any:
    """A torch.Size is a tuple, and counts as one."""
    if not arguments or not isinstance(arguments[0], Pack):
        return OTHER
    sizes = arguments[0].items
    return arguments[0]._replace(
        exact=len(arguments) == 1 and all(_is_count(size) and size < 1 << 63 for size in sizes)
    )


def _ordered_dict(arguments: list[Any]) -> Any:
    return OTHER if arguments else OrderedDict()


def _tensor(arguments: list[Any]) -> Any:
    _check_view(arguments, None)
    stored, offset, size, stride, *more = arguments
    exact = len(more) == 2 and _is_usual(stored, *more)
    return TensorShadow(stored, offset, size.items, stride.items, exact)


def _is_usual(stored: Stored, requires_grad: Any, hooks: Any) -> bool:
    """Nothing but numbers: no hooks, which are an empty dict, and a gradient only where torch allows one."""
    dtype = STORAGE_DTYPES.get(stored.kind)
    if dtype is None or type(hooks) is not OrderedDict or hooks:
        return False
    return requires_grad is False or (requires_grad is True and (dtype.is_floating_point or dtype.is_complex))


def _untyped_tensor(arguments: list[Any]) -> Any:
    kind = arguments[6] if len(arguments) > 6 else None
    dtype = getattr(torch, kind.text.removeprefix("torch."), None) if isinstance(kind, Name) else None
    if not isinstance(dtype, torch.dtype):
        raise PickleFaultError("its pickle holds a tensor of no type")
    _check_view(arguments, dtype.itemsize)
    return TensorShadow(arguments[0], arguments[1], arguments[2].items, arguments[3].items, exact=False)


def _check_view(arguments: list[Any], itemsize: int | None) -> None:
    """Storage, offset, size and strides: all that the tensor reaches must be stored."""
    stored, offset, size, stride = (*arguments, None, None, None, None)[:4]
    if not isinstance(stored, Stored) or not isinstance(size, Pack) or not isinstance(stride, Pack):
        raise PickleFaultError("its pickle builds a tensor from something else than stored data")
    numbers = [offset, *size.items, *stride.items]
    if (
        set(map(type, numbers)) != {int}
        or min(numbers) < 0
        or not len(size.items) == len(stride.items) <= MAX_DIMENSIONS
    ):
        raise PickleFaultError("its pickle holds a tensor with an impossible shape")
    last = offset + sum(map(mul, size.items, stride.items)) - sum(stride.items)
    if 0 not in size.items and (last + 1) * (itemsize or stored.itemsize) > stored.nbytes:
        raise PickleFaultError("truncated or damaged: a tensor claims more than is stored for it")


def _parameter(arguments: list[Any]) -> Any:
    if not arguments or not isinstance(arguments[0], TensorShadow):
        raise PickleFaultError("its pickle makes a parameter from something else than a tensor")
    tensor, *more = arguments
    return tensor._replace(exact=tensor.exact and len(more) == 2 and _is_usual(tensor.stored, *more))


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
        "collections.OrderedDict": _ordered_dict,
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
