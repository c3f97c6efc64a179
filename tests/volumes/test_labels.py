"""Labels are whole numbers of the classes that were named, when read and when written."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medtransfer.errors import OutputExistsError, ResourceError, UsageError, VolumeError
from medtransfer.volumes import write
from medtransfer.volumes.grid import Grid
from medtransfer.volumes.read import read_labels, read_volume
from medtransfer.volumes.write import write_image, write_labels

GRID = Grid((4, 5, 6), np.diag([1.0, 2.0, 3.0, 1.0]))


def floats(*values: float) -> np.ndarray:
    array = np.zeros((4, 5, 6), np.float32)
    array.flat[: len(values)] = values
    return array


def test_l01_nearly_whole_labels_are_rounded_with_a_note(craft: Any) -> None:
    labels = read_labels(craft(array=floats(0.9995, 2.0004, 1.0)))
    assert labels.array.flat[:3].tolist() == [1, 2, 1]
    assert "rounded" in labels.warnings[0]
    assert read_labels(craft(array=floats(1, 2))).warnings == []


def test_l01_other_fractions_are_refused_with_their_values(craft: Any) -> None:
    with pytest.raises(VolumeError, match=r"must be whole numbers, got 0.99, 1.5"):
        read_labels(craft(array=floats(0.99, 1.5, 2)))


def test_l02_interpolated_labels_are_called_so(craft: Any) -> None:
    with pytest.raises(VolumeError, match="looks interpolated: 118 different"):
        read_labels(craft(array=np.linspace(0, 1, 120, dtype=np.float32).reshape(4, 5, 6)))


@pytest.mark.parametrize(("value", "dtype"), [(7, "u1"), (255, "u1"), (-1, "i2"), (65535, "u2")])
def test_l03_foreign_values_are_refused_with_counts_or_ignored_on_request(craft: Any, value: int, dtype: str) -> None:
    path = craft(array=floats(1, 2, value, value).astype(dtype) if value >= 0 else floats(1, 2, -1, -1).astype(dtype))
    with pytest.raises(VolumeError, match=rf"labels outside 0 to 2: {value} \(2 voxels\)"):
        read_labels(path, num_classes=3)
    assert (read_labels(path, num_classes=3, ignore_index=value).array == value).sum() == 2
    assert (read_labels(path).array == value).sum() == 2


def test_l10_nan_in_a_label_is_refused(craft: Any) -> None:
    with pytest.raises(VolumeError, match="1 of 120 voxels are NaN"):
        read_labels(craft(array=floats(np.nan)))


def test_l11_a_one_hot_label_is_refused_with_a_hint(craft: Any) -> None:
    with pytest.raises(VolumeError, match=r"not three axes.*argmax of a one-hot"):
        read_labels(craft(array=np.zeros((4, 5, 6, 3), np.uint8)))


def test_labels_beyond_32_bits_are_refused(craft: Any) -> None:
    with pytest.raises(VolumeError, match="beyond 32 bits"):
        read_labels(craft(array=np.full((4, 5, 6), 2**40)))


@pytest.mark.parametrize(
    ("top", "dtype"), [(1, "u1"), (255, "u1"), (300, "u2"), (65535, "u2"), (70_000, "i4"), (-1, "i4")]
)
@pytest.mark.parametrize("name", ["mask.nii", "mask.nii.gz", "MASK.NII.GZ"])
def test_l04_the_smallest_type_that_holds_the_labels(tmp_path: Path, top: int, dtype: str, name: str) -> None:
    array = np.zeros(GRID.shape, np.int64)
    array[1, 2, 3] = top
    path = write_labels(array, GRID, tmp_path / name)
    image = nib.load(path)
    assert image.get_data_dtype() == np.dtype(dtype)
    assert (image.dataobj.slope, image.dataobj.inter) == (1, 0)
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), array)
    np.testing.assert_array_equal(image.affine, GRID.affine)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == name.lower().endswith(".gz")


def test_equal_masks_are_equal_files(tmp_path: Path) -> None:
    one, two = (write_labels(np.ones(GRID.shape, np.uint8), GRID, tmp_path / name) for name in ("a.nii.gz", "b.nii.gz"))
    assert one.read_bytes() == two.read_bytes()


def test_only_the_geometry_of_the_scan_is_inherited(craft: Any, tmp_path: Path) -> None:
    scan = read_volume(craft(scl_slope=2, scl_inter=9, cal_max=80, descrip=b"Mr. Secret", qform_code=1))
    header = nib.load(write_labels(np.ones((6, 5, 4), int), scan, tmp_path / "mask.nii.gz")).header
    raw = nib.Nifti1Header(gzip.decompress((tmp_path / "mask.nii.gz").read_bytes())[:348], check=False)
    assert (raw["scl_slope"], raw["scl_inter"], raw["cal_max"]) == (1, 0, 0)
    assert (header["sform_code"], header["qform_code"]) == (1, 1)
    assert b"Secret" not in raw.binaryblock


@pytest.mark.parametrize(
    "array", [np.ones((4, 5, 5), int), np.ones(GRID.shape, np.float32), np.full(GRID.shape, 2**40)]
)
def test_what_is_no_mask_of_the_grid_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(VolumeError):
        write_labels(array, GRID, tmp_path / "mask.nii")
    assert list(tmp_path.iterdir()) == []


def test_a03_an_output_that_exists_stays_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "mask.nii.gz"
    path.write_text("old")
    with pytest.raises(OutputExistsError):
        write_labels(np.ones(GRID.shape, int), GRID, path)
    assert path.read_text() == "old"
    write_labels(np.ones(GRID.shape, int), GRID, path, overwrite=True)
    assert read_labels(path).array.all()
    assert [entry.name for entry in tmp_path.iterdir()] == ["mask.nii.gz"]


def test_a05_folders_are_made_and_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    write_labels(np.ones(GRID.shape, int), GRID, tmp_path / "new" / "deep" / "mask.nii")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ResourceError, match="cannot be written"):
        write_labels(np.ones(GRID.shape, int), GRID, tmp_path / "file" / "mask.nii")
    with pytest.raises(UsageError, match="must end in"):
        write_labels(np.ones(GRID.shape, int), GRID, tmp_path / "mask.png")


FULL_DISK = """
import resource, signal, sys
import numpy as np
from medtransfer.errors import ResourceError
from medtransfer.volumes.grid import Grid
from medtransfer.volumes.write import write_labels
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write_labels(np.ones((40, 40, 40), int), Grid((40, 40, 40), np.eye(4)), sys.argv[1], overwrite=True)
except ResourceError as error:
    sys.exit(error.exit_code)
"""


def test_e01_a_full_disk_leaves_the_old_mask_and_no_part(tmp_path: Path) -> None:
    path = tmp_path / "mask.nii"
    path.write_text("old")
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], cwd=root, check=False).returncode == 6
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["mask.nii"]


@pytest.mark.parametrize("byte", [293, 360])  # in the affine, in the voxels
def test_a_mask_that_does_not_read_back_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, byte: int) -> None:
    honest = write._write_bytes

    def flipping(image: Any, path: Path) -> None:
        honest(image, path)
        content = bytearray(path.read_bytes())
        content[byte] ^= 0x40
        path.write_bytes(content)

    monkeypatch.setattr(write, "_write_bytes", flipping)
    with pytest.raises(ResourceError, match="did not read back"):
        write_labels(np.ones(GRID.shape, int), GRID, tmp_path / "mask.nii")
    assert list(tmp_path.iterdir()) == []


def test_values_are_written_with_channels_last(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((2, *GRID.shape), np.float32)
    path = write_image(values, GRID, tmp_path / "probabilities.nii.gz")
    np.testing.assert_array_equal(read_volume(path, channels=2).array, values)
