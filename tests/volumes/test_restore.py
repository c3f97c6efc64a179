"""Rows of the scan's grid come out of slabs as a resampling of the whole would give them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from medtransfer.errors import ResourceError
from medtransfer.volumes import memory, scratch
from medtransfer.volumes.restore import restore_rows

SIZES = st.tuples(*[st.integers(1, 12)] * 3)


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_rows_equal_a_resampling_of_the_whole(inner: Any, outer: Any, slab: int, rows: int, same: bool) -> None:
    outer = inner if same else outer
    volume = torch.randn(2, *inner, dtype=torch.float64)
    expected = F.interpolate(volume[None], size=outer, mode="trilinear", align_corners=False)[0].float()
    parts = list(restore_rows(volume.split(slab, dim=1), inner, outer, rows))
    assert {part.shape[1] for part in parts[:-1]} <= {rows}
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, atol=2e-6, rtol=1e-5)


def test_no_more_slabs_are_taken_than_the_rows_need() -> None:
    taken = []

    def slabs() -> Any:
        for index in range(6):
            taken.append(index)
            yield torch.full((1, 2, 1, 1), float(index))

    rows = restore_rows(slabs(), (12, 1, 1), (24, 1, 1), 4)
    next(rows)
    assert taken == [0, 1]
    assert len(list(rows)) == 5
    assert taken == list(range(6))


def test_an_array_that_memory_does_not_hold_lies_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    assert not isinstance(scratch.scratch_array((2, 3), np.float32), np.memmap)
    monkeypatch.setattr(scratch, "available_memory", lambda: 40)
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    array = scratch.scratch_array((4, 5), np.float32)
    array[:] = 3
    assert isinstance(array, np.memmap)
    assert array.sum() == 60
    assert list(tmp_path.iterdir()) == []  # it has no name that could be left behind

    def full(*arguments: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scratch.os, "posix_fallocate", full)
    with pytest.raises(ResourceError, match="no room for 80 bytes of results: No space left"):
        scratch.scratch_array((4, 5), np.float32)
    assert memory.available_memory() > 0
