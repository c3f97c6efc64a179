"""Which device computes, and in which numbers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from .errors import ResourceError, UsageError

_PRECISIONS = {
    **dict.fromkeys(("float32", "fp32", "tf32"), torch.float32),
    **dict.fromkeys(("bfloat16", "bf16"), torch.bfloat16),
    **dict.fromkeys(("float16", "fp16"), torch.float16),
}

_GAIN = 1.2  # below it short numbers are not worth their rounding


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """The device of that name; ``auto`` is the first CUDA device, or else the CPU.

    Raises:
        UsageError: a name that means no device.
        ResourceError: a device that this machine does not have; never the CPU instead, without a word.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if str(name) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"device must be auto, cpu, cuda, cuda:N or mps, got {str(name)!r}", hint=_existing())
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[device.type]
    if (device.index or 0) >= count:
        raise ResourceError(f"there is no device {str(name)!r}", hint=_existing())
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The type that convolutions compute in; ``auto`` is :func:`fastest_dtype`, ``tf32`` a kind of float32.

    Raises:
        UsageError: an unknown name, or tf32 on another device than CUDA.

    >>> choose_precision("fp32", torch.device("cpu"))
    torch.float32
    """
    if name == "auto":
        return fastest_dtype(device.type)
    if name not in _PRECISIONS:
        raise UsageError(f"precision must be auto, float32, tf32, bfloat16 or float16, got {name!r}")
    if name == "tf32" and device.type != "cuda":
        raise UsageError(f"tf32 is CUDA's, the device is {device}", hint="Use float32 or auto")
    return _PRECISIONS[name]


def dtype_name(dtype: torch.dtype) -> str:
    """As users write it.

    >>> dtype_name(torch.float16)
    'float16'
    """
    return str(dtype).removeprefix("torch.")


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, in float32 where it is coarser, so that what is computed of it is rounded once, at the end.

    >>> at_least_float32(torch.ones(1, dtype=torch.bfloat16)).dtype, at_least_float32(torch.ones(1).double()).dtype
    (torch.float32, torch.float64)
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@cache
def fastest_dtype(kind: str) -> torch.dtype:
    """The short numbers of a kind of device, if convolutions are faster in them there.

    A processor with matrix units (AMX) gains much. Another may have bfloat16 and be slower in it: that is measured,
    once, in milliseconds.
    """
    if kind == "cuda":
        return torch.float16
    if kind != "cpu" or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.float32
    if has_matrix_units() and "ONEDNN_MAX_CPU_ISA" not in os.environ:
        return torch.bfloat16
    # in turn and the quickest of each: other programs may be busy here
    short, full = zip(*((_seconds(torch.bfloat16), _seconds(torch.float32)) for _ in range(5)), strict=True)
    return torch.bfloat16 if min(short) * _GAIN < min(full) else torch.float32


def has_matrix_units() -> bool:
    """Whether the processor multiplies matrices of bfloat16 (AMX), whatever a user lets oneDNN take of it."""
    return bool(torch.cpu._is_amx_tile_supported())


def _seconds(dtype: torch.dtype) -> float:
    """Of a convolution of a size that networks have, after one that does not count."""
    x, weight = (torch.ones(shape, dtype=dtype) for shape in ((1, 64, 16, 16, 16), (64, 64, 3, 3, 3)))
    x = x.contiguous(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        torch.conv3d(x, weight, None, 1, 1)
        begin = time.perf_counter()
        torch.conv3d(x, weight, None, 1, 1)
        return time.perf_counter() - begin


@contextmanager
def tensor_float(allowed: bool) -> Iterator[None]:
    """Whether CUDA may multiply float32 as tf32, 19 bits, inside; torch lets convolutions do so unless told."""
    flags: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = allowed
    try:
        yield
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value


def _existing() -> str:
    found = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    found += ["mps"] if torch.backends.mps.is_available() else []
    return f"This machine has: {', '.join(found)}"
