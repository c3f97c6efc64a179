"""Tiles with a halo give what one pass gives, in a bounded memory; what shows nothing is computed once."""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import medtransfer as mt
from medtransfer.inference import engine as engine_module
from medtransfer.inference import halo, planning
from medtransfer.inference.blank import SkipBlank
from medtransfer.inference.engine import Engine
from medtransfer.inference.halo import measure_halo
from medtransfer.inference.kinds import Head
from medtransfer.inference.planning import Planner, Record, Settings
from medtransfer.inference.predictor import Predictor
from medtransfer.inference.tiles import Room, Tiles, fit_tiles, plan_tiles
from medtransfer.inference.windows import plan_whole, run_slabs
from medtransfer.volumes.restore import restore_rows

NONE = {"intensity": {"scheme": "none"}}
CPU = torch.device("cpu")
REACH = (3, 3, 3)  # of `Strided`
STRIDES = st.sampled_from([(1, 1, 1), (2, 2, 2), (4, 2, 1)])


class Strided(nn.Module):
    """Down by 2 and up again, with a skip connection: what a voxel sees depends on its place in the grid."""

    task, ndim, in_channels, num_classes, output_stride = "segmentation", 3, 1, 2, (2, 2, 2)

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv3d(1, 4, 3, 2, 1), nn.ConvTranspose3d(4, 4, 2, 2)
        self.head = nn.Conv3d(5, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.up(self.down(x).relu()), x], dim=1))


@pytest.fixture
def strided() -> Strided:
    torch.manual_seed(0)
    return Strided().eval()


@settings(max_examples=120, deadline=None)
@given(
    st.tuples(*[st.integers(1, 30)] * 3),
    STRIDES,
    st.tuples(*[st.integers(0, 5)] * 3),
    st.floats(0.02, 1.2),
    st.integers(0, 2),
)
def test_tiles_cover_everything_once_on_the_networks_grid_and_within_the_budget(
    units: Any, strides: Any, edges: Any, share: float, axis: int
) -> None:
    padded = [unit * stride for unit, stride in zip(units, strides, strict=True)]
    room = Room(int(share * math.prod(padded) * 3), 3.0, 1.0, axis)
    tiles = plan_tiles(padded, strides, edges, room)
    if tiles is None:
        smallest = [min(size, 2 * edge + 2 * step) for size, step, edge in zip(padded, strides, edges, strict=True)]
        assert math.prod(smallest) * 3 + smallest[axis] * math.prod(padded) / padded[axis] > room.total
        return
    spans = [tiles.spans(number) for number in range(3)]
    waits = math.prod(len(line) for line in spans) > len(spans[axis])
    layer = tiles.window[axis] * math.prod(padded) / padded[axis]
    assert math.prod(tiles.window) * 3 + layer * waits <= room.total
    assert tiles.is_whole == (share * 3 >= 3)
    for line, length, stride, edge in zip(spans, padded, strides, edges, strict=True):
        total = np.zeros(length)
        for span in line:
            assert span.start % stride == 0 == span.stop % stride
            assert 0 <= span.start <= span.low < span.high <= span.stop <= length
            assert span.low == 0 or span.low - span.start >= edge
            assert span.high == length or span.stop - span.high >= edge
            total[span.low : span.high] += _weights(span)
        np.testing.assert_allclose(total, 1, atol=1e-6)


def _weights(span: Any) -> np.ndarray:
    weights = np.ones(span.high - span.low)
    weights[: span.rise] = (np.arange(span.rise) + 0.5) / max(1, span.rise)
    weights[len(weights) - span.fall :] = 1 - (np.arange(span.fall) + 0.5) / max(1, span.fall)
    return weights


def test_the_plan_computes_the_fewest_voxels_that_any_tile_would() -> None:
    padded, strides, edges = (48, 40, 32), (8, 8, 8), (6, 4, 5)
    for budget in (10_000, 20_000, 30_000, 60_000):
        found = plan_tiles(padded, strides, edges, Room(budget, 1.0))
        sizes = [range(8, length + 8, 8) for length in padded]
        every = [fit_tiles(padded, strides, edges, (a, b, c)) for a in sizes[0] for b in sizes[1] for c in sizes[2]]
        fitting = [one for one in every if one is not None and math.prod(one.window) <= budget]
        costs = [math.prod(one.window) * len(one.starts()) for one in fitting]
        assert found is not None
        assert math.prod(found.window) * len(found.starts()) == min(costs)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(5, 22)] * 3), st.tuples(*[st.integers(6, 14)] * 3), st.integers(0, 2))
