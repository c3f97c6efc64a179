"""What a prediction takes of the machine's memory, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

PREDICT = """
import resource, sys
import medtransfer as mt
from medtransfer.inference.predictor import Predictor

width, count, *paths = sys.argv[1:]
network = mt.create_model("resunet18", num_classes=3, base_channels=int(width), stem_channels=int(width))
predictor = Predictor(network, device="cpu")
for _ in range(int(count)):
    for path in paths:
        predictor.predict(path, probabilities=False)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def peaks(folder: Path, shape: tuple[int, int, int], width: int, count: int) -> list[float]:
    """GiB that the process held at most, after each prediction of one scan."""
    # blocks of 8 voxels: noise, but not in every voxel
    coarse = np.random.default_rng(0).normal(size=[size // 8 for size in shape]) * 300
    scan = coarse.astype(np.int16).repeat(8, 0).repeat(8, 1).repeat(8, 2)
    nib.save(nib.Nifti1Image(scan, np.eye(4)), folder / "scan.nii")
    del scan
    command = [sys.executable, "-c", PREDICT, str(width), str(count), str(folder / "scan.nii")]
    return [float(line) for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


@pytest.mark.slow
def test_a_scan_of_512_voxels_an_axis_stays_below_4_gib(tmp_path: Path) -> None:
    (peak,) = peaks(tmp_path, (512, 512, 512), width=64, count=1)
    assert peak < 4


@pytest.mark.slow
def test_memory_is_flat_in_the_number_of_scans(tmp_path: Path) -> None:
    found = peaks(tmp_path, (96, 96, 96), width=16, count=20)
    assert found[-1] < 1.02 * found[4]
