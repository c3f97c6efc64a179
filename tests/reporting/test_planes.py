"""Which slice is shown and how it lies on the picture."""

from __future__ import annotations

import numpy as np
import pytest

from medtransfer.reporting.planes import AXIAL, CORONAL, PLANES, SAGITTAL, structure_centre


@pytest.fixture
def corner() -> np.ndarray:
    """An RAS array of unequal sizes whose right-anterior-superior corner voxel is 1."""
    array = np.zeros((3, 4, 5))
    array[-1, -1, -1] = 1
    return array


@pytest.mark.parametrize("plane, rows, columns", [(AXIAL, 4, 3), (CORONAL, 5, 3), (SAGITTAL, 5, 4)])
@pytest.mark.parametrize("convention, column", [("neurological", -1), ("radiological", 0)])
def test_the_corner_voxel_lies_where_the_letters_say(corner, plane, rows, columns, convention, column):
    picture = plane.cut(corner, -1, convention)
    assert picture.shape == (rows, columns)
    assert picture[0, column] == 1, "superior and anterior are at the top"
    side = "left" if column == 0 else "right"
    assert plane.letters(convention)[side] == {"axial": "R", "coronal": "R", "sagittal": "A"}[plane.name]


def test_each_plane_names_its_three_axes_once():
    assert all(sorted((plane.normal, plane.across, plane.up)) == [0, 1, 2] for plane in PLANES)


def test_the_centre_lies_in_a_hollow_structure():
    ring = np.zeros((11, 11, 11), bool)
    ring[2:9, 2:9, 2:9] = True
    ring[4:7, 4:7, 4:7] = False
    index = structure_centre(ring)
    assert all(ring.take(index[axis], axis=axis).any() for axis in range(3))


def test_without_foreground_the_middle_is_shown():
    assert structure_centre(np.zeros((5, 6, 7), int)) == (2, 3, 3)


def test_two_far_structures_are_not_missed_by_both_planes():
    labels = np.zeros((21, 5, 5), int)
    labels[0], labels[20] = 1, 1
    assert labels[structure_centre(labels)[0]].any()
