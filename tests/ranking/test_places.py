"""Places in the patient: the classes that stand there, how many of each, and how far apart they may lie."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from medtransfer.data.cases import Case
from medtransfer.data.preprocessing import Preprocessing
from medtransfer.errors import DatasetError
from medtransfer.ranking.places import draw_places


@pytest.fixture
def layout(decathlon, read_layout):
    return read_layout(decathlon)


def voxels_of(positions: np.ndarray, affine: np.ndarray) -> np.ndarray:
    index = nib.affines.apply_affine(np.linalg.inv(affine), positions)
    np.testing.assert_allclose(index, np.round(index), atol=1e-9)
    return np.round(index).astype(int)


def test_places_lie_on_voxels_of_their_class_as_many_of_each(layout):
    case = layout.cases[1]
    places = draw_places(case, layout, [], 30, np.random.default_rng(0))
    image = nib.load(case.label)
    index = voxels_of(places.positions, image.affine)
    np.testing.assert_array_equal(image.get_fdata()[tuple(index.T)], places.labels)
    assert np.bincount(places.labels).tolist() == [15, 15]
    assert len(np.unique(index, axis=0)) == 30


def test_a_class_with_few_voxels_gives_all_it_has(layout, tmp_path):
    label = np.zeros((16, 14, 12), np.uint8)
    label[5, 5, 5:8] = 1
    nib.save(nib.Nifti1Image(label, nib.load(layout.cases[0].label).affine), tmp_path / "few.nii.gz")
    case = replace(layout.cases[0], label=tmp_path / "few.nii.gz")
    assert np.bincount(draw_places(case, layout, [], 20, np.random.default_rng(0)).labels).tolist() == [10, 3]


def test_a_fine_grid_of_a_source_keeps_the_places_close(layout, tmp_path):
    """96 voxels of 0.05 mm are 4.8 mm; the scan's axes are L, A and S, the source's P, S and R."""
    wanted = Preprocessing(orientation="PSR", spacing=(0.05, 4.0, 4.0))
    places = draw_places(layout.cases[0], layout, [wanted], 60, np.random.default_rng(0))
    reach = np.ptp(places.positions, axis=0)
    assert reach[1] <= 4.8
    assert min(reach[0], reach[2]) > 4.8
    image = nib.load(layout.cases[0].label)
    index = voxels_of(places.positions, image.affine)
    np.testing.assert_array_equal(image.get_fdata()[tuple(index.T)], places.labels)
    assert places.labels.any()
    assert index.min(axis=0)[1] > 0


def test_a_case_without_a_label_volume_is_refused(layout):
    with pytest.raises(DatasetError, match="no label volume"):
        draw_places(Case("a", layout.cases[0].images, 1), layout, [], 9, np.random.default_rng(0))
