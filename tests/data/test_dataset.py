"""Samples: whole volumes and patches, the same for a seed, with image and label moved together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Affine
from torch.utils.data import DataLoader

from medtransfer.data.affine import RandomAffine, sampling_grid
from medtransfer.data.dataset import CaseDataset, DecathlonDataset, TableDataset
from medtransfer.data.sampler import CaseSampler, Draw
from medtransfer.data.transforms import PRESETS, build_augmentation
from medtransfer.errors import ConfigError, DatasetError, VolumeError

SHAPE = (12, 10, 8)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five left-handed scans (LAS) whose label is where the image is bright."""
    root, rng = tmp_path_factory.mktemp("decathlon"), np.random.default_rng(0)
    entries = []
    for number in range(5):
        label = np.zeros(SHAPE, np.uint8)
        label[2:5, 3:7, 2:6] = 1
        label[6:9, 3:7, 2:6] = 2
        image = (label * 10.0 + rng.normal(size=SHAPE)).astype(np.float32)
        entry = {"image": f"imagesTr/c{number}.nii.gz", "label": f"labelsTr/c{number}.nii.gz"}
        for name, array in zip(entry.values(), (image, label), strict=True):
            (root / name).parent.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.diag([-1.0, 1.0, 2.0, 1.0])), root / name)
        entries.append(entry)
    names = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "a", "2": "b"}}
    (root / "dataset.json").write_text(json.dumps({**names, "numTraining": 5, "training": entries}))
    return root


def dataset(root: Path, **arguments: Any) -> CaseDataset:
    return DecathlonDataset(root, **{"split": {"train": 3, "val": 2}, "patch_size": [8, 8, 8], **arguments})


def test_validation_gives_whole_prepared_volumes(root: Path) -> None:
    data = dataset(root, part="val")
    sample = data[0]
    assert (sample["image"].shape, sample["label"].shape) == ((1, *SHAPE), (1, *SHAPE))
    assert (sample["image"].dtype, sample["label"].dtype) == (torch.float32, torch.int64)
    assert abs(float(sample["image"].mean())) < 1e-5
    assert float(sample["image"].std()) == pytest.approx(1, abs=1e-2)
    # reoriented to RAS: the first axis is turned, image and label alike
    assert set(sample["label"][0, 7:10].unique().tolist()) == {0, 1}
    bright = sample["image"][0] > 1
    assert bright[sample["label"][0] == 2].float().mean() > 0.99


def test_a_spacing_resamples_image_and_label_alike(root: Path) -> None:
    sample = dataset(root, part="val", preprocessing={"spacing": [1, 1, 1]})[0]
    assert sample["image"].shape == sample["label"].shape == (1, 12, 10, 16)
    assert set(sample["label"].unique().tolist()) == {0, 1, 2}


def test_training_gives_patches_that_depend_on_the_draw_alone(root: Path) -> None:
    data = dataset(root, augmentation="strong")
    first, again, other = data[Draw(0, 5)], data[Draw(0, 5)], data[Draw(0, 6)]
    assert first["image"].shape == (1, 8, 8, 8)
    assert type(first["image"]) is torch.Tensor  # no MetaTensor
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["label"], again["label"])
    assert not torch.equal(first["image"], other["image"])
    np.random.seed(1)  # noqa: NPY002 - the global state must not matter
    torch.manual_seed(1)
    assert torch.equal(first["image"], data[Draw(0, 5)]["image"])


def test_what_is_kept_is_never_changed(root: Path) -> None:
    data = dataset(root, augmentation="strong")
    before = data[0]["image"].clone()
    for seed in range(5):
        data[Draw(0, seed)]
    assert torch.equal(data[0]["image"], before)


def test_small_volumes_are_padded_with_zeros(root: Path) -> None:
    data = dataset(root, patch_size=[16, 8, 12])
    sample = data[Draw(0, 0)]
    assert sample["image"].shape == sample["label"].shape == (1, 16, 8, 12)
    assert torch.equal(sample["image"][:, :2], torch.zeros(1, 2, 8, 12))


def test_patches_are_centred_on_labels_as_often_as_asked(root: Path) -> None:
    for share, expected in ((1.0, 1.0), (0.0, 0.0)):
        data = dataset(root, patch_size=[3, 3, 1], augmentation={"foreground": share})
        centres = [bool(data[Draw(0, seed)]["label"][0, 1, 1, 0]) for seed in range(20)]
        assert np.mean(centres) == expected


