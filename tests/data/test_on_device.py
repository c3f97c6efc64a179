"""Augmentation on the device that trains: the same as in the loader, and nothing comes back from the device.

Tensors of the device ``meta`` have no values: whatever asks for a number, or brings one back to the CPU, raises.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import RandGaussianNoised, Randomizable
from torch import Tensor

from medtransfer.data.box_dataset import BoxDataset
from medtransfer.data.dataset import CaseDataset, LayoutDataset, ScanDataset, _without_metadata
from medtransfer.data.multitask import MultiTaskDataset
from medtransfer.data.on_device import RandomNoise, on_device
from medtransfer.data.sampler import Draw
from medtransfer.errors import ConfigError

from .conftest import SHAPE, as_nnunet

NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
ALL = {"preset": "strong", "affine": 1.0, "intensity": 1.0}
SPLIT = {"train": ["case_0", "case_1"], "val": ["case_2"]}
WORDS: dict[str, Any] = {"split": SPLIT, "patch_size": [6, 6, 6], "augmentation": ALL, "augment_on": "device"}
Build = Callable[..., CaseDataset]


@pytest.fixture
def root(write_cases: Callable[..., list[tuple[list[Path], Path]]], tmp_path: Path) -> Path:
    return as_nnunet(tmp_path / "data", write_cases(3), ["background", "anterior", "posterior"])


def cases(root: Path, **more: Any) -> CaseDataset:
    return LayoutDataset(root, **{**WORDS, **more})


def boxes(root: Path, **more: Any) -> CaseDataset:
    return BoxDataset(root, **{**WORDS, **more})


def several(root: Path, **more: Any) -> CaseDataset:
    rows = [f"raw/{number}_0.nii.gz,raw/{number}_label.nii.gz,p{number},{1.5 * number}" for number in range(3)]
    path = root.parent / "table.csv"
    path.write_text("\n".join(["image,organs,patient,length", *rows]))
    targets = {
        "organs": {"task": "segmentation", "classes": ["background", "anterior", "posterior"]},
        "length": {"task": "regression"},
    }
    return MultiTaskDataset(path, targets, **{**WORDS, "split": {"train": 2, "val": 1}, **more})


KINDS = {"cases": cases, "boxes": boxes, "several targets": several}


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, dict):
        return [found for part in value.values() for found in tensors(part)]
    return [value] if isinstance(value, Tensor) else []


@pytest.mark.parametrize("build", KINDS.values(), ids=KINDS)
def test_on_a_cpu_it_is_that_of_the_loader_bit_for_bit(build: Build, root: Path) -> None:
    here, there = build(root, augment_on="loader"), build(root)
    there.use_device("cpu")
    for seed in range(4):
        one, other = (tensors(data[Draw(seed % 2, seed)]) for data in (here, there))
        assert len(one) == len(other) > 1
        assert all(map(torch.equal, one, other))


@pytest.mark.parametrize("build", KINDS.values(), ids=KINDS)
def test_nothing_that_varies_a_patch_asks_the_device_for_a_number(build: Build, root: Path) -> None:
    here, there = build(root, augment_on="loader"), build(root)
    there.use_device("meta")
    for seed in range(4):
        drawn = []
        for data in (here, there):
            data.augment.set_random_state(seed=seed)
            with _without_metadata():
                found = data.augment(dict(data._sample(0)))
            patch = found[0] if isinstance(found, list) else found
            drawn.append([step.R.get_state() for step in data.augment.transforms if isinstance(step, Randomizable)])
            assert {patch[key].is_meta for key in ("image", "label")} == {data is there}
        # a seed stands for the same numbers on every device
        for one, other in zip(*drawn, strict=True):
            assert str(one) == str(other)
            assert np.array_equal(one[1], other[1])
    assert not any(value.is_meta for value in tensors(there._sample(0)))  # what is kept stays where it is


def test_samples_are_on_the_device_and_whole_volumes_are_not(root: Path) -> None:
    data = cases(root)
    assert data[Draw(0, 0)]["image"].device.type == "cpu"  # until it is told which device that is
    data.use_device("meta")
    patch = data[Draw(0, 0)]
    assert (patch["image"].shape, patch["image"].dtype, patch["image"].is_meta) == ((1, 6, 6, 6), torch.float32, True)
    assert (patch["label"].shape, patch["label"].dtype, patch["label"].is_meta) == ((1, 6, 6, 6), torch.int64, True)
    assert data[0]["image"].shape == (1, *SHAPE)
    assert data[0]["image"].device.type == "cpu"


@pytest.mark.parametrize("prob", [0.0, 0.5, 1.0])
def test_the_noise_is_that_of_monai(prob: float) -> None:
    image = torch.zeros(1, 3, 4, 5)
    with _without_metadata():
        for seed in range(4):
            steps = RandomNoise(prob, 0.3), RandGaussianNoised("image", prob=prob, std=0.3)
            one, other = (step.set_random_state(seed)({"image": image})["image"] for step in steps)
            assert torch.equal(one, other)
            assert bool(one.any()) or prob < 1


def test_the_noise_goes_to_the_device_in_our_own_way() -> None:
    """MONAI would bring it there too, but wait for the device to be done with all else."""
    step = RandomNoise(1.0, 0.3)
    with _without_metadata():
        assert step({"image": torch.zeros(1, 3, 4, 5, device="meta")})["image"].is_meta
    assert step.rand_gaussian_noise.noise.is_meta


def test_wrong_words_are_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="augment_on must be 'loader' or 'device', got 'cuda'"):
        cases(root, augment_on="cuda")
    with pytest.raises(ConfigError, match="augment_on must be 'loader': scans are damaged on the CPU"):
        ScanDataset(root / "imagesTr", patch_size=[6, 6, 6], augment_on="device")


@pytest.mark.cuda
@NO_CUDA
@pytest.mark.parametrize("build", KINDS.values(), ids=KINDS)
def test_on_cuda_patches_are_those_of_the_cpu(build: Build, root: Path) -> None:
    here, there = build(root, augment_on="loader"), build(root)
    there.use_device("cuda")
    for seed in range(4):
        one, other = (data[Draw(0, seed)] for data in (here, there))
        assert other["image"].is_cuda
        torch.testing.assert_close(other["image"].cpu(), one["image"], rtol=1e-3, atol=1e-3)


@pytest.mark.cuda
@NO_CUDA
def test_on_cuda_nothing_waits_for_the_device(root: Path) -> None:
    data = cases(root)
    data.use_device("cuda")
    data[Draw(0, 0)]  # whatever is set up once
    torch.cuda.set_sync_debug_mode("error")
    try:
        patch = data[Draw(0, 1)]
        moved = on_device(torch.arange(24.0).reshape(4, 6)[:, 2:4], torch.device("cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert patch["label"].is_cuda
    assert moved.cpu().tolist() == [[2, 3], [8, 9], [14, 15], [20, 21]]
