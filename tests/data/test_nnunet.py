"""nnU-Net's raw layout: channels, labels, regions, folds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medtransfer.data.layouts import find_layout
from medtransfer.data.nnunet import find_nnunet
from medtransfer.data.scans import read_scans
from medtransfer.data.splits import split_cases
from medtransfer.errors import ConfigError, DatasetError

from .conftest import as_nnunet

Write = Callable[..., Path]
LABELS = {"background": 0, "edema": 1, "tumour": 2}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a raw dataset of empty files with two channels, with changes to its dataset.json."""

    def start(cases: int = 3, **changes: Any) -> Path:
        empty = tmp_path / "empty.nii.gz"
        empty.touch()
        files = [([empty, empty], tmp_path / "empty_label.nii.gz") for _ in range(cases)]
        (tmp_path / "empty_label.nii.gz").touch()
        return as_nnunet(tmp_path / "data", files, list(LABELS), **changes)

    return start


def test_cases_have_a_file_per_channel(write: Write) -> None:
    layout = find_nnunet(
        write(channel_names={"1": "FLAIR", "0": "T1"}, labels={"tumour": 2, "edema": 1, "background": 0})
    ).checked()
    assert [file.name for file in layout.cases[1].images] == ["case_1_0000.nii.gz", "case_1_0001.nii.gz"]
    assert (layout.cases[1].id, Path(str(layout.cases[1].label)).name) == ("case_1", "case_1.nii.gz")
    assert (layout.channels, layout.classes) == (("T1", "FLAIR"), tuple(LABELS))
    assert (layout.ignore, layout.folds, layout.warnings) == (None, (), ())


def test_d07_a_channel_gap_is_named(write: Write) -> None:
    root = write()
    (root / "imagesTr" / "case_0_0001.nii.gz").rename(root / "imagesTr" / "case_0_0002.nii.gz")
    (root / "imagesTr" / "case_2_0000.nii.gz").unlink()
    found = find_nnunet(root)
    assert found.problems == (
        "case 'case_0' has the channels _0000, _0002: _0001 is missing",
        "case 'case_0' has the channels _0000, _0002: _0002 is not in channel_names",
        "case 'case_2' has the channels _0001: _0000 is missing",
    )
    assert [case.id for case in found.layout.cases] == ["case_1"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"channel_names": None}, "missing required field `channel_names`"),
        ({"labels": None}, "missing required field `labels`"),
        ({"file_ending": None}, "missing required field `file_ending`"),
        ({"file_ending": ".png"}, r"file_ending '\.png' is none of volumes.*holds no training case"),
        ({"numTraining": 5}, "numTraining is 5, but there are 3 cases"),
        ({"channel_names": {"0": "T1", "2": "T2"}}, "the numbers of 'channel_names' must be 0, 1, 2"),
        ({"labels": {"background": 0, "a": 2}}, "the numbers of 'labels' must be 0, 1, 2 ..., got 0, 2"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "labels 'a' and 'b' have the same number 1"),
        ({"labels": {"background": 0, "a": "1"}}, "the number of label 'a' must be 0, 1, 2 ..., got '1'"),
        ({"labels": {"background": 0, "ignore": 1, "a": 2}}, "'ignore' must have the highest number, got 1"),
    ],
)
def test_d01_a_wrong_dataset_json_is_refused_by_field(write: Write, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        find_nnunet(write(**changes)).checked()


def test_l13_overlapping_regions_are_refused_with_a_way_out(write: Write) -> None:
    root = write(labels={"background": 0, "whole": [1, 2], "core": [2]})
    found = find_layout(root)
    assert len(found.problems) == 2
    with pytest.raises(DatasetError, match=r"label 'whole' is a region of several labels.*name the labels singly"):
        found.checked()


def test_a_label_to_ignore_is_known_and_not_trained_on(write: Write) -> None:
    from medtransfer.data.dataset import LayoutDataset

    root = write(labels={**LABELS, "ignore": 3})
    layout = find_nnunet(root).checked()
    assert (layout.classes, layout.ignore) == (tuple(LABELS), 3)
    with pytest.raises(DatasetError, match=r"'ignore' \(3\), but losses count every voxel"):
        LayoutDataset(root)


def test_d02_files_that_are_missing_or_too_many_are_named(write: Write) -> None:
    root = write()
    (root / "labelsTr" / "case_0.nii.gz").rename(root / "labelsTr" / "case_9.nii.gz")
    (root / "imagesTr" / "scan.nii.gz").touch()
    (root / "imagesTr" / "case_1_0000.nrrd").touch()
    (root / "imagesTr" / "._case_1_0000.nii.gz").touch()
    found = find_nnunet(root)
    assert found.problems == (
        "imagesTr/scan.nii.gz has no channel number at its end, as in CASE_0000.nii.gz",
        "case 'case_0' has no label in labelsTr",
        "labelsTr/case_9.nii.gz has no image",
    )
    assert found.warnings == ("imagesTr/case_1_0000.nrrd does not end in .nii.gz: it is left out",)


def test_d03_ids_that_differ_in_case_only(write: Write) -> None:
    root = write(numTraining=4)
    for folder, name in (("imagesTr", "_0000"), ("imagesTr", "_0001"), ("labelsTr", "")):
        (root / folder / f"CASE_1{name}.nii.gz").touch()
    assert "'CASE_1' and 'case_1' differ in upper and lower case only" in find_nnunet(root).problems[0]


def test_d05_listed_cases_may_not_lead_out(write: Write) -> None:
    files = ["imagesTr/case_0_0000.nii.gz", "imagesTr/case_2_0001.nii.gz"]
    listed = {"a": {"images": files, "label": "labelsTr/case_0.nii.gz"}}
    root = write(dataset=listed, numTraining=1)
    assert [file.name for file in find_nnunet(root).checked().cases[0].images] == [name.split("/")[1] for name in files]
    listed["a"]["images"] = [files[0], "../x.nii.gz"]
    document = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**document, "dataset": listed}))
    with pytest.raises(DatasetError, match=r"'\.\./x\.nii\.gz' leads out"):
        find_nnunet(root).checked()


