"""Tables with several targets: what is read, what may be missing, what is cut and turned together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medtransfer.data.multitask import MultiTaskDataset
from medtransfer.data.sampler import Draw
from medtransfer.data.targets import find_targets, read_targets
from medtransfer.errors import ConfigError, DatasetError

SHAPE = (12, 11, 10)
TARGETS: dict[str, Any] = {
    "organs": {"task": "segmentation", "column": "mask", "classes": ["background", "left", "right"]},
    "lesion": {"task": "segmentation"},
    "ill": {"task": "classification"},
    "size": {"task": "regression", "column": ["volume", "length"]},
}
Table = Callable[..., Path]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Six cases; the second lacks a mask, the third its class, the fourth its length, the fifth all masks."""
    rng = np.random.default_rng(0)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    for number in range(6):
        organs = np.zeros(SHAPE, np.uint8)
        organs[2:5, 3:8, 2:8], organs[7:10, 3:8, 2:8] = 1, 2
        image = organs * 100 + rng.normal(size=SHAPE).astype(np.float32) + number
        for name, array in {
            "scan": image.astype(np.float32),
            "organs": organs,
            "lesion": np.uint8(organs == 2),
        }.items():
            nib.save(nib.Nifti1Image(array, affine), tmp_path / f"{name}_{number}.nii")

    def write(*changes: tuple[int, str, str], split: bool = True) -> Path:
        columns = ["image", "mask", "lesion", "ill", "Volume", "length", "patient", "split"]
        rows = [
            [f"scan_{i}.nii", f"organs_{i}.nii", f"lesion_{i}.nii", ("no", "yes")[i % 2], f"{i}.5", f"{2 * i}", f"p{i}",
             "val" if i == 5 else "train"]
            for i in range(6)
        ]  # fmt: skip
        gaps = [(1, "lesion", ""), (2, "ill", "n/a"), (3, "length", "NaN"), (4, "mask", ""), (4, "lesion", "")]
        for row, column, cell in (*gaps, *changes):
            rows[row][columns.index(column)] = cell
        path = tmp_path / "table.csv"
        path.write_text("\n".join(",".join(row) for row in [columns, *rows]))
        return path

    return write


def build(path: Path, part: str = "train", **arguments: Any) -> MultiTaskDataset:
    return MultiTaskDataset(path, TARGETS, part=part, **arguments)


def test_a_sample_has_what_is_known_and_says_what_is_not(table: Table) -> None:
    dataset = build(table())
    assert [case.id for case in dataset.cases] == [f"scan_{i}" for i in range(5)]
    known = [{name: entry["known"] for name, entry in dataset[i]["label"].items()} for i in range(5)]
    assert known == [{"organs": i != 4, "lesion": i not in (1, 4), "ill": i != 2, "size": i != 3} for i in range(5)]
    label = dataset[0]["label"]
    assert label["organs"]["value"].shape == (1, *SHAPE)
    assert label["organs"]["value"].dtype == torch.int64
    assert torch.equal(label["lesion"]["value"], (label["organs"]["value"] == 2).long())
    assert label["ill"]["value"].tolist() == 0
    assert label["size"]["value"].tolist() == [0.5, 0.0]
    for row, head in ((4, "organs"), (2, "ill"), (3, "size")):
        assert not dataset[row]["label"][head]["value"].any()


def test_heads_are_described_and_measured_from_training_cases_only(table: Table) -> None:
    for part in ("train", "val"):
        dataset = build(table(), part)
        assert dataset.layout.task == "multitask"
        assert dataset.metainfo["classes"] == list(TARGETS)
        assert dataset.metainfo["heads"] == [
            {"name": "organs", "task": "segmentation", "classes": ["background", "left", "right"]},
            {"name": "lesion", "task": "segmentation", "classes": ["background", "1"]},
            {"name": "ill", "task": "classification", "classes": ["no", "yes"]},
            {"name": "size", "task": "regression", "classes": ["volume", "length"]},
        ]
        size = dataset.layout.heads[3]
        volumes, lengths = np.array([0.5, 1.5, 2.5, 4.5]), np.array([0.0, 2.0, 4.0, 8.0])
        assert size.mean == pytest.approx((volumes.mean(), lengths.mean()))
        assert size.std == pytest.approx((volumes.std(), lengths.std()))
    assert [case.id for case in dataset.cases] == ["scan_5"]
    assert "lesion: no file names the classes: 2 were counted" in " ".join(dataset.layout.warnings)


def test_masks_and_scan_are_cut_and_turned_together(table: Table) -> None:
    dataset = build(table(), patch_size=[6, 6, 6], augmentation={"preset": "strong", "foreground": 1.0, "intensity": 0})
    for seed in range(8):
        patch = dataset[Draw(0, seed)]
        assert patch["image"].shape == (1, 6, 6, 6)
        organs, lesion = (patch["label"][name]["value"] for name in ("organs", "lesion"))
        assert organs.shape == (1, 6, 6, 6)
        assert torch.equal(lesion, (organs == 2).long())
        found = patch["image"][0][organs[0] == 2]
        other = patch["image"][0][organs[0] == 0]
        assert not len(found) or not len(other) or found.mean() > other.mean()
        assert patch["label"]["size"]["value"].tolist() == [0.5, 0.0]


