"""Masks for other programs: read back by the libraries of their formats, voxel by voxel, on the same grid."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk

from medtransfer.errors import MissingExtraError, OutputExistsError, ResourceError, UsageError, VolumeError
from medtransfer.volumes import seg_nrrd
from medtransfer.volumes.dicom_seg import write_dicom_seg
from medtransfer.volumes.grid import Grid
from medtransfer.volumes.read import Volume, read_labels, read_volume
from medtransfer.volumes.seg_nrrd import write_seg_nrrd
from tests.volumes.dicom_series import write_series

CLASSES = ["background", "liver", "left\nkidney", "never there"]
COLOURS = [(0, 0, 0), (255, 0, 0), (0, 128, 255), (10, 20, 30)]
OBLIQUE = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))[0]
OBLIQUE = OBLIQUE * np.sign(np.linalg.det(OBLIQUE))


@pytest.fixture
def mask() -> np.ndarray:
    labels = np.zeros((5, 4, 6), np.int64)
    labels[1:3, 2, 1:4] = 1
    labels[4, :, 2] = 2
    return labels


@pytest.fixture
def grid() -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = OBLIQUE * (1.5, 2.0, 0.7)
    affine[:3, 3] = (10, -20, 30)
    return Grid((5, 4, 6), affine)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return write_series(tmp_path / "ct", direction=OBLIQUE)


def test_slicer_finds_names_values_colours_and_boxes(tmp_path: Path, mask: np.ndarray, grid: Grid) -> None:
    path = write_seg_nrrd(mask, grid, CLASSES, tmp_path / "mask.seg.nrrd", COLOURS)
    read = read_labels(path, grid=grid, num_classes=4)
    np.testing.assert_array_equal(read.array, mask)
    np.testing.assert_allclose(read.affine, grid.affine, atol=1e-9)
    image = sitk.ReadImage(str(path))
    keys = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    assert [keys[f"Segment{index}_Name"] for index in range(3)] == ["liver", "left kidney", "never there"]
    assert [keys[f"Segment{index}_LabelValue"] for index in range(3)] == ["1", "2", "3"]
    assert [keys[f"Segment{index}_Layer"] for index in range(3)] == ["0", "0", "0"]
    assert [keys[f"Segment{index}_Extent"] for index in range(3)] == ["1 2 2 2 1 3", "4 4 0 3 2 2", "0 -1 0 -1 0 -1"]
    assert keys["Segment1_Color"] == "0 0.501961 1"
    assert keys["Segmentation_MasterRepresentation"] == "Binary labelmap"
    assert image.GetPixelID() == sitk.sitkUInt8


def test_equal_segments_are_equal_files(tmp_path: Path, mask: np.ndarray, grid: Grid) -> None:
    paths = [write_seg_nrrd(mask, grid, CLASSES, tmp_path / f"{name}.seg.nrrd") for name in "ab"]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert b"_Color" not in paths[0].read_bytes()


def test_a_seg_file_that_does_not_read_back_is_not_kept(
    tmp_path: Path, mask: np.ndarray, grid: Grid, monkeypatch: Any
) -> None:
    honest = seg_nrrd._image
    monkeypatch.setattr(seg_nrrd, "_image", lambda sitk, labels, grid: honest(sitk, labels + 1, grid))
    with pytest.raises(ResourceError, match="did not read back equal"):
        write_seg_nrrd(mask, grid, CLASSES, tmp_path / "mask.seg.nrrd")
    assert list(tmp_path.iterdir()) == []


def test_a_seg_file_is_refused_where_it_cannot_be(tmp_path: Path, mask: np.ndarray, grid: Grid) -> None:
    path = tmp_path / "mask.seg.nrrd"
    with pytest.raises(UsageError, match=r"must end in \.seg\.nrrd"):
        write_seg_nrrd(mask, grid, CLASSES, tmp_path / "mask.nrrd")
    with pytest.raises(UsageError, match="labels run from 0 to 2, there are 2 names"):
        write_seg_nrrd(mask, grid, CLASSES[:2], path)
    with pytest.raises(UsageError, match="2 colours for 4 classes"):
        write_seg_nrrd(mask, grid, CLASSES, path, COLOURS[:2])
    with pytest.raises(VolumeError, match="reference grid"):
        write_seg_nrrd(mask[1:], grid, CLASSES, path)
    with pytest.raises(VolumeError, match="whole numbers"):
        write_seg_nrrd(mask / 1.0, grid, CLASSES, path)
    path.write_text("old")
    with pytest.raises(OutputExistsError):
        write_seg_nrrd(mask, grid, CLASSES, path)
    assert path.read_text() == "old"


def segments(path: Path, series: Path, scan: Volume) -> np.ndarray:
    """Labels (I, J, K) of a DICOM segmentation, in the order of the scan's slices."""
    from medtransfer.volumes.dicom import find_series

    uids = [hd.imread(one.path).SOPInstanceUID for one in find_series(series, series, "")[0]]
    frames = hd.seg.segread(path).get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    return np.asarray(frames).T.reshape(scan.grid.shape)


