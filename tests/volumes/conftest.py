"""Scans of a few voxels, and a crafting table for damaged headers."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

AFFINE = np.array([[-1.5, 0, 0, 20], [0, 2.0, 0, -10], [0, 0, 3.0, 5], [0, 0, 0, 1]])
Craft = Callable[..., Path]


@pytest.fixture
def craft(tmp_path: Path) -> Craft:
    """Write a NIfTI file byte by byte: any header field may be set to nonsense, and bytes cut or appended."""

    def build(
        name: str = "scan.nii",
        array: Any = None,
        affine: Any = AFFINE,
        version: int = 1,
        order: str = "<",
        packed: bool | None = None,
        edit: Callable[[bytearray], bytes] | None = None,
        **fields: Any,
    ) -> Path:
        values = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4) if array is None else np.asarray(array)
        kind = nib.Nifti1Header if version == 1 else nib.Nifti2Header
        header = kind(endianness=order)
        header.set_data_shape(values.shape)
        header.set_data_dtype(values.dtype)
        header.set_sform(affine, code="scanner")
        header["pixdim"][1:4] = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
        header["scl_slope"], header["scl_inter"] = 1, 0
        header["vox_offset"] = len(header.binaryblock) + 4
        for key, value in fields.items():
            if key == "dim":
                header["dim"][: len(value)] = value
            elif key == "pixdim":
                header["pixdim"][: len(value)] = value
            else:
                header[key] = value
        data = values.astype(values.dtype.newbyteorder(order)).tobytes(order="F")
        content: bytes = header.binaryblock + bytes(4) + data
        if packed if packed is not None else name.lower().endswith(".gz"):
            content = gzip.compress(content)
        path = tmp_path / name
        path.write_bytes(edit(bytearray(content)) if edit else content)
        return path

    return build
