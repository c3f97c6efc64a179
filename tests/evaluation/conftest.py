"""Masks of a few voxels with two structures, and predictions that are off by what a test says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

AFFINE = np.diag([-1.0, 2.0, 1.5, 1.0])
CLASSES = {"background": 0, "liver": 1, "spleen": 2}
Write = Callable[..., Path]


def two_structures(shift: int = 0) -> np.ndarray:
    """A liver of 4 x 4 x 4 voxels and a spleen of 2 x 2 x 2, moved along the first axis."""
    labels = np.zeros((12, 8, 8), np.uint8)
    labels[1 + shift : 5 + shift, 1:5, 1:5] = 1
    labels[7 + shift : 9 + shift, 5:7, 5:7] = 2
    return labels


@pytest.fixture
def write_mask(tmp_path: Path) -> Write:
    """Write a label volume under ``tmp_path`` and return its path."""

    def write(name: str, labels: Any, affine: Any = AFFINE) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.asarray(labels, np.uint8), affine), path)
        return path

    return write


@pytest.fixture
def folders(tmp_path: Path, write_mask: Write) -> tuple[Path, Path]:
    """Predictions and references of four cases: right, moved by a voxel, spleen missed, spleen invented."""
    missed, without = two_structures(), two_structures()
    missed[missed == 2] = 0
    without[without == 2] = 0
    cases = {
        "a": (two_structures(), two_structures()),
        "b": (two_structures(1), two_structures()),
        "c": (missed, two_structures()),
        "d": (two_structures(), without),
    }
    for case, (prediction, reference) in cases.items():
        write_mask(f"pred/{case}.nii.gz", prediction)
        write_mask(f"ref/{case}.nii.gz", reference)
    (tmp_path / "pred" / "labels.json").write_text(json.dumps({str(n): name for name, n in CLASSES.items()}))
    return tmp_path / "pred", tmp_path / "ref"
