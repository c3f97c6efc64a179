"""Finite or not, told from raw bytes: as torch tells it, also at the edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medtransfer.checkpoint.pickle_calls import STORAGE_DTYPES
from medtransfer.checkpoint.plain_numbers import FINITE

EDGES = {
    torch.float32: (torch.int32, (0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FFFFFFF, -1, -0x800000, -0x800001, -(2**31))),
    torch.float64: (
        torch.int64,
        (0x7FEFFFFFFFFFFFFF, 0x7FF << 52, (0x7FF << 52) + 1, 2**63 - 1, -1, -(1 << 52), -(1 << 52) - 1, -(2**63)),
    ),
}


def _is_finite(kind: str, tensor: torch.Tensor) -> bool:
    return FINITE[kind](memoryview(tensor.contiguous().view(torch.uint8).numpy()))


@pytest.mark.parametrize("kind", ["torch.HalfStorage", "torch.BFloat16Storage"])
def test_all_patterns_of_sixteen_bits(kind: str) -> None:
    numbers = torch.from_numpy(np.arange(1 << 16, dtype=np.uint16).view(np.int16)).view(STORAGE_DTYPES[kind])
    for number in numbers[::7]:
        assert _is_finite(kind, number.reshape(1)) == bool(number.isfinite())
    assert _is_finite(kind, numbers[numbers.isfinite()])
    assert not _is_finite(kind, numbers)


@pytest.mark.parametrize("dtype", EDGES)
def test_patterns_at_the_edges(dtype: torch.dtype) -> None:
    whole, patterns = EDGES[dtype]
    kind = next(kind for kind, of in STORAGE_DTYPES.items() if of is dtype)
    numbers = torch.tensor(patterns, dtype=whole).view(dtype)
    assert numbers.isfinite().tolist() == [True, False, False, False, False, False, True, True]
    for number in numbers:
        beside = torch.cat([torch.randn(5, dtype=dtype), number.reshape(1), torch.randn(5, dtype=dtype)])
        assert _is_finite(kind, beside) == bool(number.isfinite())


@given(st.lists(st.floats(width=32), max_size=12))
def test_floats_and_complex_numbers(values: list[float]) -> None:
    tensor = torch.tensor(values * 2, dtype=torch.float32)
    expected = bool(tensor.isfinite().all())
    assert _is_finite("torch.FloatStorage", tensor) == expected
    assert _is_finite("torch.DoubleStorage", tensor.double()) == expected
    assert _is_finite("torch.ComplexFloatStorage", tensor) == expected
    assert _is_finite("torch.ComplexDoubleStorage", tensor.double()) == expected


def test_whole_numbers_are_finite_and_every_type_has_a_test() -> None:
    assert set(FINITE) == set(STORAGE_DTYPES)
    assert _is_finite("torch.LongStorage", torch.tensor([-1, 2**62]))
