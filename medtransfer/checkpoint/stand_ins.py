"""Harmless objects in the place of what foreign checkpoints hold beside their tensors.

A pickle names the classes and functions that are to be called. For the names below, torch's safe loader is given one
of these instead of the real thing: they keep what they are called with, and do nothing. The real ones would not all
be safe: ``numpy.ndarray`` and ``bytes`` allocate whatever a file asks for, mmengine's ``HistoryBuffer`` lets a file
replace the methods of its class, and ``getattr`` reaches anything. Nor need they be there, in the version of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import torch

_TORCH_DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "b1": torch.bool,
        "i1": torch.int8,
        "i2": torch.int16,
        "i4": torch.int32,
        "i8": torch.int64,
        "u1": torch.uint8,
        "u2": torch.uint16,
        "u4": torch.uint32,
        "u8": torch.uint64,
        "f2": torch.float16,
        "f4": torch.float32,
        "f8": torch.float64,
        "c8": torch.complex64,
        "c16": torch.complex128,
    }
)


class StandIn:
    """Keeps the arguments and the state that a pickle gives; :meth:`plain` turns them into plain data."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __new__(cls, *_arguments: Any) -> StandIn:
        instance = super().__new__(cls)
        instance.arguments, instance.state = (), None  # pickles create objects without calling __init__
        return instance

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def plain(self) -> Any:
        """The value that takes this object's place in the tree."""
        return self.state


class NumpyType(StandIn):
    """In the place of ``numpy.dtype``: a code such as ``f8`` and a byte order."""

    def plain(self) -> str:
        """The code as numpy writes it: ``<f8``."""
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "<"
        code = self.arguments[0] if self.arguments else None
        if not isinstance(code, str):  # a list that holds itself many times over has no end as text
            raise ValueError("a numpy type without a code")
        return f"{'>' if order == '>' else '<'}{code}"

    def tensor(self, data: bytes) -> torch.Tensor:
        """Bytes as a 1-D tensor of this type.

        Raises:
            ValueError: a type that is not a plain number, or bytes that do not fit it.
        """
        code = self.plain()
        dtype = _TORCH_DTYPES.get(code[1:])
        if dtype is None or len(data) % dtype.itemsize:
            raise ValueError(f"numpy data of the type {code[1:][:20]!r} in {len(data)} bytes")
        if code[0] == ">":
            width = dtype.itemsize // (2 if dtype.is_complex else 1)
            data = b"".join(data[start : start + width][::-1] for start in range(0, len(data), width))
        return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)


class NumpyArray(StandIn):
    """In the place of ``numpy.ndarray``; becomes a tensor, or None when it held something else than numbers."""

    def plain(self) -> torch.Tensor | None:
        """The array as a tensor of the same shape."""
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("a numpy array without content")
        _version, shape, kind, fortran, data = self.state
        if not isinstance(kind, NumpyType) or not isinstance(data, bytes):
            return None
        flat = kind.tensor(data)
        return flat.reshape(tuple(shape)[::-1]).permute(*range(len(shape))[::-1]) if fortran else flat.reshape(shape)


class Record(StandIn):
    """In the place of a class that only holds attributes: becomes a dict of them."""

    def plain(self) -> dict[str, Any]:
        """The attributes by name, without those of methods."""
        state = self.state if isinstance(self.state, dict) else {}
        return {str(key): value for key, value in state.items() if not isinstance(value, Nothing)}


class Nothing(StandIn):
    """In the place of a function whose result is of no use: called, it gives another such object."""

    def plain(self) -> None:
        """None."""


def _numpy_array(*_arguments: Any) -> NumpyArray:
    return NumpyArray()


def _numpy_number(kind: Any, data: Any = b"") -> Any:
    """A numpy scalar as the Python number of the same value."""
    if not isinstance(kind, NumpyType) or not isinstance(data, bytes):
        raise ValueError("a numpy scalar that is not a number")
    value = kind.tensor(data)
    if value.numel() != 1:
        raise ValueError("a numpy scalar of another size than its type")
    return value.item()


def _path_text(*parts: Any) -> str:
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("a path that is not made of words")
    return str(PurePosixPath(*parts))


def _empty_bytes(*_arguments: Any) -> bytes:
    return b""  # how an array without elements is written; bytes(10**12) would be a bomb


def _empty_dict(*_arguments: Any) -> dict[Any, Any]:
    return {}


class _Dict:
    """In the place of subclasses of dict, which a pickle creates by ``__new__`` and then fills."""

    def __new__(cls, *_arguments: Any) -> dict[Any, Any]:  # type: ignore[misc]
        return {}


_NUMPY_CORES = ("numpy._core.multiarray", "numpy.core.multiarray")
_NUMPY_TYPES = ("Bool", "Int8", "Int16", "Int32", "Int64", "UInt8", "Float16", "Float32", "Float64")
_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")

#: The stand-in for each name; anything else that is not plain is refused.
STAND_INS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "numpy.dtype": NumpyType,
        "numpy.ndarray": NumpyArray,
        **{f"numpy.dtypes.{kind}DType": Nothing for kind in _NUMPY_TYPES},
        **{f"{core}.scalar": _numpy_number for core in _NUMPY_CORES},
        **{f"{core}._reconstruct": _numpy_array for core in _NUMPY_CORES},
        "mmengine.logging.history_buffer.HistoryBuffer": Record,
        "argparse.Namespace": Record,
        "builtins.bytes": _empty_bytes,
        "builtins.getattr": Nothing,
        **{f"builtins.{name}": Nothing for name in ("list", "dict", "int", "float", "str", "tuple")},
        "collections.defaultdict": _empty_dict,
        "lightning.fabric.utilities.data.AttributeDict": _Dict,
        "lightning_fabric.utilities.data.AttributeDict": _Dict,
        "pytorch_lightning.utilities.parsing.AttributeDict": _Dict,
        **{f"{module}.{name}": _path_text for module in ("pathlib", "pathlib._local") for name in _PATHS},
    }
)
