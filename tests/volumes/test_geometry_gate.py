"""Geometry that cannot be true is refused; geometry that is doubtful is said."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medtransfer.errors import MedTransferError, VolumeError
from medtransfer.volumes.grid import Grid
from medtransfer.volumes.read import read_labels, read_volume

DIAGONAL = np.diag([1.0, 2.0, 3.0, 1.0])


def changed(row: int, column: int, value: float) -> np.ndarray:
    affine = DIAGONAL.copy()
    affine[row, column] = value
    return affine


@pytest.mark.parametrize(
    ("affine", "reason"),
    [
        (changed(0, 0, np.nan), "NaN"),
        (changed(1, 3, np.inf), "infinite"),
        (changed(1, 3, 1e30), "entries of 1e"),
        (changed(2, 2, 0.0), "zero column"),
        (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "singular"),
        (changed(0, 1, 0.5), "sheared"),
        (changed(2, 0, -0.1), "sheared"),
    ],
)
@pytest.mark.parametrize("in_memory", [False, True])
def test_i17_i22_broken_affines_are_refused(craft: Any, affine: np.ndarray, reason: str, in_memory: bool) -> None:
    path = craft(affine=affine, pixdim=(1, 1, 1, 1))
    if in_memory:
        path = nib.Nifti1Image(np.zeros((3, 3, 3), np.float32), DIAGONAL)
        path._affine = affine
    with pytest.raises(VolumeError, match=reason):
        read_volume(path)


def test_i18_no_orientation_is_a_warning(craft: Any) -> None:
    scan = read_volume(craft(sform_code=0, qform_code=0))
    assert any("no orientation stored" in text for text in scan.warnings)


def test_i19_disagreeing_affines_are_a_warning_that_names_the_one_used(craft: Any) -> None:
    header = nib.Nifti1Header()
    header.set_qform(np.diag([1.5, 2.0, 3.0, 1.0]))
    fields = {name: header[name] for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y")}
    scan = read_volume(craft(qform_code=1, **fields))
    assert any("the sform is used" in text for text in scan.warnings)
    assert scan.grid.orientation == "LAS"


def test_i19_agreeing_affines_say_nothing() -> None:
    image = nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), DIAGONAL)
    image.set_qform(DIAGONAL, 1)
    image.set_sform(DIAGONAL, 1)
    assert read_volume(image).warnings == []


@pytest.mark.parametrize("pixdim", [0.0, -1.0, np.nan, np.inf])
def test_i20_pixdim_must_be_positive(craft: Any, pixdim: float) -> None:
    with pytest.raises(VolumeError, match="pixdim must be positive"):
        read_volume(craft(pixdim=(1, 1, pixdim, 1)))


@pytest.mark.parametrize("size", [1e-6, 1e4])
def test_i21_spacing_that_no_scanner_has(craft: Any, size: float) -> None:
    with pytest.raises(VolumeError, match=r"outside .* mm"):
        read_volume(craft(affine=np.diag([size, size, size, 1])))


@pytest.mark.parametrize(("code", "factor"), [(1, 0.001), (3, 1000.0)])
def test_i21_metres_and_micrometres_are_converted(craft: Any, code: int, factor: float) -> None:
    scan = read_volume(craft(affine=np.diag([2 * factor, factor, factor, 1]), xyzt_units=code))
    assert scan.grid.spacing == pytest.approx((2, 1, 1))
    assert scan.affine[1, 1] == pytest.approx(factor)


def test_i29_channels_on_other_grids_list_every_file(craft: Any) -> None:
    first = craft("t1.nii")
    moved = craft("t2.nii", affine=np.diag([-1.5, 2.0, 3.0, 1.0]))
    smaller = craft("flair.nii", np.zeros((6, 5, 3), np.int16))
    for other in (moved, smaller):
        with pytest.raises(VolumeError) as caught:
            read_volume([first, other])
        assert "t1.nii: 6x5x4 voxels" in str(caught.value)
        assert other.name in str(caught.value)


def test_i31_one_file_given_twice_is_a_warning(craft: Any) -> None:
    path = craft()
    scan = read_volume([path, path])
    assert scan.array.shape == (2, 6, 5, 4)
    assert any("same file" in text for text in scan.warnings)


def test_l07_a_label_with_a_slice_less_names_both_shapes(craft: Any) -> None:
    scan = read_volume(craft())
    label = craft("label.nii", np.zeros((6, 5, 3), np.uint8))
    with pytest.raises(VolumeError, match=r"\(6, 5, 3\).*\(6, 5, 4\)"):
        read_labels(label, grid=scan.grid)


def test_l08_a_label_slightly_off_is_fine_then_a_warning_then_refused() -> None:
    grid = Grid((6, 5, 4), DIAGONAL)

    def notes(affine: np.ndarray) -> list[str]:
        return read_labels(nib.Nifti1Image(np.zeros((6, 5, 4), np.uint8), affine), grid=grid).warnings

    assert notes(changed(0, 3, 1e-6)) == []
    assert "0.3 voxels off" in notes(changed(0, 3, 0.3))[0]
    with pytest.raises(VolumeError, match=r"LAS and RAS"):
        notes(changed(0, 0, -1.0))


@pytest.mark.parametrize("field", ["sform_code", "qform_code"])
@pytest.mark.parametrize("code", [-1, 6, 244])
def test_codes_that_nifti_does_not_have_are_refused(craft: Any, field: str, code: int) -> None:
    with pytest.raises(VolumeError, match=rf"{field} is {code}, NIfTI has 0 to 5"):
        read_volume(craft(**{field: code}))


def test_line_ends_that_a_transfer_changed_are_seen(craft: Any) -> None:
    with pytest.raises(VolumeError, match="line ends were changed"):
        read_volume(craft(version=2, eol_check=(13, 13, 10, 26)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=4), st.sampled_from([1, 2]))
def test_any_damage_to_a_header_is_refused_or_read_as_nibabel_reads_it(craft: Any, flips: Any, version: int) -> None:
    def damage(content: bytearray) -> bytes:
        for position, value in flips:
            content[position] = value
        return bytes(content)

    path = craft("damaged.nii", version=version, qform_code=1, edit=damage)
    with suppress(MedTransferError, nib.spatialimages.HeaderDataError, nib.filebasedimages.ImageFileError):
        scan = read_volume(path)
        np.testing.assert_array_equal(scan.affine, nib.load(path).affine)
