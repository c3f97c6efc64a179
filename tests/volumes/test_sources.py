"""Scans that are in memory: through the same gate as files, and never taken for something else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from monai.utils import SpaceKeys

from medtransfer.errors import VolumeError
from medtransfer.volumes.read import case_name, read_labels, read_volume
from medtransfer.volumes.write import labels_image, write_labels

AFFINE = np.array([[0, -2.0, 0, 9], [1.5, 0, 0, -4], [0, 0, 3.0, 7], [0, 0, 0, 1]])
NOISE = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)


@pytest.mark.parametrize(
    "array",
    [NOISE[0], NOISE, NOISE.astype(np.float64), NOISE.astype(">f4"), torch.tensor(NOISE), torch.tensor(NOISE[:1])],
    ids=["three axes", "channels", "double", "big endian", "tensor", "one channel"],
)
def test_an_array_with_its_affine_is_a_scan(array: Any, tmp_path: Path) -> None:
    scan = read_volume((array, AFFINE))
    np.testing.assert_array_equal(scan.array, np.asarray(array).reshape(-1, 4, 5, 6).astype(np.float32))
    np.testing.assert_array_equal(scan.affine, AFFINE)
    assert (scan.paths, scan.warnings, case_name((array, AFFINE))) == ((), [], "case")
    mask = np.ones((4, 5, 6), int)
    np.testing.assert_array_equal(labels_image(mask, scan).affine, AFFINE)
    np.testing.assert_array_equal(nib.load(write_labels(mask, scan, tmp_path / "mask.nii")).affine, AFFINE)


def test_numbers_of_other_kinds_are_taken_as_they_are() -> None:
    whole = np.arange(60, dtype=np.uint16).reshape(3, 4, 5) + 40000
    assert read_volume((whole, torch.eye(4))).array[0, 2, 3, 4] == 40059
    half = torch.full((3, 4, 5), 1.5, dtype=torch.bfloat16, requires_grad=True)
    assert read_volume((half, np.eye(4))).array.mean() == 1.5
    assert read_volume((half.half(), np.eye(4, dtype=int))).array.mean() == 1.5


def test_a_tuple_with_an_array_is_one_scan_and_other_tuples_are_channels(craft: Any) -> None:
    first, second = craft("a.nii"), craft("b.nii")
    assert read_volume((first, second)).array.shape == (2, 6, 5, 4)
    assert read_volume((nib.load(first), nib.load(second))).array.shape == (2, 6, 5, 4)
    pair = (np.ones((6, 5, 4), np.float32), nib.load(first).affine)
    assert read_volume(pair).array.shape == (1, 6, 5, 4)
    assert read_volume([first, pair]).array.shape == (2, 6, 5, 4)
    assert read_volume([pair, pair], channels=2).array.shape == (2, 6, 5, 4)
    assert case_name([str(first), pair]) == "a"
    with pytest.raises(VolumeError, match=r"an affine is 4 x 4 numbers, got float32 of shape \(6, 5, 4\)"):
        read_volume((pair[0], pair[0]))


def test_i30_the_channels_of_an_array_are_known() -> None:
    assert read_volume((NOISE, AFFINE), channels=2).array.shape == (2, 4, 5, 6)
    with pytest.raises(VolumeError, match=r"model needs 3 channels \(T1, T2, DWI\), got 2"):
        read_volume((NOISE, AFFINE), channels=["T1", "T2", "DWI"])


@pytest.mark.parametrize(
    ("array", "affine", "reason"),
    [
        (np.ones((4, 5)), AFFINE, r"must be \(I, J, K\) or \(C, I, J, K\), got the shape \(4, 5\)"),
        (np.ones((1, 2, 4, 5, 6)), AFFINE, r"got the shape \(1, 2, 4, 5, 6\)"),
        (np.ones((0, 4, 5)), AFFINE, "an axis of size 0"),
        (np.ones((3, 4, 5), bool), AFFINE, "voxels are bool"),
        (np.ones((3, 4, 5), complex), AFFINE, "voxels are complex128"),
        (np.full((3, 4, 5), "a"), AFFINE, "not plain numbers"),
        (np.full((3, 4, 5), np.nan), AFFINE, "60 of 60 voxels are NaN"),
        (np.ones((3, 4, 5)), np.eye(3), r"4 x 4 numbers, got float64 of shape \(3, 3\)"),
        (np.ones((3, 4, 5)), None, "4 x 4 numbers, got object"),
        (np.ones((3, 4, 5)), np.ones((4, 4)), "last row"),
        (np.ones((3, 4, 5)), np.diag([1, 1, np.nan, 1]), "NaN"),
        (np.ones((3, 4, 5)), np.diag([1, 1, 0, 1]), "zero column"),
        (np.ones((3, 4, 5)), np.diag([1e300, 1, 1, 1]), "entries of"),
        (np.ones((3, 4, 5)), np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "sheared"),
    ],
)
def test_i10_i14_i17_what_a_file_is_refused_for_an_array_is_too(array: Any, affine: Any, reason: str) -> None:
    with pytest.raises(VolumeError, match=reason):
        read_volume((array, affine))


def test_an_array_without_an_affine_says_what_is_missing() -> None:
    for alone in (NOISE, torch.tensor(NOISE), [NOISE[0], NOISE[1]], [NOISE[0], AFFINE]):
        with pytest.raises(VolumeError, match=r"says not where its voxels lie\. Give a tuple"):
            read_volume(alone)


def test_nan_is_filled_without_changing_the_array_of_the_caller() -> None:
    array = np.ones((3, 4, 5), np.float32)
    array[1, 1, 1] = np.nan
    assert read_volume((array, np.eye(4)), nan=0).array.min() == 0
    assert np.isnan(array[1, 1, 1])


@pytest.mark.filterwarnings("ignore:NvImgCodec")
def test_a_meta_tensor_of_monai_is_a_scan_like_its_file(craft: Any) -> None:
    path = craft("scan.nii.gz", affine=AFFINE)
    tensor = LoadImage(reader="NibabelReader", ensure_channel_first=True, image_only=True)(path)
    scan, other = read_volume(tensor), read_volume(path)
    np.testing.assert_array_equal(scan.array, other.array)
    np.testing.assert_allclose(scan.affine, other.affine, atol=1e-6)
    assert (case_name(tensor), scan.path) == ("scan", path)
    without_channel = LoadImage(reader="NibabelReader", image_only=True)(path)
    np.testing.assert_array_equal(read_volume(without_channel).array, other.array)
    assert case_name(MetaTensor(NOISE)) == "case"


@pytest.mark.parametrize("space", ["LPS", SpaceKeys.LPS])
def test_a_meta_tensor_in_lps_is_turned(space: Any) -> None:
    flipped = MetaTensor(NOISE, affine=np.diag([-1.0, -1, 1, 1]) @ AFFINE, meta={"space": space})
    np.testing.assert_array_equal(read_volume(flipped).affine, read_volume(MetaTensor(NOISE, affine=AFFINE)).affine)


def test_a_meta_tensor_of_unknown_space_or_shape_is_refused() -> None:
    with pytest.raises(VolumeError, match="in the space 'SCREEN'"):
        read_volume(MetaTensor(NOISE, affine=AFFINE, meta={"space": "screen"}))
    with pytest.raises(VolumeError, match="without an axis of batches"):
        read_volume(MetaTensor(NOISE[None], affine=AFFINE))


def test_labels_come_from_memory_too() -> None:
    mask = np.zeros((4, 5, 6), np.uint8)
    mask[1:3] = 2
    scan = read_volume((NOISE, AFFINE))
    for source in ((mask, AFFINE), (mask[None], AFFINE), MetaTensor(mask[None], affine=AFFINE)):
        np.testing.assert_array_equal(read_labels(source, grid=scan.grid, num_classes=3).array, mask)
    with pytest.raises(VolumeError, match=r"ARS|RAS"):
        read_labels((mask, np.eye(4)), grid=scan.grid)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("a/scan.nrrd", "scan"),
        ("a/scan.seg.nrrd", "scan"),
        (Path("scan.v2.mha"), "scan.v2"),
        ("x#y.mhd", "x#y"),
        ("folder/", "folder"),
        ("folder#1.2.3", "folder_1.2.3"),
        (["a_0000.nrrd", "a_0001.nrrd"], "a"),
        ([], "case"),
        (nib.Nifti1Image(NOISE[0], AFFINE), "case"),
    ],
)
def test_i35_every_source_has_a_name(source: Any, name: str) -> None:
    assert case_name(source) == name


def test_a_folder_without_a_name_takes_its_real_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert case_name(".") == tmp_path.name


LIGHT = """
import sys, numpy as np
from medtransfer.volumes.read import read_volume
read_volume((np.ones((3, 4, 5)), np.eye(4)))
sys.exit(sum(name in sys.modules for name in ("torch", "monai", "SimpleITK", "highdicom")))
"""


@pytest.mark.slow
def test_reading_needs_no_heavy_import() -> None:
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", LIGHT], cwd=root, env=dict(os.environ), check=False).returncode == 0
