"""Boxes of masks and boxes of a list: where the structures are in every sample, whatever was done to the scan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from mmengine.config import Config

from medtransfer.data.affine import RandomAffine
from medtransfer.data.box_dataset import BoxDataset
from medtransfer.data.box_targets import BoxTargets, mask_targets
from medtransfer.data.box_transforms import RandomBoxCrop
from medtransfer.data.sampler import Draw
from medtransfer.errors import ConfigError, DatasetError
from medtransfer.training import registry
from medtransfer.training.loaders import build_loaders
from medtransfer.training.runner import mmengine_scope
from medtransfer.volumes.boxes import boxes_to_world
from medtransfer.volumes.grid import Grid
from medtransfer.volumes.structures import boxes_of_labels

from .conftest import write_volume

SHAPE, PATCH = (20, 18, 16), [8, 8, 8]
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])  # LPS: sizes along the grid's axes are along the world's
EVERY = {"train": 4, "val": 0}


def mask(seed: int) -> np.ndarray:
    """Two cuboids of class 1 and one of class 2, which do not touch; of the last case nothing."""
    labels, shift = np.zeros(SHAPE, np.uint8), seed % 3
    if seed == 3:
        return labels
    labels[2 + shift : 6 + shift, 1:6, 3:6] = 1
    labels[12:15, 3 + shift : 7 + shift, 9:13] = 1
    labels[11:16, 12:16, 2 + shift : 5 + shift] = 2
    return labels


@pytest.fixture(scope="session")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scans with a mask, which is 10 brighter; the last has an empty one."""
    root, rng = tmp_path_factory.mktemp("masks"), np.random.default_rng(0)
    entries = []
    for seed in range(4):
        scan = rng.normal(size=SHAPE).astype(np.float32) + 10 * (mask(seed) > 0)
        entries.append({"image": f"imagesTr/c{seed}.nii.gz", "label": f"labelsTr/c{seed}.nii.gz"})
        for name, array in zip(entries[-1].values(), (scan.astype(np.float32), mask(seed)), strict=True):
            (root / name).parent.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, AFFINE), root / name)
    names = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "cyst", "2": "tumour"}}
    (root / "dataset.json").write_text(json.dumps({**names, "numTraining": 4, "training": entries}))
    return root


@pytest.fixture(scope="session")
def listed(masks: Path) -> Path:
    """The components of these masks as a list, in millimetres of ITK."""
    entries = []
    for seed in range(4):
        # in the order of the prepared scan, so that both draw the same boxes
        image = nib.as_closest_canonical(nib.load(masks / "labelsTr" / f"c{seed}.nii.gz"))
        boxes, numbers = boxes_of_labels(np.asarray(image.dataobj), "component")
        centres, sizes = boxes_to_world(boxes, Grid(image.shape, image.affine))
        world = np.hstack([centres * [-1, -1, 1], sizes])
        entries.append({"image": f"imagesTr/c{seed}.nii.gz", "box": world.tolist(), "label": (numbers - 1).tolist()})
    document = {"training": entries, "labels": {"0": "cyst", "1": "tumour"}, "modality": {"0": "MRI"}}
    (masks / "boxes.json").write_text(json.dumps(document))
    return masks / "boxes.json"


def build(root: Path, **arguments: Any) -> BoxDataset:
    if root.suffix == ".json":
        arguments = {"box_space": "world-lps", **arguments}
    return BoxDataset(root, **{"boxes": "component", "split": EVERY, **arguments})


def ordered(label: dict[str, torch.Tensor]) -> list[list[float]]:
    """Labels and boxes in an order of their own."""
    return sorted([int(number), *box] for number, box in zip(label["labels"], label["boxes"].tolist(), strict=True))


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    mine, theirs = ordered(one["label"]), ordered(other["label"])
    return (
        torch.equal(one["image"], other["image"]) and len(mine) == len(theirs) and np.allclose(mine, theirs, atol=1e-4)
    )


def bright(sample: dict[str, Any]) -> np.ndarray:
    """The structures as the image shows them."""
    return (sample["image"][0] > 2.5).numpy().astype(np.uint8)