def test_patches_are_centred_on_what_any_known_mask_labels(table: Table) -> None:
    dataset = build(table(), patch_size=[1, 1, 1], augmentation={"foreground": 1.0})
    for case, labelled in ((0, {1, 2}), (1, {1, 2})):
        seen = {int(dataset[Draw(case, seed)]["label"]["organs"]["value"]) for seed in range(30)}
        assert seen == labelled
    image = dataset[4]["image"]
    places = {round(float(dataset[Draw(4, seed)]["image"]), 4) for seed in range(60)}
    # without a mask they are anywhere
    assert min(places) < image.median() < max(places)


def test_without_masks_patches_are_anywhere(table: Table) -> None:
    targets = {name: TARGETS[name] for name in ("ill", "size")}
    dataset = MultiTaskDataset(table(), targets, patch_size=[4, 4, 4], augmentation="strong")
    patch = dataset[Draw(0, 1)]
    assert patch["image"].shape == (1, 4, 4, 4)
    assert patch["label"].keys() == targets.keys()


def test_intensities_are_measured_in_what_the_known_masks_label(table: Table) -> None:
    plan = {"preprocessing": {"intensity": {"scheme": "ct"}}}
    found = [build(table(), cache=cache, **plan).preprocessing.intensity for cache in (True, False)]
    assert found[0] == found[1]
    assert found[0].low > 50  # type: ignore[union-attr]


def test_batches_are_tensors_of_values_and_of_what_is_known(table: Table) -> None:
    dataset = build(table())
    batch = torch.utils.data.default_collate([dataset[0], dataset[2], dataset[3]])
    assert batch["label"]["ill"]["known"].tolist() == [True, False, True]
    assert batch["label"]["ill"]["value"].tolist() == [0, 0, 1]
    assert batch["label"]["size"]["value"].shape == (3, 2)
    assert batch["label"]["organs"]["value"].shape == (3, 1, *SHAPE)


def test_all_wrong_rows_are_named_and_bare_ones_left_out(table: Table) -> None:
    path = table(
        (0, "mask", "gone.nii"), (1, "ill", "1.5"), (2, "Volume", "big"), (3, "split", "mine"), (5, "image", "x.nii")
    )
    found = find_targets(path, read_targets(TARGETS))
    assert found.problems == (
        "line 2: organs: 'gone.nii' does not exist",
        "line 3: ill: label 1.5 is a fraction, not a class",
        "line 4: size: 'big' is no number",
        "line 5: split 'mine' is not train, val or test",
        "line 7: 'x.nii' does not exist",
    )
    path = table((4, "ill", ""), (4, "Volume", ""))
    assert find_targets(path, read_targets(TARGETS)).warnings == (
        "1 cases have none of the targets and are left out: scan_4",
    )


def test_a_target_that_cannot_be_learnt_is_refused(table: Table) -> None:
    empty = [(row, "ill", "") for row in range(5)]
    with pytest.raises(DatasetError, match="no training case has the target 'ill'"):
        build(table(*empty))
    with pytest.raises(DatasetError, match="'length' is the same in all training cases"):
        build(table(*[(row, "length", "3") for row in range(5)]))
    targets = {"organs": {**TARGETS["organs"], "classes": ["background", "left", "right", "unseen"]}}
    with pytest.raises(DatasetError, match="no training case has the class unseen"):
        MultiTaskDataset(table(), targets)
    with pytest.raises(DatasetError, match=r"'scan_0\.nii' is the image and its label"):
        build(table((0, "mask", "scan_0.nii")))
    with pytest.raises(DatasetError, match="column age is missing, found image, mask"):
        MultiTaskDataset(table(), {"age": {"task": "regression"}})


def test_a_class_that_only_validation_has_is_a_warning_of_its_head(table: Table) -> None:
    path = table(*[(row, "ill", "no") for row in (1, 3)])
    assert "ill: no training case has the class yes, though validation cases have it" in build(path).layout.warnings


def test_patients_stay_on_one_side(table: Table) -> None:
    with pytest.raises(DatasetError, match="patients in training and in validation: p0"):
        build(table((5, "patient", "p0")))


@pytest.mark.parametrize(
    "targets, message",
    [
        (None, "targets says what is learnt of the cases, and is missing"),
        ({"age": {"task": "guess"}}, "targets: Invalid enum value 'guess'"),
        ({"age": {"task": "regression", "colum": "x"}}, "unknown field `colum`"),
        ({"ill": {"task": "classification", "column": ["a", "b"]}}, "targets.ill: a classification has one column"),
        ({"age": {"task": "regression", "classes": ["a"]}}, "targets.age: a regression has no classes"),
    ],
)
def test_words_that_no_target_has_are_refused_in_one_line(targets: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_targets(targets)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "target, message",
    [
        ({"task": "segmentation", "classes": ["a", "b", "a"]}, "classes must differ, got a, b, a"),
        ({"task": "regression", "column": ["Length", "length"]}, "columns must differ, got length, length"),
    ],
)
def test_what_has_one_name_twice_is_refused(target: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"targets.a: {message}"):
        read_targets({"a": target})


def test_numbers_beyond_float32_and_tables_without_any_target_are_refused(table: Table) -> None:
    targets = read_targets({"volume": {"task": "regression"}})
    found = find_targets(table((1, "Volume", "1e300")), targets)
    assert any("volume: '1e300' is no number" in problem for problem in found.problems)
    bare = find_targets(table(*((row, "Volume", "") for row in range(6))), targets)
    assert bare.problems == ("no case has any of the targets volume",)
