"""Small labelled datasets, tiny sources, and rankings of few voxels and halves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

import medtransfer as mt
from medtransfer.ranking import rank, samples
from tests.conftest import TINY


def write_scan(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, 1.0, 2.0, 1.0])), path)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few voxels and halves, one untrained network."""
    monkeypatch.setattr(samples, "TOTAL_VOXELS", 60)
    monkeypatch.setattr(rank, "HALVES", 20)
    monkeypatch.setattr(rank, "UNTRAINED", 1)


@pytest.fixture(scope="session")
def decathlon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scans with a bright box to be found."""
    root, rng = tmp_path_factory.mktemp("decathlon"), np.random.default_rng(0)
    entries = []
    for number in range(6):
        label = np.zeros((16, 14, 12), np.uint8)
        label[4:10, 4 + number % 3 : 12, 3:9] = 1
        names = {"image": f"./imagesTr/case_{number}.nii.gz", "label": f"./labelsTr/case_{number}.nii.gz"}
        write_scan(root / names["image"], (label * 3 + rng.normal(size=label.shape)).astype(np.float32))
        write_scan(root / names["label"], label)
        entries.append(names)
    listing = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "box"}, "training": entries}
    (root / "dataset.json").write_text(json.dumps(listing))
    return root


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten scans of two kinds, smooth or rough, two a patient."""
    root, rng = tmp_path_factory.mktemp("table"), np.random.default_rng(0)
    rows = ["image,label,patient"]
    for number in range(10):
        image = rng.normal(size=(16, 16, 16)).astype(np.float32)
        rough = number // 2 % 2
        if not rough:
            image = np.cumsum(image, axis=0)
        write_scan(root / f"scan_{number}.nii.gz", image)
        rows.append(f"scan_{number}.nii.gz,{'rough' if rough else 'smooth'},p{number // 2}")
    (root / "table.csv").write_text("\n".join(rows))
    return root / "table.csv"


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model folder with a card of its own, one of 3 channels, and a network that sees nothing."""
    root = tmp_path_factory.mktemp("sources")
    torch.manual_seed(0)
    card = {"spacing": [1.0, 1.0, 1.0], "orientation": "LPS", "intensity": {"scheme": "clip", "low": -2.0, "high": 5.0}}
    # of stride 4, so that small scans need no padding
    shallow = {**TINY, "first_stride": 1, "pool": "none", "strides": [1, 2, 2, 1]}
    mt.save(mt.create_model("resnet10", 1, 2, **shallow), root / "folder", card)
    mt.save(mt.create_model("resnet10", 3, 2, **shallow), root / "colour")
    blind = mt.create_model("resnet10", 1, 2, **shallow)
    _blinded(blind)
    mt.save(blind, root / "blind")
    return {"folder": root / "folder", "colour": root / "colour", "blind": root / "blind"}


def _blinded(network: nn.Module) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 2:
                parameter.zero_()


@pytest.fixture
def read_layout() -> Callable:
    """The layout of a dataset."""
    return rank.read_layout