def test_tiles_with_the_measured_halo_are_the_whole_pass(shape: Any, window: Any, axis: int) -> None:
    torch.manual_seed(0)
    network = Strided().eval()
    image, whole = torch.randn(1, *shape), plan_whole(shape, (2, 2, 2), None)
    with torch.no_grad():
        tiles = fit_tiles(whole.padded, (2, 2, 2), REACH, window)
        if tiles is None:
            return
        expected, found = (torch.cat(list(run_slabs(network, image, plan, axis)), 1) for plan in (whole, tiles))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_less_than_the_halo_is_not_enough(strided: Strided) -> None:
    image = torch.randn(1, 24, 8, 8)
    with torch.no_grad():
        expected = strided(image[None])[0]
        assert measure_halo(strided, image, (2, 2, 2)) == REACH
        for width, is_enough in ((3, True), (2, False), (0, False)):
            tiles = Tiles((24, 8, 8), (12, 8, 8), (width, 0, 0), (2, 2, 2))
            found = torch.cat(list(run_slabs(strided, image, tiles)), 1)
            assert torch.allclose(found, expected, atol=1e-5) == is_enough


def test_a_network_that_looks_far_is_probed_on_the_scan_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halo, "SMALL", 8)
    monkeypatch.setattr(halo, "LONG", 48)
    monkeypatch.setattr(halo, "WIDE", 8)
    blur = torch.exp(-torch.arange(-12, 13).abs() / 1.5)

    def run(image: Tensor) -> Tensor:
        return nn.functional.conv3d(image, (blur / blur.sum())[None, None, :, None, None], padding=(12, 0, 0))

    image = torch.randn(1, 60, 10, 4, generator=torch.Generator().manual_seed(0))
    first, second, _ = measure_halo(run, image, (1, 1, 1))
    # exp(-d / 1.5) comes to a thousandth at 10 voxels; the theory allows 12
    assert 6 <= first <= 12
    assert second == 0
    assert measure_halo(lambda x: x + x.mean(), image, (1, 1, 4))[2] == 4  # too short to be cut: its length
    assert measure_halo(lambda x: x + x.std(), image, (1, 1, 4)) == image.shape[1:]  # it looks at everything
    blank = torch.zeros(1, 60, 10, 4)
    blank[:, :2] = 1
    assert 6 <= measure_halo(run, blank, (1, 1, 1))[0] <= 12  # its middle shows nothing


def small_budget(predictor: Predictor, share: float, shape: tuple[int, int, int]) -> float:
    """GiB that are enough for a share of one pass."""
    return share * predictor.engine.estimate_bytes(shape, 2) / 2**30


@pytest.mark.parametrize("spacing", [None, [1.0, 3.0, 1.0]])
def test_auto_tiles_what_does_not_fit_and_says_so(strided: Strided, scan: Any, spacing: Any) -> None:
    card, path = {**NONE, "spacing": spacing}, scan(shape=(40, 20, 18))
    whole = Predictor(strided, "cpu", "float32", card=card).predict(path)
    sizes = tuple(whole.details["window"])
    budget = small_budget(Predictor(strided, "cpu"), 0.6, sizes)
    tiled = Predictor(strided, "cpu", "float32", card=card, memory=budget).predict(path)
    torch.testing.assert_close(tiled.logits, whole.logits, atol=1e-4, rtol=2e-3)
    assert np.mean(np.asarray(tiled.labels.dataobj) != np.asarray(whole.labels.dataobj)) < 1e-3
    seen = tiled.details
    assert seen["windows"] > 1 == whole.details["windows"]
    assert (whole.details["tile"], whole.details["halo"]) == ("whole", None)
    assert (seen["tile"], seen["halo"], seen["skipped"]) == (seen["window"], [3, 3, 3], 0)
    assert "one pass needs about" in seen["why"]
    assert "fits the budget" in whole.details["why"]


