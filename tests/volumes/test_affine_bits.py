"""The affine of a written mask equals that of its scan, both reloaded, bit for bit, however the scan stores it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtransfer.volumes.read import read_volume
from medtransfer.volumes.write import labels_image, write_labels

KINDS = {1: nib.Nifti1Image, 2: nib.Nifti2Image}


def oblique(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    directions = np.linalg.qr(random.normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = directions * random.uniform(0.3, 4, 3)
    affine[:3, 3] = random.normal(size=3) * 100
    return affine


def same_after_writing(source: Any, reloaded: nib.Nifti1Image, folder: Path) -> None:
    scan = read_volume(source)
    mask = np.random.default_rng(0).integers(0, 3, scan.array.shape[1:])
    written = nib.load(write_labels(mask, scan, folder / "mask.nii.gz", overwrite=True))
    assert np.array_equal(written.affine, reloaded.affine)
    for field in ("sform_code", "qform_code", "xyzt_units", "srow_x", "quatern_b", "qoffset_z"):
        np.testing.assert_array_equal(written.header[field], reloaded.header[field])
    np.testing.assert_array_equal(written.header["pixdim"][:4], reloaded.header["pixdim"][:4])
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), mask)
    assert np.array_equal(labels_image(mask, scan).affine, scan.affine)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 1), (1, 2), (4, 4)])
@pytest.mark.parametrize("units", ["mm", "meter", "unknown"])
@pytest.mark.parametrize("seed", range(3))
def test_i22_every_way_to_store_an_affine(tmp_path: Path, version: int, codes: Any, units: str, seed: int) -> None:
    affine = oblique(seed)
    if units == "meter":
        affine[:3] /= 1000
    image = KINDS[version](np.zeros((3, 4, 5), np.int16), affine)
    image.set_sform(affine if codes[0] else None, codes[0])
    image.set_qform(affine, codes[1])
    image.header.set_xyzt_units(units)
    image.to_filename(tmp_path / "scan.nii.gz")
    same_after_writing(tmp_path / "scan.nii.gz", nib.load(tmp_path / "scan.nii.gz"), tmp_path)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 2]))
def test_i22_an_image_in_memory_lies_where_its_file_would(tmp_path_factory: Any, seed: int, version: int) -> None:
    folder = tmp_path_factory.mktemp("memory")
    image = KINDS[version](np.zeros((3, 4, 5), np.float32), oblique(seed))
    image.to_filename(folder / "scan.nii")
    image.file_map["image"].filename = None
    same_after_writing(image, nib.load(folder / "scan.nii"), folder)
    assert np.array_equal(read_volume(image).affine, image.affine)


def test_an_image_of_another_format_is_written_as_nifti(tmp_path: Path) -> None:
    image = nib.MGHImage(np.zeros((3, 4, 5), np.float32), np.diag([-1.0, 2.0, 0.5, 1.0]))
    scan = read_volume(image)
    written = nib.load(write_labels(np.ones((3, 4, 5), int), scan, tmp_path / "mask.nii"))
    np.testing.assert_array_equal(written.affine, image.affine)
    assert written.header["sform_code"] == 2
