"""The arithmetic of benchmarks/speed: ratios, goals, tables, FLOPs against those counted by hand, memory of a call."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.speed import page
from benchmarks.speed.agreement import by_class, foreground
from benchmarks.speed.facts import file_name
from benchmarks.speed.layers import Clock, Limits, Work, conv_work, flat, network_work
from benchmarks.speed.measure import Peak, Row, alone, alternate, compare, measure_peak
from benchmarks.speed.scaling import both

FACTS = {"cpu": "A processor", "cores": 2, "threads": 2, "flags": ["avx2", "avx512_bf16"], "isa_limit": None,
         "gpu": None, "cuda": None, "torch": "2.13", "onednn": "3", "monai": "1.6", "nnunetv2": None,
         "python": "3.11", "date": "2026-01-01", "commit": "abc"}  # fmt: skip


def test_calls_alternate_and_every_other_round_is_reversed() -> None:
    called: list[str] = []
    seconds = alternate({name: partial(called.append, name) for name in "ab"}, rounds=3)
    assert "".join(called) == "ab" + "ab" + "ba" + "ab"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}


def test_the_ratio_is_the_median_of_the_rounds_own() -> None:
    # the machine was three times slower in the second round, for both
    row = compare("x", [1.0, 3.0, 1.0], [2.0, 6.0, 4.0])
    assert (row.ratio, row.low, row.high) == (2.0, 2.0, 4.0)
    assert (row.ours, row.theirs) == (1.0, 4.0)


@pytest.mark.parametrize("unit, ratio", [("s", 2.0), ("MiB", 2.0), ("s/Mvoxel", 2.0), ("GFLOP/s", 0.5)])
def test_above_one_is_better_in_every_unit(unit: str, ratio: float) -> None:
    assert compare("x", [1.0], [2.0], unit).ratio == ratio


def test_pairs_must_be_whole() -> None:
    with pytest.raises(ValueError, match="zip"):
        compare("x", [1.0], [2.0, 3.0])


@pytest.mark.parametrize(
    "row, reached",
    [
        (compare("x", [1.0], [12.0], target="≥ 10"), "yes"),
        (compare("x", [1.0], [9.0], target="≥ 10"), "no"),
        (compare("x", [4.0], [10.0], "GFLOP/s", target="≥ 0.60"), "no"),
        (alone("x", 4095.0, "MiB", "< 4096"), "yes"),
        (alone("x", 4096.0, "MiB", "< 4096"), "no"),
        (alone("x", None, "s", "≥ 10"), ""),
        (compare("x", [1.0], [2.0]), ""),
        (Row("x", 0.880, 0.8825, None, None, None, "Dice", target="± 0.002"), "no"),
    ],
)
def test_goals(row: Row, reached: str) -> None:
    assert page.met(row) == reached


def test_flops_of_convolutions_by_hand() -> None:
    x = torch.empty(1, 2, 8, 8, 8, device="meta")
    strided = nn.Conv3d(2, 6, (3, 3, 1), stride=2, padding=1, device="meta")
    # 6 x 2 x 9 products at each of 4 x 4 x 5 places
    assert conv_work(strided, x, strided(x)).flops == 2 * (6 * 2 * 9) * (4 * 4 * 5)
    grouped = nn.Conv3d(2, 4, 3, padding=1, groups=2, device="meta")
    assert conv_work(grouped, x, grouped(x)).flops == 2 * (4 * 1 * 27) * 512
    up = nn.ConvTranspose3d(2, 3, 2, stride=2, device="meta")
    # each of 512 voxels is multiplied into 3 channels of 2 x 2 x 2
    assert conv_work(up, x, up(x)).flops == 2 * (2 * 3 * 8) * 512
    assert conv_work(up, x, up(x)).values == 2 * 512 + 3 * 4096 + 2 * 3 * 8


def test_a_network_is_counted_without_being_computed() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv3d(2, 1, 1))
    work = network_work(network, (1, 64, 64, 64))
    assert {name: found.flops for name, found in work.items()} == {"0": 2 * 2 * 27 * 64**3, "2": 2 * 2 * 64**3}


def test_the_clock_sees_each_layer_and_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Conv3d(2, 1, 1))
    clock = Clock(network, {"0": None, "1": None})
    for _ in range(2):
        clock.run(torch.zeros(1, 1, 4, 4, 4))
    assert clock.layers == ["0", "1"]
    assert {len(values) for values in clock.seconds.values()} == {2} == {len(clock.passes)}
    assert 0 < clock.median("0") + clock.median("1") < sum(clock.passes)
    network(torch.zeros(1, 1, 4, 4, 4))
    assert len(clock.seconds["0"]) == 2


def test_the_parts_of_a_layer_count_together() -> None:
    network = nn.ModuleDict({"part0_a_of0": nn.Conv3d(1, 1, 1), "part0_a_of1": nn.Conv3d(1, 1, 1)})
    network.forward = lambda x: network["part0_a_of0"](x) + network["part0_a_of1"](x)
    clock = Clock(network, {"a": None})
    clock.run(torch.zeros(1, 1, 4, 4, 4))
    assert clock.layers == ["a"]
    assert len(clock.seconds["a"]) == 1


def test_layers_of_a_graph_have_the_names_of_the_network() -> None:
    assert flat("part3_decoder_0_conv_conv1") == flat("decoder_0.conv.conv1") == "decoder_0_conv_conv1"


def test_what_holds_a_layer_back() -> None:
    limits = Limits(rate=1000, bandwidth=10)
    assert limits.holds_back(Work("", flops=1_000_000, values=5_000), 1) == "compute"
    assert limits.holds_back(Work("", flops=1_000_000, values=5_000), 4) == "memory"


def test_masks() -> None:
    a, b = np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2])
    assert by_class(a, b, 4) == [2 / 3, 2 / 3, 1.0]
    assert foreground(a, b) == 1.0


def test_cost_over_size() -> None:
    mine, rival = Peak(0, 2**20, seconds=1.0), Peak(0, 3 * 2**20, seconds=4.0)
    time, memory = both("x", 2.0, mine, rival)
    assert (time.ours, time.theirs, time.ratio) == (0.5, 2.0, 4.0)
    assert (memory.ours, memory.theirs, memory.ratio) == (1.0, 3.0, 3.0)
    assert [row.ratio for row in both("x", 2.0, mine, None)] == [None, None]


def test_peak_of_a_call() -> None:
    peak = measure_peak(lambda: np.ones(64 << 20, np.uint8).sum())
    assert 60 << 20 < peak.call < 100 << 20
    assert peak.process > peak.call


def test_pages_get_what_they_have_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {name: tmp_path / name for name in ("speed.md", "README.md")}
    pages["speed.md"].write_text("before\n<!-- speed: begin -->\nold\n<!-- speed: end -->\nafter\n")
    pages["README.md"].write_text("no marks\n")
    for name, value in (("PAGE", pages["speed.md"]), ("README", pages["README.md"]), ("RESULTS", tmp_path / "results")):
        monkeypatch.setattr(page, name, value)
    found = {
        "predict": [compare("a scan", [1.0], [12.0], beside="theirs", target="≥ 10")],
        "load": [alone("b", 1.0, "s")],
    }
    file, written = page.write(found, dict(FACTS))
    text = written.read_text()
    assert text.startswith("before\n<!-- speed: begin -->\nA processor, 2 threads, avx512_bf16;")
    assert text.endswith("<!-- speed: end -->\nafter\n")
    assert "| a scan | 1.00 s | theirs | 12.0 s | **12.00** |  | ≥ 10 | yes |" in text
    assert "old" not in text
    assert pages["README.md"].read_text() == "no marks\n"
    assert page.read(file) == (found, FACTS)
    assert json.loads(file.read_text())["machine"]["commit"] == "abc"
    assert "| b |" not in page.headline(found, FACTS)


def test_results_are_named_by_what_was_measured() -> None:
    assert file_name({**FACTS, "gpu": "NVIDIA X"}) == "nvidia-x"
    assert file_name({**FACTS, "isa_limit": "AVX512_CORE"}) == "a-processor-2-threads-avx512-core"
