"""The loader beside a training step: batches as a step takes them, and a ratio above 1 where the loader keeps up."""

from __future__ import annotations

from benchmarks.speed.loader import loader_calls, loader_rows

SIZE = (2, 1, 8, 8, 8)


def test_the_next_batch_is_another_and_on_the_device() -> None:
    calls = loader_calls(8, 2, "cpu")
    assert list(calls) == ["the loader"]
    one, other = (calls["the loader"]() for _ in range(2))
    for batch in (one, other):
        assert {key: tuple(value.shape) for key, value in batch.items()} == {"image": SIZE, "label": SIZE}
    assert not one["image"].equal(other["image"])


def test_the_ratio_is_above_one_where_the_loader_keeps_up() -> None:
    seconds = {"ours": [1.0, 3.0], "plain": [2.0, 2.0], "the loader": [0.5, 1.5]}
    (row,) = loader_rows(64, 2, seconds, "ours")
    assert (row.ratio, row.low, row.high, row.unit) == (2.0, 2.0, 2.0, "samples/s")
    assert (row.ours, row.theirs) == ((4 + 4 / 3) / 2, (2 + 2 / 3) / 2)