def test_d06_a_dataset_without_cases(write: Write) -> None:
    assert find_nnunet(write(cases=1, dataset={}, numTraining=0)).problems == ("holds no training case",)


@pytest.mark.parametrize(
    "folds, said",
    [
        ([{"train": ["case_0"], "val": ["case_7"]}], "fold 0 names case_7, no such case"),
        ([{"train": ["case_0"], "val": ["case_0"]}], "fold 0 trains on and validates with case_0"),
        ({"train": []}, r"splits_final\.json: Expected `array`"),
    ],
)
def test_d04_wrong_folds_are_refused(write: Write, folds: Any, said: str) -> None:
    root = write()
    (root / "splits_final.json").write_text(json.dumps(folds))
    with pytest.raises(DatasetError, match=said):
        find_nnunet(root).checked()


def test_folds_of_splits_final_are_used(write: Write) -> None:
    root = write()
    stated = [{"train": ["case_0", "case_1"], "val": ["case_2"]}, {"train": ["case_2"], "val": ["case_0", "case_1"]}]
    (root / "splits_final.json").write_text(json.dumps(stated))
    layout = find_nnunet(root).checked()
    for split, number in (({"fold": 1}, 1), ({}, 0)):
        train, val = split_cases(layout, split)
        assert [case.id for case in train] == stated[number]["train"]
        assert [case.id for case in val] == stated[number]["val"]
    assert len(split_cases(layout, {"val": 1, "seed": 3})[0]) == 2  # what the config says goes before
    with pytest.raises(DatasetError, match="fold 2 is asked for, but the dataset states 2 folds"):
        split_cases(layout, {"fold": 2})
    with pytest.raises(ConfigError, match="counted from 0"):
        split_cases(layout, {"fold": -1})


def test_scans_without_labels_have_their_channels_too(write: Write) -> None:
    root = write()
    (root / "imagesTs").mkdir()
    for channel in (0, 1):
        (root / "imagesTs" / f"new_{channel:04d}.nii.gz").touch()
    layout = read_scans(root)
    assert [case.id for case in layout.cases] == ["case_0", "case_1", "case_2", "new"]
    assert (layout.task, layout.channels, len(layout.cases[3].images)) == ("restoration", ("c0", "c1"), 2)
    (root / "imagesTs" / "new_0000.nii.gz").unlink()
    with pytest.raises(DatasetError, match="_0000 is missing"):
        read_scans(root)
