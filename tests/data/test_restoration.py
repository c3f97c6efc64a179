"""Scans without labels: which are found, and how patches are damaged."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medtransfer.data.corruption import Corrupt, hidden_cubes, read_corruption
from medtransfer.data.dataset import ScanDataset
from medtransfer.data.sampler import Draw
from medtransfer.data.scans import read_scans
from medtransfer.errors import ConfigError, DatasetError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three scans in folders of their own, and a label that is no scan."""
    rng = np.random.default_rng(0)
    for name in ("a/scan.nii.gz", "b/scan.nii", "c.nii.gz", "labelsTr/c.nii.gz"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(rng.normal(size=(12, 13, 14)).astype(np.float32), np.eye(4)), path)
    (tmp_path / "._c.nii.gz").write_bytes(b"what macOS leaves behind")
    return tmp_path


def test_scans_of_any_folder_are_found_to_its_depths(folder: Path) -> None:
    layout = read_scans(folder)
    assert [case.id for case in layout.cases] == ["a/scan", "b/scan", "c"]
    assert (layout.task, layout.channels, layout.classes) == ("restoration", ("image",), ("image",))
    assert read_scans(folder, ["CT"]).classes == ("CT",)


def test_a_decathlon_folder_gives_training_and_test_scans_whether_or_not_labels_are_there(folder: Path) -> None:
    listing = {
        "modality": {"0": "CT"},
        "training": [{"image": "./c.nii.gz", "label": "./no/such.nii.gz"}],
        "test": ["./a/scan.nii.gz", {"image": "./b/scan.nii"}],
    }
    (folder / "b/scan.nii").rename(folder / "b/other.nii")
    listing["test"][1]["image"] = "./b/other.nii"  # type: ignore[index]
    (folder / "dataset.json").write_text(json.dumps(listing))
    layout = read_scans(folder)
    assert [case.id for case in layout.cases] == ["c", "scan", "other"]
    assert layout.channels == ("CT",)
    assert all(case.label is None for case in layout.cases)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"training": []}, "lists no scan"),
        ({"training": [{"image": "./gone.nii.gz"}]}, "listed but missing"),
        ({"training": [{"image": "../c.nii.gz"}]}, "leads out of"),
        ({"training": [{"image": "./c.nii.gz"}] * 2}, "listed twice"),
    ],
)
def test_a_listing_that_is_wrong_is_refused(folder: Path, change: dict[str, object], said: str) -> None:
    (folder / "dataset.json").write_text(json.dumps({"modality": {"0": "CT"}, **change}))
    with pytest.raises(DatasetError, match=said):
        read_scans(folder)


def test_a_folder_without_scans_and_names_that_meet_are_refused(folder: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        read_scans(folder / "gone")
    (empty := folder / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"holds no \.nii"):
        read_scans(empty)
    (folder / "c.nii").write_bytes(b"")
    with pytest.raises(DatasetError, match="'c' is there twice"):
        read_scans(folder)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(1, 40)] * 3), st.floats(0, 0.95), st.integers(1, 12), st.integers(0, 2**31))
def test_the_hidden_share_is_the_one_asked_for(shape: tuple[int, int, int], share: float, cube: int, seed: int) -> None:
    mask = hidden_cubes(shape, share, cube, seed)
    assert mask.shape == shape
    assert torch.equal(mask, hidden_cubes(shape, share, cube, seed))
    # the mean over many placings is the share, up to the rounding to whole cells of the grid
    cells = np.prod([-(-size // cube) + 1 for size in shape])
    mean = np.mean([hidden_cubes(shape, share, cube, number).float().mean().item() for number in range(60)])
    seen = np.prod([-(-size // cube) for size in shape])
    assert abs(mean - share) < 0.5 / cells + 4 * 0.5 / np.sqrt(60 * seen)  # four deviations of a mean of 60


def test_cubes_are_cubes() -> None:
    mask = hidden_cubes((24, 24, 24), 0.5, 8, seed=3)
    changes = [(mask.narrow(axis, 1, 23) != mask.narrow(axis, 0, 23)).any(dim=others) for axis, others in
               ((0, (1, 2)), (1, (0, 2)), (2, (0, 1)))]  # fmt: skip
    for change in changes:
        positions = change.nonzero().flatten()
        assert len(positions) >= 2
        assert (positions.diff() % 8 == 0).all()


def test_damage_follows_the_seed_alone_and_leaves_the_original() -> None:
    clean = torch.randn(2, 16, 17, 18)
    kept, corrupt = clean.clone(), Corrupt({"masked": 0.5})
    first = corrupt(clean, seed=5)
    corrupt(torch.randn(2, 16, 17, 18), seed=1)
    assert torch.equal(first, corrupt(clean, seed=5))
    assert not torch.equal(first, corrupt(clean, seed=6))
    assert torch.equal(clean, kept)


def test_what_is_not_hidden_stays_when_nothing_else_is_asked_for() -> None:
    clean = torch.randn(1, 20, 20, 20)
    damaged = Corrupt({"masked": 0.4, "shuffled": 0, "bent": 0})(clean, seed=2)
    hidden = hidden_cubes((20, 20, 20), 0.4, 6, seed=2)
    assert torch.equal(damaged[0][~hidden], clean[0][~hidden])
    assert torch.allclose(damaged[0][hidden], clean.mean())


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"masked": 1.0}, "below 1"),
        ({"bent": 2}, "`bent` must be a probability"),
        ({"cube": 0}, "at least 1 voxel"),
        ({"masked": 0, "shuffled": 0, "bent": 0}, "something to restore"),
        ({"maskd": 0.5}, "maskd"),
    ],
)
def test_a_wrong_corruption_is_refused(given_: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_corruption(given_)


def test_a_dataset_of_scans_gives_damaged_and_whole_patches(folder: Path) -> None:
    data = ScanDataset(folder, split={"val": 1}, patch_size=[8, 8, 8], augmentation="light")
    assert len(data) == 2
    sample = data[Draw(0, seed=4)]
    assert sample["image"].shape == sample["label"].shape == (1, 8, 8, 8)
    assert sample["label"].dtype == torch.float32
    assert not torch.equal(sample["image"], sample["label"])
    again = data[Draw(0, seed=4)]
    assert torch.equal(sample["image"], again["image"])
    assert torch.equal(sample["label"], again["label"])
    # a validation patch is the same at every validation
    first, second = data[1], data[1]
    assert torch.equal(first["image"], second["image"])