def test_a_whole_scan_has_the_boxes_that_its_image_shows(masks: Path) -> None:
    data = build(masks)
    assert (data.layout.task, data.metainfo["classes"]) == ("detection", ["background", "cyst", "tumour"])
    for index in range(4):
        sample = data[index]
        label = sample["label"]
        assert (sample["image"].dtype, label["boxes"].dtype, label["labels"].dtype) == (
            torch.float32,
            torch.float32,
            torch.int64,
        )
        seen = boxes_of_labels(bright(sample), "component")[0] if len(label["labels"]) else np.zeros((0, 6))
        assert sorted(label["boxes"].tolist()) == sorted(seen.tolist())
    counts = {data[index]["case"]: len(data[index]["label"]["labels"]) for index in range(4)}
    assert counts == {"c0": 3, "c1": 3, "c2": 3, "c3": 0}


def test_one_box_for_each_class(masks: Path) -> None:
    label = build(masks, boxes="class", split={"train": ["c0"]})[0]["label"]
    assert label["labels"].tolist() == [1, 2]
    # flipped from LPS to RAS along the first two axes
    assert label["boxes"].tolist() == [[5, 11, 3, 18, 17, 13], [4, 2, 2, 9, 6, 5]]


@pytest.mark.parametrize("arguments", [{}, {"patch_size": [24, 8, 20]}, {"preprocessing": {"orientation": "SAL"}}])
def test_a_list_gives_the_same_samples_as_the_masks(masks: Path, listed: Path, arguments: dict[str, Any]) -> None:
    of_masks, of_list = build(masks, **arguments), build(listed, **arguments)
    assert of_list.metainfo == of_masks.metainfo
    assert all(same(of_masks[index], of_list[index]) for index in range(4))


def test_patches_and_flips_move_both_alike(masks: Path, listed: Path) -> None:
    changes = {"flips": [0, 1, 2], "intensity": 1.0, "gain": 0.2, "noise": 0.1}
    arguments = {"patch_size": PATCH, "augmentation": changes, "smallest_share": 0.01}
    of_masks, of_list = build(masks, **arguments), build(listed, **arguments)
    draws = [Draw(number % 4, number) for number in range(60)]
    assert all(same(of_masks[draw], of_list[draw]) for draw in draws)
    assert {len(of_masks[draw]["label"]["labels"]) for draw in draws} >= {0, 1}


@pytest.mark.parametrize("preset", ["none", "light", "strong"])
@pytest.mark.parametrize("patch", [PATCH, None])
def test_boxes_are_where_the_structures_are_after_each_preset(
    masks: Path, preset: str, patch: list[int] | None
) -> None:
    calm = {"preset": preset, "intensity": 0.0}
    data = build(masks, patch_size=patch, augmentation=calm, smallest_share=1e-6)
    for number in range(12):
        sample = data[Draw(number % 3, number)]
        assert sample["image"].shape == (1, *(patch or SHAPE))
        seen = bright(sample)
        for box in sample["label"]["boxes"].int().tolist():
            assert seen[tuple(slice(box[axis], box[axis + 3]) for axis in range(3))].any()
        drawn = np.zeros(seen.shape, bool)
        for box in sample["label"]["boxes"].int().tolist():
            drawn[tuple(slice(max(0, box[axis] - 1), box[axis + 3] + 1) for axis in range(3))] = True
        # border values that an affine map repeats outside of the patch are no structures
        assert seen[~drawn].mean() < (0.02 if preset == "none" or patch is None else 0.2)


def test_draws_depend_on_their_seed_alone(masks: Path) -> None:
    data = build(masks, patch_size=PATCH, augmentation="strong")
    first = data[Draw(0, 5)]
    np.random.seed(1)  # noqa: NPY002 - the global state must not matter
    torch.manual_seed(1)
    again = build(masks, patch_size=PATCH, augmentation="strong", cache=False)[Draw(0, 5)]
    assert same(first, again)
    assert not torch.equal(first["image"], data[Draw(0, 6)]["image"])
    assert type(first["image"]) is torch.Tensor  # no MetaTensor


def test_a_share_of_the_patches_holds_a_whole_box(listed: Path) -> None:
    held = {}
    for share in (1.0, 0.5, 0.0):
        data = build(listed, patch_size=PATCH, augmentation={"foreground": share}, smallest_share=1.0)
        drawn = [data[Draw(number % 3, number)]["label"]["labels"] for number in range(80)]
        held[share] = np.mean([len(labels) > 0 for labels in drawn])
    assert held[1.0] == 1
    assert held[0.0] < 0.3
    assert held[0.5] == pytest.approx((held[0.0] + 1) / 2, abs=0.15)


