"""What all rooms' tests share: tiny networks, tiny scans, and the place of the real data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"

#: arguments that make any network of the zoo tiny
TINY: dict[str, Any] = {"base_channels": 4, "stem_channels": 4}


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    torch.set_num_threads(min(2, torch.get_num_threads()))


FASTEST = {"cpu": torch.float32, "cuda": torch.float16, "mps": torch.float32}


@pytest.fixture(autouse=True, scope="session")
def _auto_is_float32_on_cpus() -> Iterator[None]:
    """What ``precision="auto"`` finds on a CPU depends on the machine; tests compare exact numbers on all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medtransfer.devices.fastest_dtype", lambda kind: FASTEST[kind])
        yield


@pytest.fixture
def make_scan(tmp_path: Path) -> Callable[..., Path]:
    """Write a 16-voxel NIfTI scan of noise with a bright box, and return its path."""

    def write(name: str = "scan.nii.gz", shape: tuple[int, ...] = (16, 15, 14), affine: Any = None) -> Path:
        generator = np.random.default_rng(0)
        data = generator.normal(size=shape).astype(np.float32)
        data[4:10, 4:10, 4:10] += 5
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(data, np.diag([1.0, 2.0, 1.5, 1.0]) if affine is None else affine), path)
        return path

    return write


@pytest.fixture
def hippocampus() -> Path:
    """The folder of the Medical Segmentation Decathlon's task 4."""
    folder = SHARED_DATA / "Task04_Hippocampus"
    if not folder.is_dir():
        pytest.skip("needs the Decathlon hippocampus data in ../shared/data/Task04_Hippocampus")
    return folder