def test_the_sampler_goes_round_all_cases_and_loaders_collate(root: Path) -> None:
    data = dataset(root)
    sampler = CaseSampler(data, seed=3, samples_per_epoch=6)
    drawn = list(sampler)
    assert sorted(draw.case for draw in drawn) == [0, 0, 1, 1, 2, 2]
    sampler.set_epoch(1)
    assert list(sampler) == [sampler.draw(number) for number in range(6, 12)]
    assert list(sampler) != drawn
    batch = next(iter(DataLoader(data, batch_size=2, sampler=sampler)))
    assert batch["image"].shape == (2, 1, 8, 8, 8)
    assert batch["label"].dtype == torch.int64
    assert len(batch["case"]) == 2


def test_a_table_gives_class_numbers(root: Path) -> None:
    lines = ["image,label"] + [f"imagesTr/c{number}.nii.gz,{'ab'[number % 2]}" for number in range(5)]
    (root / "table.csv").write_text("\n".join(lines))
    data = TableDataset(root / "table.csv", split={"val": 1}, patch_size=[8, 8, 8], augmentation="light")
    batch = next(iter(DataLoader(data, batch_size=2, sampler=CaseSampler(data))))
    assert batch["image"].shape == (2, 1, 8, 8, 8)
    assert set(batch["label"].tolist()) <= {0, 1}


def test_l05_a_class_that_no_training_case_has_is_refused(root: Path, tmp_path: Path) -> None:
    listing = json.loads((root / "dataset.json").read_text())
    listing["labels"]["3"] = "spleen"
    (root / "more.json").write_text(json.dumps(listing))
    with pytest.raises(DatasetError, match="no training case has the class spleen"):
        DecathlonDataset(root / "more.json", split={"val": 1})


def test_damaged_scans_are_all_named_before_training(root: Path, tmp_path: Path) -> None:
    listing = json.loads((root / "dataset.json").read_text())
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
        for path in (root / folder).iterdir():
            (tmp_path / folder / path.name).write_bytes(path.read_bytes())
    (tmp_path / "dataset.json").write_text(json.dumps(listing))
    (tmp_path / "imagesTr" / "c0.nii.gz").write_bytes(b"text")
    with pytest.raises(VolumeError, match=r"c0\.nii\.gz"):
        DecathlonDataset(tmp_path, split={"train": 5, "val": 0})
    (tmp_path / "labelsTr" / "c3.nii.gz").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"2 of 5 cases: .*c[03].*c[03]"):
        DecathlonDataset(tmp_path, split={"train": 5, "val": 0})


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"part": "test"}, "part must be 'train' or 'val'"),
        ({"patch_size": [8, 8]}, "patch_size must be three"),
        ({"augmentation": "heavy"}, "no augmentation 'heavy'.*light"),
        ({"augmentation": {"rotation": 3}}, "rotation"),
        ({"preprocessing": {"spacing": [0, 1, 1]}}, "three sizes in mm above 0"),
        ({"preprocessing": {"intensity": {"scheme": "clip"}}}, "finite `low` < `high`"),
    ],
)
def test_wrong_arguments_are_refused(root: Path, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        dataset(root, **arguments)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_keep_shapes_and_classes(preset: str) -> None:
    image, label = torch.rand(2, 8, 9, 10), torch.randint(0, 3, (1, 8, 9, 10), dtype=torch.uint8)
    sample = {"image": image, "label": label, "fg_indices": np.arange(9), "bg_indices": np.arange(9)}
    result = build_augmentation(preset, (6, 6, 6), labelled=True).set_random_state(0)(dict(sample))[0]
    assert (result["image"].shape, result["label"].shape) == ((2, 6, 6, 6), (1, 6, 6, 6))
    assert set(result["label"].unique().tolist()) <= {0, 1, 2}


def test_the_affine_equals_that_of_monai() -> None:
    image, transform = torch.rand(1, 12, 10, 8), RandomAffine(1.0, rotate=20, zoom=0.2, shift=2)
    transform.set_random_state(3)
    moved = transform({"image": image, "label": 0})["image"]
    matrix = np.vstack([transform.matrix, [0, 0, 0, 1]])
    expected, _ = Affine(affine=matrix, padding_mode="border", image_only=False)(image)
    assert torch.allclose(moved, torch.as_tensor(expected), atol=1e-4)


def test_the_affine_moves_image_and_label_together() -> None:
    label = torch.zeros(1, 16, 16, 16, dtype=torch.uint8)
    label[0, 4:12, 5:11, 3:9] = 1
    transform = RandomAffine(1.0, rotate=30, zoom=0.1, shift=2).set_random_state(1)
    moved = transform({"image": label.float(), "label": label})
    assert torch.equal(moved["image"] > 0.5, moved["label"] == 1) or (
        ((moved["image"] > 0.5) == (moved["label"] == 1)).float().mean() > 0.97
    )
    identity = sampling_grid(np.eye(3, 4), (16, 16, 16))
    sampled = torch.nn.functional.grid_sample(label.float()[None], identity, "bilinear", align_corners=False)
    assert torch.allclose(sampled[0], label.float(), atol=1e-5)