def test_every_box_is_drawn_as_often(masks: Path) -> None:
    targets = BoxTargets.whole([[0, 0, 0, 2, 2, 2], [10, 10, 10, 20, 20, 20]], [1, 2])
    crop = RandomBoxCrop((4, 4, 4), 1.0)
    crop.set_random_state(0)
    sample: dict[Any, Any] = {"image": torch.zeros(1, 24, 24, 24), "boxes": targets, "other": 3}
    held = np.array([crop(dict(sample))["boxes"].shares > 0 for _ in range(200)])
    assert held.sum(axis=1).tolist() == [1] * 200
    assert held[:, 0].mean() == pytest.approx(0.5, abs=0.1)
    assert crop(dict(sample))["other"] == 3


@pytest.mark.parametrize("smallest, kept", [(0.2, 1), (0.5, 1), (0.51, 0)])
def test_boxes_of_which_too_little_is_left_are_left_out(smallest: float, kept: int) -> None:
    numbers = torch.zeros(1, 8, 8, 8, dtype=torch.uint8)
    numbers[0, 2:6, :4, :4] = 1
    targets = mask_targets(numbers, "class")[1].cropped((4, 0, 0), (4, 8, 8))
    assert targets.shares.tolist() == [0.5]
    assert len(targets.kept(smallest)) == kept


def test_boxes_cut_off_entirely_are_left_out(masks: Path, listed: Path) -> None:
    for root in (masks, listed):
        data = build(root, patch_size=PATCH, smallest_share=1e-9, augmentation={"foreground": 0.0})
        boxes = torch.cat([data[Draw(number % 3, number)]["label"]["boxes"] for number in range(30)])
        assert (boxes[:, 3:] > boxes[:, :3]).all()
        assert (boxes.min(), boxes.max()) == (0, 8)


def test_round_structures_are_moved_exactly_enough_by_their_boxes() -> None:
    place = np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij")) + 0.5
    ball = (
        ((place - np.array([13, 18, 16])[:, None, None, None]) / np.array([8, 5, 6])[:, None, None, None]) ** 2
    ).sum(0)
    numbers, targets = mask_targets(torch.from_numpy((ball < 1).astype(np.uint8))[None], "class")
    for seed in range(8):
        transform = RandomAffine(1.0, rotate=30, zoom=0.2, shift=3)
        transform.set_random_state(seed)
        moved = transform({"image": numbers.float(), "label": numbers, "boxes": targets})
        exact = boxes_of_labels(moved["label"][0].numpy())[0]
        assert np.abs(exact - moved["boxes"].boxes).max() < 1.1


def test_zooms_and_shifts_are_exact() -> None:
    targets = BoxTargets.whole([[4, 6, 8, 8, 10, 10]], [1])
    matrix = np.hstack([np.diag([0.5, 1.0, 2.0]), [[1.0], [0.0], [2.0]]])
    moved = targets.warped(matrix, (16, 16, 16))
    # out = (in - 8 - shift) / scale + 8
    assert np.allclose(moved.boxes, [[0, 6, 7, 6, 10, 8]])
    assert np.allclose(moved.shares, 6 / 8)  # it began 2 voxels before the volume


def test_small_structures_may_be_left_out(masks: Path) -> None:
    data = build(masks, min_voxels=49, split={"train": ["c0"]})
    assert data[0]["label"]["labels"].tolist() == [1, 2]  # of 60, 48 and 60 voxels
    drawn = build(masks, min_voxels=49, split={"train": ["c0"]}, patch_size=list(SHAPE))[Draw(0, 1)]
    assert drawn["label"]["labels"].tolist() == [1, 2]


def test_what_is_given_is_not_what_is_kept(masks: Path) -> None:
    data = build(masks)
    sample = data[0]
    sample["image"].zero_()
    sample["label"]["boxes"].zero_()
    assert data[0]["image"].any()
    assert data[0]["label"]["boxes"].any()


def test_other_spacing_resizes_the_boxes_of_a_list(masks: Path, listed: Path) -> None:
    arguments = {"preprocessing": {"spacing": [1, 1, 1]}, "split": {"train": ["c0"]}}
    of_masks, of_list = build(masks, **arguments), build(listed, **arguments)
    assert of_list[0]["image"].shape == (1, 20, 18, 32)
    for mine, theirs in zip(ordered(of_masks[0]["label"]), ordered(of_list[0]["label"]), strict=True):
        assert np.abs(np.subtract(mine, theirs)).max() <= 1


def test_the_sizes_of_the_training_boxes_in_prepared_voxels(masks: Path, listed: Path) -> None:
    expected = sorted([[4, 5, 3], [3, 4, 4], [5, 4, 3]] * 3)
    for root in (masks, listed):
        assert np.allclose(sorted(build(root).box_sizes.tolist()), expected)
        assert np.allclose(sorted(build(root, cache=False, patch_size=[24, 24, 24]).box_sizes.tolist()), expected)
    assert build(masks, split={"train": ["c3"], "val": 0}, cache=False).box_sizes.shape == (0, 3)


