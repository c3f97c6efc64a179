"""Prepared volumes are kept in memory alone: nothing on disk can grow stale, be damaged, or be shared."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from medtransfer.data.dataset import LayoutDataset
from medtransfer.data.layouts import find_layout
from medtransfer.data.sampler import Draw
from medtransfer.errors import MedTransferError

from .conftest import SHAPE, as_nnunet, write_volume

CLASSES = ["background", "anterior", "posterior"]


@pytest.fixture
def root(write_cases: Callable[..., list[tuple[list[Path], Path]]], tmp_path: Path) -> Path:
    return as_nnunet(tmp_path / "data", write_cases(3), CLASSES)


def load(root: Path, cache: bool = True) -> LayoutDataset:
    split = {"train": ["case_0", "case_1"], "val": ["case_2"]}
    return LayoutDataset(root, split=split, patch_size=[4, 4, 4], cache=cache)


def scan_of(root: Path, case: int) -> Path:
    return (root / "imagesTr" / f"case_{case}_0000.nii.gz").resolve()


def test_d12_a_file_that_changes_after_the_check_is_read_anew(root: Path) -> None:
    assert find_layout(root).problems == ()
    before = load(root)
    old, stamp = before[0]["image"].clone(), scan_of(root, 0).stat()
    write_volume(scan_of(root, 0), np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE))
    os.utime(scan_of(root, 0), ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # not even the time tells
    assert torch.equal(before[0]["image"], old)  # a run goes on with what it has read and checked
    assert not torch.equal(load(root)[0]["image"], old)


def test_d12_a_file_that_is_damaged_after_the_check_is_refused_by_name(root: Path) -> None:
    assert find_layout(root).problems == ()
    scan_of(root, 1).write_bytes(scan_of(root, 1).read_bytes()[:200])
    with pytest.raises(MedTransferError, match=r"case_1_0000|1_0\.nii\.gz"):
        load(root)


def test_d13_d14_nothing_is_written_that_could_be_damaged_or_shared(root: Path, tmp_path: Path) -> None:
    def listing() -> list[tuple[str, int, int]]:
        files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
        return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]

    before = listing()
    data = load(root)
    for index in range(len(data)):
        data[Draw(index, 0)]
    assert listing() == before


@pytest.mark.slow
def test_d14_processes_beside_each_other_read_the_same(root: Path) -> None:
    code = (
        "import hashlib, sys; from medtransfer.data.dataset import LayoutDataset\n"
        "data = LayoutDataset(sys.argv[1], split={'val': ['case_2']})\n"
        "print(hashlib.sha256(b''.join(data[i]['image'].numpy().tobytes() for i in range(2))).hexdigest())"
    )
    command = [sys.executable, "-c", code, str(root)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    digests = [process.communicate(timeout=200)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert digests[0] == digests[1] != ""


def test_d15_a_scan_that_becomes_unreadable_in_the_middle_is_named(root: Path) -> None:
    data = load(root, cache=False)
    assert data[Draw(1, 0)]["case"] == "case_1"
    scan_of(root, 1).unlink()
    with pytest.raises(MedTransferError, match=r"case_1_0000\.nii\.gz"):
        data[Draw(1, 1)]
    assert data[Draw(0, 1)]["case"] == "case_0"  # the others are as they were
