"""A structure stays where it is in the patient, whichever way its voxels are stored, and the way back is exact."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from medtransfer.errors import UsageError
from medtransfer.volumes.grid import Grid, corner_displacement, same_grid
from medtransfer.volumes.intensity import normalise
from medtransfer.volumes.prepare import prepare, prepare_labels
from medtransfer.volumes.read import read_volume
from medtransfer.volumes.regrid import build_regrid, nearest, resample
from medtransfer.volumes.write import write_labels

ORIENTATIONS = [
    "".join(sides) for axes in itertools.permutations(("RL", "AP", "SI")) for sides in itertools.product(*axes)
]
NONE = {"scheme": "none"}
sizes = st.tuples(*[st.integers(1, 9)] * 3)
spacings = st.tuples(*[st.floats(0.3, 4.0)] * 3)


def rotation(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    about_z = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return about_z @ about_z[[2, 0, 1]][:, [2, 0, 1]]


def build_affine(orientation: str, spacing: tuple[float, ...], degrees: float = 0.0) -> np.ndarray:
    axes = nib.orientations.axcodes2ornt(orientation)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, (axis, direction) in enumerate(axes):
        affine[int(axis), column] = direction * spacing[column]
    affine[:3, :3] = rotation(degrees) @ affine[:3, :3]
    affine[:3, 3] = (-31.5, 12.25, 7.0)
    return affine


def ball(grid: Grid, centre: np.ndarray, radius: float) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    return np.linalg.norm(nib.affines.apply_affine(grid.affine, index) - centre, axis=-1) < radius


def centre_of(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return nib.affines.apply_affine(affine, np.argwhere(mask).mean(axis=0))


@pytest.mark.parametrize("degrees", [0, 30])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_i22_i23_all_48_orientations_come_back_on_the_inputs_grid(
    tmp_path: Path, orientation: str, degrees: int
) -> None:
    affine = build_affine(orientation, (1.0, 1.5, 2.0), degrees)
    grid = Grid((16, 12, 9), affine)
    spot = nib.affines.apply_affine(affine, (5, 7, 3))
    image = nib.Nifti1Image(ball(grid, spot, 4.0).astype(np.float32), affine)
    image.to_filename(tmp_path / "scan.nii.gz")
    scan = read_volume(tmp_path / "scan.nii.gz")
    ready = prepare(scan, spacing=(1.2, 1.2, 1.2), intensity=NONE)
    assert ready.grid.orientation == "RAS"
    assert np.linalg.norm(centre_of(ready.array[0] > 0.5, ready.grid.affine) - spot) < 0.5
    mask = ready.restore_logits(torch.from_numpy(np.concatenate([1 - ready.array, ready.array]))).argmax(0)
    written = nib.load(write_labels(mask, scan, tmp_path / "mask.nii.gz"))
    np.testing.assert_array_equal(written.affine, nib.load(tmp_path / "scan.nii.gz").affine)
    assert np.linalg.norm(centre_of(np.asanyarray(written.dataobj) == 1, written.affine) - spot) < 0.5


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ORIENTATIONS), st.sampled_from(ORIENTATIONS), sizes, spacings, st.floats(-30, 30))
def test_i22_no_change_of_spacing_is_the_identity_bit_for_bit(
    stored: str, working: str, shape: tuple[int, int, int], spacing: tuple[float, ...], degrees: float
) -> None:
    array = np.random.default_rng(0).integers(0, 1000, shape)
    image = nib.Nifti1Image(array.astype(np.float32), build_affine(stored, spacing, degrees))
    ready = prepare(read_volume(image), working, None, NONE)
    np.testing.assert_array_equal(ready.regrid.backward_labels(ready.array[0].astype(int)), array)
    np.testing.assert_array_equal(ready.restore_logits(torch.from_numpy(ready.array))[0], array.astype(np.float32))
    np.testing.assert_array_equal(prepare_labels(array, ready.source_grid, working), ready.array[0].astype(np.int32))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ORIENTATIONS), sizes, spacings, spacings, st.floats(-30, 30))
def test_i22_the_working_grid_covers_the_same_box(
    stored: str, shape: tuple[int, int, int], spacing: tuple[float, ...], wanted: tuple[float, ...], degrees: float
) -> None:
    regrid = build_regrid(Grid(shape, build_affine(stored, spacing, degrees)), "LPS", wanted)
    corners = [np.array(sorted(map(tuple, np.round(grid.corners(), 6)))) for grid in (regrid.source, regrid.target)]
    np.testing.assert_allclose(*corners, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(sizes, sizes)
def test_resampling_reads_the_coordinates_that_the_grid_states(
    shape: tuple[int, int, int], target: tuple[int, int, int]
) -> None:
    array = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    lines = [(np.arange(n) + 0.5) * m / n - 0.5 for m, n in zip(shape, target, strict=True)]
    expected = map_coordinates(array, np.meshgrid(*lines, indexing="ij"), order=1, mode="nearest")
    got = resample(torch.from_numpy(array)[None], target)[0].numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)
    whole = [np.floor((np.arange(n) + 0.5) * m / n + 1e-9).astype(int) for m, n in zip(shape, target, strict=True)]
    np.testing.assert_array_equal(nearest(array, target), array[np.ix_(*whole)])


@pytest.mark.parametrize("method", ["nearest", "linear"])
def test_labels_follow_their_scan_to_the_working_grid(method: Any) -> None:
    grid = Grid((20, 16, 9), build_affine("PIR", (1.0, 1.5, 2.0)))
    spot = nib.affines.apply_affine(grid.affine, (9, 7, 4))
    labels = ball(grid, spot, 6.0) * 7
    moved = prepare_labels(labels, grid, spacing=(1, 1, 1), method=method)
    regrid = build_regrid(grid, spacing=(1, 1, 1))
    assert set(np.unique(moved).tolist()) == {0, 7}
    assert moved.shape == regrid.target.shape
    assert np.linalg.norm(centre_of(moved == 7, regrid.target.affine) - spot) < 0.3
    assert (moved == 7).sum() == pytest.approx((labels == 7).sum() * 3, rel=0.05)


def test_linear_labels_without_a_change_of_spacing_are_only_reordered() -> None:
    labels = np.random.default_rng(0).integers(0, 5, (4, 5, 6))
    grid = Grid((4, 5, 6), build_affine("PIR", (1.0, 1.0, 1.0)))
    np.testing.assert_array_equal(prepare_labels(labels, grid, method="linear"), prepare_labels(labels, grid))


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, 1), (1, np.nan, 1)])
def test_a_spacing_that_cannot_be_is_refused(spacing: Any) -> None:
    with pytest.raises(UsageError, match="three positive millimetres"):
        build_regrid(Grid((3, 3, 3), np.eye(4)), spacing=spacing)


@pytest.mark.parametrize("letters", ["RAX", "RLS", "RA", "", "RASS"])
def test_an_orientation_that_cannot_be_is_refused(letters: str) -> None:
    with pytest.raises(UsageError, match="three letters"):
        build_regrid(Grid((3, 3, 3), np.eye(4)), letters)


def test_same_grid_measures_corners_in_voxels() -> None:
    grid = Grid((5, 6, 7), np.diag([2.0, 1.0, 1.0, 1.0]))
    moved = grid.affine.copy()
    moved[0, 3] = 0.2
    assert corner_displacement(grid, Grid(grid.shape, moved)) == pytest.approx(0.1)
    assert not same_grid(grid, Grid(grid.shape, moved))
    assert same_grid(grid, Grid(grid.shape, moved), tolerance=0.11)
    assert not same_grid(grid, Grid((5, 6, 8), grid.affine))
    assert str(grid) == "5x6x7 voxels of 2x1x1 mm, RAS"


def test_zscore_gives_mean_0_and_deviation_1_per_channel() -> None:
    array = np.random.default_rng(0).normal([[5], [900]], [[2], [30]], (2, 4000)).astype(np.float32)
    scaled, warnings = normalise(array.reshape(2, 40, 10, 10))
    np.testing.assert_allclose(scaled.reshape(2, -1).mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.reshape(2, -1).std(1), 1, atol=1e-5)
    assert warnings == []


def test_zscore_of_what_is_not_zero_leaves_the_background() -> None:
    array = np.zeros((1, 4, 4, 4), np.float32)
    array[0, 1:3] = np.random.default_rng(0).uniform(50, 90, (2, 4, 4))
    scaled, _ = normalise(array, {"scheme": "zscore", "nonzero": True})
    assert (scaled[array == 0] == 0).all()
    assert scaled[array != 0].mean() == pytest.approx(0, abs=1e-5)
    assert scaled[array != 0].std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("value", [0.0, 7.0])
@pytest.mark.parametrize("nonzero", [True, False])
def test_i15_i16_a_constant_volume_is_a_warning_and_no_nan(value: float, nonzero: bool) -> None:
    scaled, warnings = normalise(np.full((2, 3, 3, 3), value, np.float32), {"scheme": "zscore", "nonzero": nonzero})
    assert (scaled == 0).all()
    assert "channel 0, 1 is constant" in warnings[0]


def test_clip_says_when_nothing_lies_in_the_range() -> None:
    settings_ = {"scheme": "clip", "low": -100.0, "high": 300.0}
    assert normalise(np.array([[-500.0, 100.0, 900.0]], np.float32), settings_)[0].tolist() == [[0, 0.5, 1]]
    assert "outside -100 to 300" in normalise(np.full((1, 3), 1e4, np.float32), settings_)[1][-1]


@pytest.mark.parametrize("wrong", [{"scheme": "minmax"}, {"scheme": "clip"}, {"scheme": "clip", "low": 2, "high": 2}])
def test_an_intensity_scheme_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        normalise(np.ones((1, 3), np.float32), wrong)