def test_a_dicom_segmentation_reads_back_as_the_very_mask(tmp_path: Path, mask: np.ndarray, series: Path) -> None:
    scan = read_volume(series)
    path = write_dicom_seg(mask, scan, series, CLASSES, tmp_path / "mask.dcm", COLOURS, algorithm="liver net")
    np.testing.assert_array_equal(segments(path, series, scan), mask)
    read = hd.seg.segread(path)
    described = [read.get_segment_description(number) for number in read.segment_numbers]
    assert [one.segment_label for one in described] == ["liver", "left kidney", "never there"]
    assert described[0].algorithm_identification.name == "liver net"
    shown = hd.color.CIELabColor.from_dicom_value(described[1].RecommendedDisplayCIELabValue)
    np.testing.assert_allclose(shown.to_rgb(), COLOURS[2], atol=2)
    assert (read.PatientID, read.StudyInstanceUID) == ("P-77", "1.2.826.0.1.3680043.8.498.1")
    assert read.SeriesInstanceUID != "1.2.826.0.1.3680043.8.498.2"


def test_a_dicom_segmentation_lies_where_its_scan_does(tmp_path: Path, mask: np.ndarray, series: Path) -> None:
    scan = read_volume(series)
    mask[0, 0, [0, 5]] = 3  # segments from end to end, so that the box is the scan's
    read = hd.seg.segread(write_dicom_seg(mask, scan, series, CLASSES, tmp_path / "mask.dcm"))
    volume = read.get_volume(combine_segments=True, allow_missing_positions=True)
    ras = Grid(tuple(volume.spatial_shape), np.diag([-1.0, -1, 1, 1]) @ volume.affine)  # type: ignore[arg-type]
    for label in (1, 2, 3):
        np.testing.assert_allclose(
            sorted(map(tuple, world(ras, volume.array == label))),
            sorted(map(tuple, world(scan.grid, mask == label))),
            atol=1e-4,
        )


def world(grid: Grid, chosen: np.ndarray) -> np.ndarray:
    places = np.argwhere(chosen) @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    return np.round(places, 3)


def test_an_empty_mask_is_a_segmentation_too(tmp_path: Path, mask: np.ndarray, series: Path) -> None:
    scan = read_volume(series)
    path = write_dicom_seg(mask * 0, scan, series, CLASSES, tmp_path / "mask.dcm")
    assert not segments(path, series, scan).any()


def test_a_dicom_segmentation_is_refused_where_it_cannot_be(
    tmp_path: Path, mask: np.ndarray, grid: Grid, series: Path, monkeypatch: Any
) -> None:
    path = tmp_path / "mask.dcm"
    with pytest.raises(VolumeError, match="the mask lies up to"):
        write_dicom_seg(mask, grid, series, CLASSES, path)
    with pytest.raises(VolumeError, match="no folder with a DICOM series"):
        write_dicom_seg(mask, grid, series / "im001.dcm", CLASSES, path)
    with pytest.raises(UsageError, match="no class but the background"):
        write_dicom_seg(mask * 0, read_volume(series), series, CLASSES[:1], path)
    with pytest.raises(UsageError, match=r"must end in \.dcm"):
        write_dicom_seg(mask, grid, series, CLASSES, tmp_path / "mask.nii")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingExtraError, match=r"highdicom.*medtransfer\[dicom\]"):
        write_dicom_seg(mask, grid, series, CLASSES, path)
    assert not path.exists()


def test_e15_without_simpleitk_no_seg_file(tmp_path: Path, mask: np.ndarray, grid: Grid, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(MissingExtraError, match=r"medtransfer\[itk\]"):
        write_seg_nrrd(mask, grid, CLASSES, tmp_path / "mask.seg.nrrd")
    assert list(tmp_path.iterdir()) == []