def test_a_box_outside_of_its_scan_is_refused_with_all_others(masks: Path, listed: Path) -> None:
    with pytest.raises(DatasetError, match=r"3 of 4 cases: .*case c\d: box(es)? .* of 3 lies? outside.*box_space"):
        build(listed, box_space="world-ras")
    with pytest.raises(DatasetError, match=r"c1\.nii\.gz: case c1: boxes .* outside"):
        build(listed, box_space="world-ras", cache=False, split={"train": ["c0", "c1"], "val": 0})[1]


def test_the_part_of_a_box_outside_is_cut_off(masks: Path) -> None:
    entry = {"image": "imagesTr/c0.nii.gz", "box": [[-3, 0, 0, 5, 4, 4]], "label": [0]}
    (masks / "cut.json").write_text(json.dumps({"training": [entry], "box_mode": "xyzxyz", "box_space": "voxel"}))
    sample = BoxDataset(masks / "cut.json", split={"train": 1, "val": 0}, smallest_share=1.0)[0]
    assert sample["label"]["boxes"].tolist() == [[15, 14, 0, 20, 18, 4]]


def test_a_class_that_no_case_has_is_refused(masks: Path, listed: Path) -> None:
    for root in (masks, listed):
        with pytest.raises(DatasetError, match="no training case has the class cyst, tumour"):
            build(root, split={"train": ["c3"], "val": 0})
        notes = build(root, split={"train": ["c3"], "val": ["c0"]}).layout.warnings
        assert any("though validation cases have it" in note for note in notes)


def test_a_scan_on_both_sides_is_refused(masks: Path) -> None:
    entry = {"image": "imagesTr/c0.nii.gz", "box": [], "label": []}
    copy = masks / "imagesTr" / "copy.nii.gz"
    copy.write_bytes((masks / "imagesTr" / "c0.nii.gz").read_bytes())
    listing = {"training": [entry], "validation": [{**entry, "image": "imagesTr/copy.nii.gz"}]}
    (masks / "leak.json").write_text(json.dumps(listing))
    with pytest.raises(DatasetError, match="the same scan is in training and in validation"):
        BoxDataset(masks / "leak.json")


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"boxes": "voxel"}, "boxes must be 'class' or 'component', got 'voxel'"),
        ({"smallest_share": 0}, "smallest_share must be above 0"),
        ({"box_mode": "xyz"}, "Invalid enum value 'xyz' - at `$.box_mode`"),
        ({"first_label": 3}, "first_label"),
        ({"augmentation": "heavy"}, "no augmentation 'heavy'"),
    ],
)
def test_wrong_arguments_are_refused(masks: Path, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        build(masks, **arguments)
    assert said in str(raised.value)


def test_scans_alone_and_classes_have_no_boxes(tmp_path: Path) -> None:
    write_volume(tmp_path / "scans" / "a.nii.gz", np.zeros((4, 4, 4), np.float32))
    with pytest.raises(DatasetError, match="scans without labels"):
        BoxDataset(tmp_path / "scans")
    (tmp_path / "cases.csv").write_text("image,label\nscans/a.nii.gz,ill\n")
    with pytest.raises(DatasetError, match="is for classification: boxes come of masks"):
        BoxDataset(tmp_path / "cases.csv")


def test_the_base_config_gives_batches_of_lists(masks: Path, listed: Path) -> None:
    base = Path(__file__).resolve().parents[2] / "configs" / "_base_" / "datasets" / "boxes.py"
    for root in (masks, listed):
        cfg = Config.fromfile(base)
        shared = {"data_root": str(root), "split": {"train": 3, "val": 1}, "patch_size": PATCH}
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            loader.dataset.update(shared)
        cfg.train_dataloader.sampler.samples_per_epoch = 4
        with mmengine_scope("boxes", registry.SCOPE):
            loaders = build_loaders(cfg)
        batch = next(iter(loaders["train_dataloader"]))
        assert [image.shape for image in batch["image"]] == [(1, 8, 8, 8)] * 2
        assert [set(label) for label in batch["label"]] == [{"boxes", "labels"}] * 2
        whole = next(iter(loaders["val_dataloader"]))
        assert (len(whole["image"]), whole["image"][0].shape, len(whole["case"])) == (1, (1, *SHAPE), 1)
