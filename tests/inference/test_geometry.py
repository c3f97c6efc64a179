"""A structure keeps its place in the patient, from the scan's file to the mask's, whatever lies between."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medtransfer.inference.assemble import Stream, assemble_heads
from medtransfer.inference.predictor import Predictor
from medtransfer.volumes.grid import Grid
from medtransfer.volumes.prepare import prepare
from medtransfer.volumes.read import read_volume
from tests.inference.conftest import Threshold
from tests.volumes.test_regrid import ORIENTATIONS, ball, build_affine, centre_of

NONE = {"scheme": "none"}
SPOT = (7, 5, 4)  # in voxels of the scan


def scan_of_a_ball(orientation: str, spacing: Any, degrees: float) -> tuple[nib.Nifti1Image, np.ndarray, Grid]:
    """A ball of 3.6 mm that shows as 1 among -1, and the place of its centre in mm."""
    grid = Grid((16, 13, 10), build_affine(orientation, spacing, degrees))
    place = nib.affines.apply_affine(grid.affine, SPOT)
    return nib.Nifti1Image(2 * ball(grid, place, 3.6).astype(np.float32) - 1, grid.affine), place, grid


def check(image: nib.Nifti1Image, place: np.ndarray, options: dict[str, Any]) -> None:
    mask = Predictor(Threshold(), **options).predict(image).labels
    np.testing.assert_array_equal(mask.affine, image.affine)
    assert mask.shape == image.shape
    moved = np.linalg.inv(image.affine[:3, :3]) @ (centre_of(np.asanyarray(mask.dataobj) == 1, mask.affine) - place)
    assert np.abs(moved).max() < 0.5, f"{moved} voxels"


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_i22_i23_all_48_orientations(orientation: str) -> None:
    image, place, _ = scan_of_a_ball(orientation, (1.0, 1.25, 1.5), 0.0)
    check(image, place, {"card": {"intensity": NONE, "spacing": [1.2, 1.2, 1.2]}})


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(ORIENTATIONS),
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.floats(0.7, 1.6)] * 3),
    st.one_of(st.none(), st.tuples(*[st.floats(0.7, 1.6)] * 3)),
    st.floats(-40, 40),
    st.sampled_from(["whole", (8, 8, 8)]),
    st.booleans(),
)
def test_i22_oblique_anisotropic_scans_on_any_working_grid(
    stored: str, working: str, spacing: Any, wanted: Any, degrees: float, tile: Any, flips: bool
) -> None:
    image, place, _ = scan_of_a_ball(stored, spacing, degrees)
    card = {"intensity": NONE, "orientation": working, "spacing": wanted and list(wanted), "mirror_axes": [0, 2]}
    check(image, place, {"card": card, "tile": tile, "tta": flips})


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.one_of(st.none(), st.tuples(*[st.floats(0.4, 3.0)] * 3)),
    st.integers(0, 2),
)
def test_labels_row_by_row_are_the_argmax_of_the_restored_logits(
    orientation: str, shape: Any, wanted: Any, axis: int
) -> None:
    image = nib.Nifti1Image(np.zeros(shape, np.float32), build_affine(orientation, (1.0, 1.5, 2.0)))
    ready = prepare(read_volume(image), "RAS", wanted, NONE)
    logits = torch.randn(4, *ready.grid.shape, generator=torch.Generator().manual_seed(0))
    (found,) = assemble_heads([Stream(logits.movedim(axis + 1, 1).split(2, dim=1), ready.regrid, axis)], [4])
    expected = ready.restore_logits(logits)
    # kept as float16, less the largest
    np.testing.assert_allclose(found.logits, expected - expected.max(0), atol=1e-4, rtol=1e-3)
    clear = np.diff(np.sort(expected, axis=0)[-2:], axis=0)[0] > 1e-4
    np.testing.assert_array_equal(found.labels[clear], expected.argmax(0)[clear])
