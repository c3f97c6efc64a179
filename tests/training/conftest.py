"""A dataset of 16-voxel scans and the shipped configs made small."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medtransfer.training.run import run

from .interruptions import LONGER
from .two_processes import Pair

# in place of the shipped network, whatever that is tuned to
TINY_NETWORK = {"model.network": {"type": "resunet10", "base_channels": 4, "stem_channels": 4}}


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(1)


def write_scan(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0])), path)


@pytest.fixture(scope="session")
def decathlon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scans of 16x16x12 voxels with a bright box to be found."""
    root, rng = tmp_path_factory.mktemp("decathlon"), np.random.default_rng(0)
    entries = []
    for number in range(6):
        label = np.zeros((16, 16, 12), np.uint8)
        label[4:10, 4 + number % 3 : 12, 3:9] = 1
        image = label * 3 + rng.normal(size=label.shape).astype(np.float32)
        names = {"image": f"./imagesTr/case_{number}.nii.gz", "label": f"./labelsTr/case_{number}.nii.gz"}
        write_scan(root / names["image"], image.astype(np.float32))
        write_scan(root / names["label"], label)
        entries.append(names)
    listing = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "box"},
        "numTraining": 6,
        "training": entries,
    }
    (root / "dataset.json").write_text(json.dumps(listing))
    return root


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight scans of two kinds, bright below or above, listed in a CSV."""
    root, rng = tmp_path_factory.mktemp("table"), np.random.default_rng(0)
    rows = ["image,label,patient"]
    for number in range(8):
        image = rng.normal(size=(16, 16, 16)).astype(np.float32)
        kind = "above" if number % 2 else "below"
        image[:, :, 8:] += 2 if number % 2 else -2
        write_scan(root / f"scan_{number}.nii.gz", image)
        rows.append(f"scan_{number}.nii.gz,{kind},p{number}")
    (root / "table.csv").write_text("\n".join(rows))
    return root / "table.csv"


@pytest.fixture
def options(decathlon: Path) -> dict[str, Any]:
    """What makes the shipped segmentation config tiny: 2 epochs of 2 steps."""
    return {
        **TINY_NETWORK,
        "data_root": str(decathlon),
        "split": {"train": 4, "val": 2, "seed": 0},
        "patch_size": [16, 16, 16],
        "train_dataloader.batch_size": 2,
        "train_dataloader.sampler.samples_per_epoch": 4,
        "train_cfg.max_epochs": 2,
        "train_cfg.val_interval": 1,
        "optim_wrapper.dtype": "float32",
    }


@pytest.fixture
def train(options: dict[str, Any], tmp_path: Path) -> Callable[..., Path]:
    """Run the shipped hippocampus config, made tiny, with further options."""

    def start(name: str = "run", resume: Any = None, amp: Any = None, **changes: Any) -> Path:
        changed = {key.replace("__", "."): value for key, value in changes.items()}
        chosen = {**options, **changed}
        return run("resunet18_hippocampus", tmp_path / name, resume=resume, amp=amp, cfg_options=chosen)

    return start


@pytest.fixture(scope="session")
def unbroken() -> dict[str, Path]:
    """What :func:`whole` trained, if it did."""
    return {}


@pytest.fixture
def whole(train: Callable[..., Path], unbroken: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed; trained once for all tests."""
    if "folder" not in unbroken:
        kept = tmp_path_factory.mktemp("unbroken") / "run"
        shutil.copytree(train("whole", **LONGER), kept)
        unbroken["folder"] = kept
    return unbroken["folder"]


@pytest.fixture
def pair(decathlon: Path, tmp_path: Path) -> Pair:
    """Trainings with two processes."""
    return Pair(decathlon, tmp_path)
