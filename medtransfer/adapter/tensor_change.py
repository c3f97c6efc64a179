"""How far two tensors of one shape are apart, exactly and in little memory."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: Numbers compared at a time, so that the wide copies stay small whatever the tensors' size.
CHUNK = 1 << 18


class Change(NamedTuple):
    """How two tensors differ.

    Attributes:
        bits: Whether any bit differs, the dtype included.
        values: How many numbers differ in value; NaN is equal to NaN.
        largest: The largest absolute difference, NaN if a NaN stands against a number.
        relative: The same as a share of the largest absolute value of both.
    """

    bits: bool
    values: int
    largest: float
    relative: float


def tensor_change(one: Tensor, other: Tensor) -> Change:
    """Compare two tensors of one shape; of different dtypes by value, in float64 (or as whole numbers).

    >>> tensor_change(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 3.0]))
    Change(bits=True, values=1, largest=1.0, relative=0.25)
    >>> tensor_change(torch.tensor([0.5]), torch.tensor([0.5], dtype=torch.float16))
    Change(bits=True, values=0, largest=0.0, relative=0.0)
    """
    changes = [_chunk(a, b) for a, b in zip(_parts(one), _parts(other), strict=True)]
    differing = [change for change in changes if change.bits]
    if not differing:
        return Change(one.dtype != other.dtype, 0, 0.0, 0.0)
    largest = float(torch.tensor([change.largest for change in differing], dtype=torch.float64).max())
    top = max(map(_top, (*_parts(one), *_parts(other))))
    return Change(True, sum(change.values for change in differing), largest, largest / top if top else largest)


def _parts(tensor: Tensor) -> tuple[Tensor, ...]:
    flat = tensor.detach().cpu().reshape(-1)
    return flat.split(CHUNK) if flat.numel() else ()


def _chunk(one: Tensor, other: Tensor) -> Change:
    """The change of one piece, without its share of the whole tensor's largest value."""
    if one.dtype == other.dtype and torch.equal(_as_bytes(one), _as_bytes(other)):
        return Change(False, 0, 0.0, 0.0)
    a, b = _wide(one), _wide(other)
    differs = (a != b) & ~(a.isnan() & b.isnan())
    gap = (a - b).abs()[differs]
    return Change(True, int(differs.sum()), float(gap.max()) if gap.numel() else 0.0, 0.0)


def _top(part: Tensor) -> float:
    """The largest finite absolute value."""
    sizes = _wide(part).abs()
    finite = sizes[sizes.isfinite()]
    return float(finite.max()) if finite.numel() else 0.0


def _wide(tensor: Tensor) -> Tensor:
    """In a type that holds all numbers of the others, but for whole numbers beyond 2**53."""
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def _as_bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(torch.uint8)