def test_a_tile_that_was_asked_for_has_the_halo_unless_an_overlap_is_given(strided: Strided, scan: Any) -> None:
    path = scan(shape=(30, 12, 10))
    found = {
        name: Predictor(strided, "cpu", "float32", card=NONE, **options).predict(path)
        for name, options in {
            "whole": {"tile": "whole"},
            "tiles": {"tile": 14},
            "windows": {"tile": 14, "overlap": 0.5},
            "tiny": {"tile": 4},
        }.items()
    }
    assert [found[name].details["halo"] for name in ("tiles", "windows", "tiny")] == [[3, 3, 3], None, None]
    assert "too small for the network's halo of 3x3x3" in found["tiny"].details["why"]
    torch.testing.assert_close(found["tiles"].logits, found["whole"].logits, atol=1e-5, rtol=1e-3)
    assert not torch.allclose(found["windows"].logits, found["whole"].logits, atol=1e-3)


def test_norms_that_look_at_the_input_keep_their_windows_and_the_record_says_why(networks: Any, scan: Any) -> None:
    card = {**NONE, "patch_size": [8, 8, 8]}
    seen = Predictor(networks["convolutions"](nn.InstanceNorm3d), card=card).predict(scan(shape=(20, 9, 9))).details
    assert (seen["tile"], seen["halo"]) == ([8, 8, 8], None)
    assert "norms of this network look at their whole input" in seen["why"]


def test_what_shows_nothing_is_computed_once_and_exactly(
    strided: Strided, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.full((64, 12, 12), -2.0)
    array[50:60] = np.random.default_rng(0).normal(size=(10, 12, 12))
    predictor = Predictor(strided, "cpu", "float32", tile=(16, 12, 12), card=NONE)
    path, passes, run = scan(array=array), [], predictor.engine.finite

    def counted(image: Tensor, what: str = "logits") -> Any:
        passes.append(1)
        return run(image, what)

    monkeypatch.setattr(predictor.engine, "finite", counted)
    found = predictor.predict(path)
    assert found.details["skipped"] == found.details["windows"] - len(passes) > 2
    whole = Predictor(strided, "cpu", "float32", tile="whole", card=NONE).predict(path)
    torch.testing.assert_close(found.logits, whole.logits, atol=1e-5, rtol=1e-3)


def test_blank_images_are_known_by_their_values_and_shape() -> None:
    runs, saved = [], []
    skip = SkipBlank(lambda image: runs.append(1) or image * 2, lambda: saved.append(1))
    blank = torch.full((1, 2, 3, 4, 5), 7.0)
    blank[:, 1] = 3
    first = skip(blank)
    first += 1  # the caller's own
    assert torch.equal(skip(blank), blank * 2)
    almost = blank.clone()
    almost[0, 0, 2, 3, 4] += 1
    for other in (almost, blank + 1, blank[..., :4]):
        assert torch.equal(skip(other), other * 2)
    assert (len(runs), len(saved)) == (4, 1)


def test_the_budget_of_auto_is_bounded_however_much_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "require_memory", lambda *_: None)
    monkeypatch.setattr(planning, "measure_halo", lambda *_: (24, 24, 24))
    engine = Engine(mt.create_model("resunet18", num_classes=3, base_channels=16, stem_channels=16), CPU)
    planner = Planner(engine, None, [Head("", "segmentation", ("a", "b", "c"))], Settings())

    def plan(*shape: int) -> Any:
        record = Record(held=9 * math.prod(shape))
        return planner.first(torch.zeros(1).expand(1, *shape), 0, record), record

    found = []
    for free in (12 << 30, 900 << 30):
        monkeypatch.setattr(engine_module, "available_memory", lambda free=free: free)
        assert plan(160, 192, 160)[0].is_whole
        tiles, record = plan(512, 512, 512)
        layer = 4 * 3 * tiles.window[0] * 512 * 512
        assert engine.estimate_bytes(tiles.window, 3) + layer + record.held <= planning.MOST
        found.append(tiles)
    assert isinstance(found[0], Tiles)
    assert found[0] == found[1]
    assert math.prod(tiles.window) * len(tiles.starts()) < 3 * 512**3


def test_a_layer_of_logits_is_let_go_before_the_next_is_made(strided: Strided) -> None:
    alive: list[Any] = []

    def run(image: Tensor) -> Tensor:
        assert not any(one() is not None for one in alive)
        logits = image.new_zeros(1, 2, *image.shape[2:])
        alive.append(weakref.ref(logits.untyped_storage()))
        return logits

    tiles = Tiles((40, 4, 4), (10, 4, 4), (2, 0, 0), (1, 1, 1))
    slabs = run_slabs(run, torch.zeros(1, 40, 4, 4), tiles)
    rows = 0
    for part in restore_rows(slabs, (40, 4, 4), (40, 4, 4), 3):
        rows += part.shape[1]
        del part
    assert rows == 40
