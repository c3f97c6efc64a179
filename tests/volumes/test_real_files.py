"""Every NIfTI file that nibabel and nilearn ship: read as nibabel reads it, or refused with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import nilearn
import numpy as np
import pytest

from medtransfer.errors import VolumeError
from medtransfer.volumes.read import read_volume

NIBABEL = Path(nib.__file__).parent / "tests" / "data"
NILEARN = Path(nilearn.__file__).parent
SUFFIXES = (".nii", ".nii.gz", ".hdr")
FILES = sorted(path for root in (NIBABEL, NILEARN) for path in root.rglob("*") if path.name.lower().endswith(SUFFIXES))


def _slow_if_large(path: Path) -> Any:
    one_is_enough = path.stat().st_size > 1_000_000 and "_t1_" not in path.name
    return pytest.param(path, marks=pytest.mark.slow) if one_is_enough else path


REFUSED = {
    "analyze.hdr": "Analyze files are not read",  # its orientation is anyone's guess
    "nifti1.hdr": "there is no nifti1.img beside it",
    "nifti2.hdr": "there is no nifti2.img beside it",
    "resampled_anat_moved.nii": "153 of 1071 voxels are NaN",  # beyond the field of view, see the test of nan=0
    "row_major.dconn.nii": "axes",  # a matrix of connections between parcels, no volume
}


def test_there_are_files_to_read() -> None:
    assert {"example4d.nii.gz", "anatomical.nii", *REFUSED} <= {path.name for path in FILES}
    assert any("mni_icbm152_t1" in path.name for path in FILES)


@pytest.mark.parametrize("path", [_slow_if_large(path) for path in FILES], ids=lambda path: path.name)
def test_shipped_files_read_as_nibabel_reads_them(path: Path) -> None:
    if path.name in REFUSED:
        with pytest.raises(VolumeError, match=REFUSED[path.name]):
            read_volume(path)
        return
    image = nib.load(path)
    reference = image.get_fdata(dtype=np.float64).astype(np.float32)
    scan = read_volume(path, channels=reference.shape[3] if reference.ndim > 3 else 1)
    expected = np.moveaxis(reference, 3, 0) if reference.ndim > 3 else reference[None]
    np.testing.assert_array_equal(scan.array, expected)
    np.testing.assert_array_equal(scan.affine, image.affine)


def test_i14_nan_beyond_the_field_of_view_is_filled_on_request() -> None:
    path = NIBABEL / "resampled_anat_moved.nii"
    expected = np.nan_to_num(nib.load(path).get_fdata(dtype=np.float32), nan=0)
    np.testing.assert_array_equal(read_volume(path, nan=0).array[0], expected)
