"""Series of DICOM files: one box without gaps, or refused with the list of slices."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.uid import (
    ComprehensiveSRStorage,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RTStructureSetStorage,
)

from medtransfer.errors import MissingExtraError, ResourceError, VolumeError
from medtransfer.volumes import dicom
from medtransfer.volumes.read import case_name, read_volume
from medtransfer.volumes.write import write_labels
from tests.volumes.dicom_series import ROOT_UID, write_series, write_slice

NOISE = np.random.default_rng(0)


def refusal(path: Any) -> str:
    with pytest.raises(VolumeError) as caught:
        read_volume(path)
    assert "Secret" not in str(caught.value)
    return str(caught.value)


def rotation(seed: int) -> np.ndarray:
    directions = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return directions * np.sign(np.linalg.det(directions))


@pytest.mark.parametrize("seed", range(4))
def test_i34_a_series_equals_its_nifti_twin(tmp_path: Path, seed: int) -> None:
    array = NOISE.integers(-1000, 3000, (7, 6, 5)).astype(np.int16)
    folder = write_series(tmp_path / "ct", array, rotation(seed), step=2.5)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    sitk.WriteImage(reader.Execute(), str(tmp_path / "twin.nii"))
    scan, twin = read_volume(folder), read_volume(tmp_path / "twin.nii")
    np.testing.assert_array_equal(scan.array, twin.array)
    np.testing.assert_array_equal(scan.array[0], array.astype(np.float32) - 1024)
    np.testing.assert_allclose(scan.affine, twin.affine, atol=1e-4)
    np.testing.assert_allclose(scan.grid.spacing, (2, 1.5, 2.5), rtol=1e-6)
    assert (scan.warnings, scan.paths, case_name(folder)) == ([], (folder,), "ct")


def test_i34_every_slice_has_its_own_rescaling(tmp_path: Path) -> None:
    changes = {2: {"RescaleSlope": "0.37", "RescaleIntercept": "5"}}
    scan = read_volume(write_series(tmp_path / "mr", changes=changes, SOPClassUID=MRImageStorage, Modality="MR"))
    stored = np.arange(5 * 4 * 6, dtype=np.float64).reshape(5, 4, 6)
    np.testing.assert_array_equal(scan.array[0, ..., 2], (stored[..., 2] * 0.37 + 5).astype(np.float32))
    np.testing.assert_array_equal(scan.array[0, ..., 3], stored[..., 3] - 1024)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, "1.2.840.10008.1.2.2"])
def test_i34_other_ways_to_write_numbers(tmp_path: Path, syntax: str) -> None:
    array = NOISE.integers(0, 3000, (5, 4, 3)).astype(np.int16)
    order = ">i2" if syntax.endswith("2.2") else "<i2"
    changes = {index: {"PixelData": array[..., index].T.astype(order).tobytes()} for index in range(3)}
    scan = read_volume(write_series(tmp_path / "ct", array, changes=changes, syntax=syntax))
    np.testing.assert_array_equal(scan.array[0], array.astype(np.float32) - 1024)


def test_i34_a_missing_slice_names_its_neighbours(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct")
    (folder / "im004.dcm").unlink()
    assert "slices are missing where others are 3 mm apart: im005.dcm to im003.dcm (6 mm)" in refusal(folder)


def test_i34_two_slices_at_one_position_are_named(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", changes={3: {"ImagePositionPatient": [10, -20, 30 + 3 * 2]}})
    assert "two slices at one position: im00" in refusal(folder)
    (folder / "copy.dcm").write_bytes((folder / "im001.dcm").read_bytes())
    assert "copy.dcm" in refusal(folder)


@pytest.mark.parametrize("degrees", [15.0, 1.0])
def test_i34_a_gantry_tilt_is_refused(tmp_path: Path, degrees: float) -> None:
    axes = np.eye(3)
    axes[:, 2] = (0, np.sin(np.radians(degrees)), np.cos(np.radians(degrees)))
    message = refusal(write_series(tmp_path / "ct", direction=axes))
    assert f"a gantry tilt of {degrees:.1f} degrees (from im006.dcm to im001.dcm)" in message


def test_i34_a_slice_off_its_place_is_refused_or_said(tmp_path: Path) -> None:
    far = write_series(tmp_path / "far", changes={2: {"ImagePositionPatient": [12, -20, 36]}})
    assert "slices off their even places: im004.dcm by 1 voxels" in refusal(far)
    near = write_series(tmp_path / "near", changes={2: {"ImagePositionPatient": [10.3, -20, 36]}})
    assert "0.15 voxels off even steps" in read_volume(near).warnings[0]


def test_i34_two_series_are_listed_and_one_can_be_chosen(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "both")
    other = f"{ROOT_UID}.5"
    write_series(folder, changes={index: {"PixelData": bytes([7, 0] * 20)} for index in range(6)})
    for path in list(folder.iterdir()):
        path.rename(folder / f"a{path.name}")
    write_series(folder, SeriesInstanceUID=other)
    message = refusal(folder)
    assert f"holds 2 series: {ROOT_UID}.2 (CT, CT Image Storage, 6 files); {other} (CT" in message
    assert "FOLDER#UID" in message
    assert read_volume(f"{folder}#{other}").array.max() == 119 - 1024
    assert read_volume(Path(f"{folder}/#{ROOT_UID}.2")).array.max() == 7 - 1024
    assert case_name(f"{folder}#{other}") == f"both_{other}"
    assert "there is no series 1.2.3, only" in refusal(f"{folder}#1.2.3")


@pytest.mark.parametrize(
    ("tag", "value", "words"),
    [
        ("ImagePositionPatient", None, "Image Position (Patient) is missing"),
        ("ImageOrientationPatient", None, "Image Orientation (Patient) is missing"),
        ("PixelSpacing", None, "Pixel Spacing is missing"),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "two unit vectors at right angles"),
        ("ImageOrientationPatient", [0, 1, 0, 0, 0, 1], "of another orientation"),
        ("PixelSpacing", [1.5, 2.5], "of another pixel spacing"),
        ("Rows", 3, "of other sizes than"),
        ("PixelData", None, "has no pixels (CT Image Storage)"),
        ("PixelData", bytes(20), "ends early: 20 of 40 bytes of pixels"),
        ("NumberOfFrames", 2, "holds 2 frames (enhanced DICOM)"),
        ("SamplesPerPixel", 3, "has 3 samples a pixel (colour)"),
        ("Columns", None, "Rows and Columns is missing"),
    ],
)
def test_i34_a_slice_that_does_not_fit_is_named(tmp_path: Path, tag: str, value: Any, words: str) -> None:
    message = refusal(write_series(tmp_path / "ct", changes={1: {tag: value}}))
    assert words in message
    assert "im005.dcm" in message


@pytest.mark.parametrize("text", [b"nan\\0.0\\00.0", b"inf\\0.0\\00.0", b"one\\0.0\\00.0", b"1.0\\2.0\\    "])
def test_i34_a_tag_that_is_no_number_is_named(tmp_path: Path, text: bytes) -> None:
    folder = write_series(tmp_path / "ct")
    path = write_slice(folder / "bad.dcm", ImagePositionPatient=["0.25", "0.0", "0.0"])
    path.write_bytes(path.read_bytes().replace(b"0.25\\0.0\\0.0", text))
    assert "Image Position (Patient) is missing or no finite number: bad.dcm" in refusal(folder)


@pytest.mark.parametrize(("kind", "modality"), [(RTStructureSetStorage, "RTSTRUCT"), (ComprehensiveSRStorage, "SR")])
def test_i34_what_is_no_image_is_called_by_its_kind(tmp_path: Path, kind: str, modality: str) -> None:
    none = dict.fromkeys(("PixelData", "Rows", "Columns", "ImagePositionPatient", "SamplesPerPixel"))
    folder = tmp_path / "rt"
    folder.mkdir()
    write_slice(folder / "rt.dcm", SOPClassUID=kind, Modality=modality, **none)
    assert f"no slice of a scan: rt.dcm has no pixels ({kind.name})" in refusal(folder)
    write_series(folder, SeriesInstanceUID=f"{ROOT_UID}.8")
    assert f"({modality}, {kind.name}, rt.dcm)" in refusal(folder)
    assert read_volume(f"{folder}#{ROOT_UID}.8").array.shape == (1, 5, 4, 6)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"])
def test_i34_pixels_that_cannot_be_decoded_name_their_syntax(tmp_path: Path, syntax: str) -> None:
    folder = tmp_path / "ct"
    folder.mkdir()
    write_slice(folder / "im006.dcm", syntax=syntax, PixelData=b"garbage!")
    message = refusal(folder)
    assert "cannot be decoded (transfer syntax" in message
    assert "im006.dcm" in message
    assert "0x" not in message


def test_i34_what_unpacks_without_bound_is_not_unpacked(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", syntax=DeflatedExplicitVRLittleEndian)
    assert "im001.dcm is deflated as a whole" in refusal(folder)


def test_i34_cut_files_are_named(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct")
    content = (folder / "im002.dcm").read_bytes()
    (folder / "im002.dcm").write_bytes(content[:-10])
    assert "im002.dcm ends early: 30 of 40 bytes" in refusal(folder)
    (folder / "im002.dcm").write_bytes(content[:500])
    assert "im002.dcm" in refusal(folder)


def test_i34_a_size_beyond_memory_is_refused_before_it_is_taken(tmp_path: Path, monkeypatch: Any) -> None:
    folder = write_series(tmp_path / "ct")
    monkeypatch.setattr("medtransfer.volumes.memory.available_memory", lambda: 100)
    with pytest.raises(ResourceError, match="a series of 6 slices needs about 800 bytes"):
        read_volume(folder)
    monkeypatch.undo()
    huge = write_series(tmp_path / "huge", Rows=65535, Columns=65535)
    assert "ends early: 40 of 8589672450 bytes" in refusal(huge)


def test_a_folder_without_dicom_says_what_to_name(tmp_path: Path) -> None:
    write_series(tmp_path / "patient" / "series7")
    assert "without DICOM files, not a scan. Name a folder in it: series7" in refusal(tmp_path / "patient")
    assert "one file of a DICOM series" in refusal(tmp_path / "patient" / "series7" / "im001.dcm")


def test_other_files_beside_the_slices_are_passed_over(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct")
    for name in ("notes.txt", ".hidden.dcm", "Thumbs.db"):
        (folder / name).write_text("no DICOM")
    write_slice(folder / "DICOMDIR", SOPClassUID="1.2.840.10008.1.3.10")
    assert read_volume(folder).array.shape == (1, 5, 4, 6)


def test_one_slice_is_as_thick_as_it_says(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    write_slice(folder / "a.dcm")
    scan = read_volume(folder)
    assert scan.grid.spacing == (2, 1.5, 3)
    assert "one slice only" in scan.warnings[0]


def test_the_patient_is_not_copied_into_the_mask(tmp_path: Path) -> None:
    scan = read_volume(write_series(tmp_path / "ct", direction=rotation(5)))
    path = write_labels(np.ones((5, 4, 6), int), scan, tmp_path / "mask.nii")
    assert b"Secret" not in path.read_bytes()
    np.testing.assert_allclose(nib.load(path).affine, scan.affine, atol=1e-5)
    assert nib.load(path).header["sform_code"] == 1


@pytest.mark.parametrize("module", ["pydicom", "SimpleITK"])
def test_e15_without_its_extra_a_series_says_what_to_install(tmp_path: Path, monkeypatch: Any, module: str) -> None:
    folder = write_series(tmp_path / "ct")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"needs .*pip install 'medtransfer\[itk\]'"):
        read_volume(folder)


def test_a_hash_in_a_name_is_no_choice_of_a_series(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct#1")
    assert dicom.split_series(folder) == (folder, "")
    assert dicom.split_series(tmp_path / "scan#2.nii.gz") == (tmp_path, "") or case_name("a/scan#2.nii.gz") == "scan#2"
