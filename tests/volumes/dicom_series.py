"""Tiny series of DICOM files, with anything in them set to nonsense on request."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

ROOT_UID = "1.2.826.0.1.3680043.8.498"
ROW, COLUMN = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])


def write_slice(path: Path, number: int = 1, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> Path:
    """One slice of 5 columns and 4 rows; a tag that is None is left out."""
    kind = tags.pop("SOPClassUID", CTImageStorage)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = f"{ROOT_UID}.9.{crc32(path.name.encode())}"
    meta.TransferSyntaxUID = syntax
    dataset = FileDataset(None, {}, bytes(128), meta, UID(syntax).is_implicit_VR, UID(syntax).is_little_endian)
    values: dict[str, Any] = {
        "SOPClassUID": kind,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "CT",
        "StudyInstanceUID": f"{ROOT_UID}.1",
        "SeriesInstanceUID": f"{ROOT_UID}.2",
        "SeriesNumber": 3,
        "FrameOfReferenceUID": f"{ROOT_UID}.3",
        "PatientName": "Secret^Anna",
        "PatientID": "P-77",
        "StudyID": "1",
        "AccessionNumber": "",
        "StudyDate": "20200101",
        "StudyTime": "120000",
        "PatientBirthDate": "19700101",
        "PatientSex": "O",
        "ReferringPhysicianName": "",
        "InstanceNumber": number,
        "ImagePositionPatient": [0, 0, 0],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [1.5, 2],
        "SliceThickness": "3",
        "Rows": 4,
        "Columns": 5,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "RescaleSlope": "1",
        "RescaleIntercept": "-1024",
        "PixelData": bytes(40),
        **tags,
    }
    for name, value in values.items():
        if value is not None:
            setattr(dataset, name, value)
    if UID(syntax).is_encapsulated and "PixelData" in dataset:
        dataset.PixelData = encapsulate([dataset.PixelData])
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path,
    array: np.ndarray | None = None,
    direction: np.ndarray | None = None,
    step: float = 3.0,
    changes: dict[int, dict[str, Any]] | None = None,
    **tags: Any,
) -> Path:
    """Write int16 voxels (I, J, K) as slices whose file names and numbers run against their places.

    Args:
        folder: Made if missing.
        array: (I, J, K).
        direction: 3 x 3, LPS: along a row, down a column, from slice to slice; unit vectors.
        step: Millimetres from slice to slice.
        changes: Tags of single slices, by their place.
        tags: Tags of all slices.
    """
    values = np.arange(5 * 4 * 6, dtype=np.int16).reshape(5, 4, 6) if array is None else array
    axes = np.eye(3) if direction is None else direction
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(values.shape[2]):
        place = np.array([10.0, -20.0, 30.0]) + index * step * axes[:, 2]
        own = {
            "ImagePositionPatient": [f"{value:.12g}"[:16] for value in place],
            "ImageOrientationPatient": [f"{value:.12f}"[:16] for value in axes[:, :2].T.ravel()],
            "PixelData": values[..., index].T.astype("<i2").tobytes(),
            "Columns": values.shape[0],
            "Rows": values.shape[1],
            **tags,
            **(changes or {}).get(index, {}),
        }
        write_slice(folder / f"im{values.shape[2] - index:03d}.dcm", number=values.shape[2] - index, **own)
    return folder
