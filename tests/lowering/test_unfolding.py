"""A convolution of few channels is the same convolution of many, whatever its kernel, stride and padding."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from medtransfer.lowering.unfolding import FULL, Unfolding

SIZES = st.tuples(*[st.integers(7, 12)] * 3)
KERNELS = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(2, 7))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4), KERNELS, st.tuples(*[st.integers(1, 3)] * 3), st.tuples(*[st.integers(0, 3)] * 3), SIZES,
    st.sampled_from([torch.float32, torch.bfloat16]), st.integers(1, 2),
)  # fmt: skip
def test_it_is_torchs_convolution(
    channels: int,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    size: tuple[int, ...],
    dtype: torch.dtype,
    count: int,
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, channels, *size, generator=generator).to(dtype)
    weight = torch.randn(2, channels, *kernel, generator=generator)
    unfolding = Unfolding(channels, kernel, stride, padding)
    many = unfolding(x)
    assert many.is_contiguous(memory_format=torch.channels_last_3d)
    found = F.conv3d(many.double(), unfolding.weight(weight).double(), stride=unfolding.left_stride)
    torch.testing.assert_close(found, F.conv3d(x.double(), weight.double(), stride=stride, padding=padding))


def test_a_stem_fills_a_block_and_no_more() -> None:
    for channels, many in ((1, FULL), (2, 2 * FULL), (4, FULL)):
        unfolding = Unfolding(channels, (7, 7, 7), (2, 2, 2), (3, 3, 3))
        assert unfolding.weight(torch.zeros(1, channels, 7, 7, 7)).shape[1] == many


def test_what_lies_outside_is_zero_though_memory_is_not_clean() -> None:
    torch.full((1, 32, 20, 20, 20), float("nan"))  # whatever was in memory before
    unfolding = Unfolding(1, (3, 3, 3), (2, 2, 2), (1, 1, 1))
    assert torch.isfinite(unfolding(torch.ones(1, 1, 7, 8, 9))).all()
