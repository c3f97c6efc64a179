"""What a tensor from a file must be: dense, on the CPU, backed by as many bytes as it claims, and finite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from .threads import map_threads

#: More than any network has: the largest 3-D ones hold some thousands.
MAX_TENSORS = 50_000

MAX_DIMENSIONS = 32
#: How often a file's bytes may be used over: nnU-Net stores every encoder tensor under four names.
MAX_REUSE = 16

#: Sums of fewer numbers than 32 768 start no threads, which on a busy machine wait longer than they work.
_ONE_THREAD = 32_767


def tensor_fault(tensor: Tensor) -> str | None:
    """Say in a few words why a tensor cannot be taken as weights, or None.

    >>> tensor_fault(torch.zeros(2, 3))
    >>> tensor_fault(torch.zeros(1).expand(10**12))
    'expanded: it claims 4000000000000 bytes of 4 stored'
    >>> tensor_fault(torch.zeros(2, device="meta"))
    'on the meta device, without data'
    """
    if tensor.is_meta:
        return "on the meta device, without data"
    if tensor.is_quantized:
        return "quantised"
    if tensor.layout != torch.strided:
        return f"sparse ({str(tensor.layout).removeprefix('torch.')})"
    if tensor.ndim > MAX_DIMENSIONS:
        return f"of {tensor.ndim} dimensions"
    stored = tensor.untyped_storage().nbytes()
    if tensor.nbytes > stored:
        return f"expanded: it claims {tensor.nbytes} bytes of {stored} stored"
    return None


def total_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes that the tensors would take if each were copied.

    >>> total_bytes([torch.zeros(2, 3), torch.zeros(1)])
    28
    """
    return sum(tensor.nbytes for tensor in tensors)


def nonfinite_keys(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinity.

    >>> nonfinite_keys({"a": torch.ones(2), "b": torch.tensor([1.0, float("nan")]), "c": torch.ones(2).int()})
    ['b']
    """
    values = list(tensors.values())
    finite = map_threads(_is_finite, values, [tensor.nbytes for tensor in values])
    return [key for key, is_finite in zip(tensors, finite, strict=True) if not is_finite]


def _is_finite(tensor: Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.numel() == 0:
        return True
    if tensor.dtype.itemsize == 1:
        tensor = tensor.float()  # sums of 8-bit floats are not implemented
    # one NaN or infinity makes the sum so: 15 times faster than isfinite, which decides when finite values overflow
    sums = torch.stack([part.sum() for part in tensor.reshape(-1).split(_ONE_THREAD)])
    return bool(sums.isfinite().all()) or bool(tensor.isfinite().all())
