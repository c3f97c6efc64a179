"""What is read equals nibabel's float reference, for every form that a scan comes in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medtransfer.errors import VolumeError
from medtransfer.volumes.read import case_name, read_labels, read_volume

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
NOISE = np.random.default_rng(0)


def equals_nibabel(path: Path) -> Any:
    scan, reference = read_volume(path), nib.load(path)
    np.testing.assert_array_equal(scan.array[0], reference.get_fdata(dtype=np.float64).astype(np.float32))
    np.testing.assert_array_equal(scan.affine, reference.affine)
    return scan


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_i26_types_orders_and_versions_equal_nibabel(craft: Any, version: int, order: str, dtype: str) -> None:
    kind = np.dtype(dtype)
    top = 60000 if kind.itemsize > 1 and kind.kind == "u" else 100
    array = NOISE.uniform(0, top, (7, 5, 3)).astype(kind)
    scan = equals_nibabel(craft("scan.nii.gz", array, version=version, order=order))
    assert scan.warnings == []


@pytest.mark.parametrize("dtype", ["i2", "u2", "f4"])
def test_i26_slope_and_intercept(craft: Any, dtype: str) -> None:
    array = NOISE.uniform(0, 30000, (7, 5, 3)).astype(dtype)
    equals_nibabel(craft(array=array, scl_slope=0.37, scl_inter=-1024))


@pytest.mark.parametrize("named_by", [".hdr", ".img"])
def test_i26_a_pair_is_read_from_either_half(tmp_path: Path, named_by: str) -> None:
    array = NOISE.normal(size=(7, 5, 3)).astype(np.float32)
    nib.Nifti1Pair(array, np.diag([1, 2, 3, 1])).to_filename(tmp_path / "scan.hdr")
    scan = read_volume(tmp_path / f"scan{named_by}")
    np.testing.assert_array_equal(scan.array[0], array)


def test_i26_header_extensions_are_passed_over(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 5000))
    image.to_filename(tmp_path / "scan.nii.gz")
    equals_nibabel(tmp_path / "scan.nii.gz")


@pytest.mark.parametrize("claimed", [2**31 - 1, -16, 4, 6000])
def test_i09_an_extension_of_impossible_size_is_refused(tmp_path: Path, claimed: int) -> None:
    image = nib.Nifti1Image(np.ones((4, 3, 2), np.float32), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 5000))
    image.to_filename(tmp_path / "scan.nii")
    data = bytearray((tmp_path / "scan.nii").read_bytes())
    data[352:356] = claimed.to_bytes(4, "little", signed=True)
    (tmp_path / "scan.nii").write_bytes(data)
    with pytest.raises(VolumeError, match=rf"an extension of the header claims {claimed} bytes, \d+ are left"):
        read_volume(tmp_path / "scan.nii")


@pytest.mark.parametrize("slope", [0.0, np.nan])
def test_i27_a_slope_of_nothing_is_a_warning_and_not_used(craft: Any, slope: float) -> None:
    scan = read_volume(craft(scl_slope=slope, scl_inter=7))
    assert scan.array.max() == 119
    assert "stored numbers are taken as they are" in scan.warnings[0]


def test_i27_a_slope_beyond_reason_is_refused(craft: Any) -> None:
    with pytest.raises(VolumeError, match=r"the slope 1e\+30 spreads intensities"):
        read_volume(craft(scl_slope=1e30))
    with pytest.raises(VolumeError, match="intensity scaling"):
        read_volume(craft(scl_slope=np.inf))
    assert "spreads intensities over 1.19e+06" in read_volume(craft(scl_slope=1e4)).warnings[0]


def test_i12_a_series_is_refused_unless_channels_or_a_volume_are_named(craft: Any) -> None:
    path = craft(array=np.arange(3 * 3 * 3 * 4, dtype=np.int16).reshape(3, 3, 3, 4))
    with pytest.raises(VolumeError, match=r"holds 4 volumes .* 1 wanted"):
        read_volume(path)
    with pytest.raises(VolumeError, match=r"holds 4 volumes .* 2 wanted"):
        read_volume(path, channels=2)
    reference = np.moveaxis(nib.load(path).get_fdata(), 3, 0)
    np.testing.assert_array_equal(read_volume(path, channels=4).array, reference)
    np.testing.assert_array_equal(read_volume(path, volume=2).array, reference[2:3])
    with pytest.raises(VolumeError, match="no volume 4 among 4"):
        read_volume(path, volume=4)


def test_i13_singleton_axes_are_squeezed_if_that_is_unambiguous(craft: Any) -> None:
    assert read_volume(craft("a.nii", np.ones((3, 4, 5, 1, 1), np.int16))).array.shape == (1, 3, 4, 5)
    assert read_volume(craft("b.nii", np.ones((3, 4, 5, 1, 2), np.int16)), channels=2).array.shape == (2, 3, 4, 5)
    with pytest.raises(VolumeError, match="has 5 axes"):
        read_volume(craft("c.nii", np.ones((3, 4, 5, 2, 2), np.int16)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_i14_a_voxel_that_is_no_number_is_counted_and_placed(craft: Any, bad: float, scale: float) -> None:
    array = np.ones((4, 5, 6), np.float32)
    array[1, 2, 3] = array[2, 2, 3] = bad
    path = craft(array=array, scl_slope=scale)
    with pytest.raises(VolumeError, match=r"2 of 120 voxels are NaN or infinite, the first at \(1, 2, 3\)"):
        read_volume(path)
    filled = read_volume(path, nan=-5)
    assert filled.array[0, 1, 2, 3] == -5
    assert "2 NaN or infinite voxels were set to -5" in filled.warnings


def test_i14_only_nan_and_beyond_float32(craft: Any) -> None:
    with pytest.raises(VolumeError, match="8 of 8 voxels"):
        read_volume(craft(array=np.full((2, 2, 2), np.nan, np.float32)))
    with pytest.raises(VolumeError, match="1 of 8 voxels"):
        read_volume(craft("big.nii", np.array([1e300, *range(7)]).reshape(2, 2, 2)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 5), (9, 8, 1), (2000, 3, 3)])
def test_i24_small_flat_and_long_volumes_are_read(craft: Any, shape: tuple[int, ...]) -> None:
    assert equals_nibabel(craft(array=NOISE.normal(size=shape).astype(np.float32))).array.shape == (1, *shape)


NAMES = ["a b.nii", "a'\"b.nii.gz", "new\nline.nii", "ß漢🩻.nii.gz", "n" * 243 + ".nii.gz", "-dash.nii", "SCAN.NII.GZ"]


@pytest.mark.parametrize("name", NAMES)
def test_i35_awkward_names_are_read(craft: Any, name: str) -> None:
    path = craft(name)
    assert read_volume(path).array.max() == 119
    assert read_volume(os.fspath(path)).warnings == []
    assert case_name(path) == name.rsplit(".nii", 1)[0].removesuffix(".NII.GZ")


def test_a_nibabel_image_is_read_like_its_file(craft: Any) -> None:
    path = craft("scan.nii.gz", order=">")
    scan, image = read_volume(path), read_volume(nib.load(path))
    np.testing.assert_array_equal(scan.array, image.array)
    np.testing.assert_array_equal(scan.affine, image.affine)
    assert scan.path == image.path


def test_a_damaged_nibabel_image_is_refused_too(craft: Any) -> None:
    image = nib.load(craft(edit=lambda content: bytes(content[:500])))
    with pytest.raises(VolumeError, match="its voxels cannot be read"):
        read_volume(image)


def test_i30_the_wrong_number_of_channels_names_them(craft: Any) -> None:
    path = craft()
    with pytest.raises(VolumeError, match=r"model needs 4 channels \(T1, T1c, T2, FLAIR\), got 1"):
        read_volume(path, channels=["T1", "T1c", "T2", "FLAIR"])
    with pytest.raises(VolumeError, match="model needs 1 channel, got 2"):
        read_volume([path, craft("other.nii")], channels=1)


def test_i29_channel_files_stack_in_the_order_given(craft: Any) -> None:
    first, second = craft("a.nii"), craft("b.nii", np.zeros((6, 5, 4), np.uint8))
    scan = read_volume([second, first])
    assert [channel.max() for channel in scan.array] == [0, 119]
    assert scan.paths == (second, first)


@pytest.mark.parametrize("pattern", ["spine/*.nii.gz", "ct_abdomen/*.nii.gz", "Task04_Hippocampus/imagesTr/*0.nii.gz"])
def test_real_scans_read_as_nibabel_reads_them(pattern: str) -> None:
    paths = sorted(SHARED.glob(pattern))[:6]
    if not paths:
        pytest.skip(f"no {pattern} in {SHARED}")
    assert all(equals_nibabel(path).warnings == [] for path in paths)


def test_real_labels_lie_on_their_scans() -> None:
    if not (SHARED / "spine").is_dir():
        pytest.skip(f"no spine scans in {SHARED}")
    scan = read_volume(SHARED / "spine" / "sub-ct_label-22_ct.nii.gz")
    labels = read_labels(SHARED / "spine" / "sub-ct_seg-subreg_label-22_msk.nii.gz", grid=scan.grid, num_classes=51)
    assert scan.grid.orientation == "PIR"
    assert {41, 42, 43, 44, 45, 46, 47, 48, 49, 50} & set(np.unique(labels.array).tolist())
