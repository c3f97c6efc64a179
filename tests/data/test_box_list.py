"""A list of scans and boxes is told by its content, and says everything that is wrong with it at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtransfer.data.box_list import BoxFormat
from medtransfer.data.cases import ListedBoxes
from medtransfer.data.dataset import LayoutDataset
from medtransfer.data.layouts import find_layout, read_layout
from medtransfer.errors import DatasetError

from .conftest import write_volume

LUNA = [-10.0, 5.0, 20.0, 4.0, 6.0, 8.0]  # centre and size
WriteList = Callable[..., Path]


@pytest.fixture
def write_list(tmp_path: Path) -> WriteList:
    """Write ``list.json`` with entries for training and validation, and a scan for each name."""

    def write(training: list[Any], validation: list[Any] | None = None, **document: Any) -> Path:
        for name in "abc":
            write_volume(tmp_path / f"{name}.nii.gz", np.zeros((4, 4, 4), np.float32))
        document = {"training": training, "validation": validation or [], **document}
        path = tmp_path / "list.json"
        path.write_text(json.dumps(document))
        return path

    return write


def entry(name: str = "a", *boxes: Any, **changes: Any) -> dict[str, Any]:
    return {"image": f"{name}.nii.gz", "box": list(boxes), "label": [0] * len(boxes), **changes}


def boxes_of(path: Path, **arguments: Any) -> ListedBoxes:
    label = find_layout(path, boxes=BoxFormat(**arguments)).checked().cases[0].label
    assert isinstance(label, ListedBoxes)
    return label


def test_a_list_as_monai_has_it_for_luna16(write_list: WriteList) -> None:
    path = write_list([entry("a", LUNA, LUNA), entry("c")], [entry("b", LUNA)])
    found = find_layout(path)
    layout = found.checked()
    assert (found.kind, layout.task, layout.channels) == ("boxes", "detection", ("image",))
    assert layout.classes == ("background", "0")
    assert [(case.id, case.part) for case in layout.cases] == [("a", "train"), ("c", "train"), ("b", "val")]
    # LUNA16's millimetres are those of DICOM and ITK: left and posterior are positive, ours are right and anterior
    expected = (8.0, -8.0, 16.0, 12.0, -2.0, 24.0)
    assert layout.cases[0].label == ListedBoxes((expected, expected), (1, 1), "world")
    assert layout.cases[1].label == ListedBoxes()
    assert ["box_space" in text for text in layout.warnings] == [False, True]


@pytest.mark.parametrize(
    "form, expected",
    [
        ({"box_space": "world-ras"}, (-12, 2, 16, -8, 8, 24)),
        ({"box_space": "voxel"}, (-12, 2, 16, -8, 8, 24)),
        ({"box_space": "world-ras", "box_mode": "xyzwhd"}, (-10, 5, 20, -6, 11, 28)),
    ],
)
def test_what_the_numbers_mean_may_be_said_by_the_config_or_by_the_list(
    write_list: WriteList, form: dict[str, str], expected: tuple[float, ...]
) -> None:
    by_config = boxes_of(write_list([entry("a", LUNA)]), **form)
    by_list = boxes_of(write_list([entry("a", LUNA)], **form))
    assert by_config == by_list == ListedBoxes((expected,), (1,), "voxel" if "voxel" in str(form) else "world")
    # the config goes before the list
    turned = write_list([entry("a", LUNA)], **{**form, "box_space": "world-lps"})
    assert boxes_of(turned, **form) == by_config


def test_corners_are_taken_as_corners(write_list: WriteList) -> None:
    path = write_list([entry("a", [0, 1, 2, 3, 5, 7])], box_mode="xyzxyz", box_space="voxel")
    assert boxes_of(path).corners == ((0, 1, 2, 3, 5, 7),)


@pytest.mark.parametrize(
    "document, labels, numbers",
    [
        ({}, [0, 2], (1, 3)),
        ({"first_label": 1}, [1, 2], (1, 2)),
        ({"labels": {"0": "nodule", "1": "mass"}}, [1, 0], (2, 1)),
        ({"labels": {"0": "Background", "1": "nodule", "2": "mass"}}, [1, 2], (1, 2)),
        ({"labels": {"1": "nodule", "2": "mass"}, "first_label": 1}, [1, 2], (1, 2)),
    ],
)
def test_classes_are_counted_from_one_wherever_the_list_begins(
    write_list: WriteList, document: dict[str, Any], labels: list[int], numbers: tuple[int, ...]
) -> None:
    layout = read_layout(write_list([entry("a", LUNA, LUNA, label=labels)], **document))
    assert layout.cases[0].label.labels == numbers  # type: ignore[union-attr]
    assert layout.classes[0].lower() == "background"
    if "labels" in document:
        assert layout.classes[1:] == ("nodule", "mass")


def test_several_channels_and_other_folders(write_list: WriteList, tmp_path: Path) -> None:
    both = entry("a", LUNA, image=["a.nii.gz", "b.nii.gz"], patient="p")
    layout = read_layout(write_list([both], modality={"0": "T1", "1": "T2"}), classes=["background", "lesion"])
    assert (layout.channels, layout.classes, layout.cases[0].patient) == (("T1", "T2"), ("background", "lesion"), "p")
    elsewhere = tmp_path / "lists"
    elsewhere.mkdir()
    moved = write_list([entry("a", LUNA)]).rename(elsewhere / "fold0.json")
    assert "listed but missing" in find_layout(moved).problems[0]
    case = find_layout(moved, boxes=BoxFormat(image_root=str(tmp_path))).checked().cases[0]
    assert case.images == (tmp_path / "a.nii.gz",)


def test_all_problems_come_in_one_pass_and_the_rest_can_be_used(write_list: WriteList) -> None:
    path = write_list(
        [
            entry("a", LUNA),
            entry("b", LUNA[:5], [*LUNA[:3], 4, -1, 4], [0, 0, 0, 1, 1, "2"], LUNA, label=[0, 1, 0, True]),
            entry("b", LUNA, LUNA, label=[0]),
            entry("b", [*LUNA[:5], 1e300]),
            entry("gone", LUNA),
            entry("a", LUNA, image="../a.nii.gz"),
            entry("A", image="a.nii.gz"),
            {"image": "c.nii.gz", "box": []},
            entry("c", image=[]),
        ],
        labels={"0": "nodule"},
    )
    found = find_layout(path)
    said = [
        "missing required field `label`",
        "case 'b': box 0 has 5 numbers, not six",
        "case 'b': box 1 has the size 4, -1, 4, which must be above 0 (box_mode is 'cccwhd')",
        "case 'b': box 2 is [0, 0, 0, 1, 1, '2'], not six numbers",
        "case 'b': the label of box 1 is 1, not a number from 0 to 0",
        "case 'b': the label of box 3 is True",
        "case 'b': 2 boxes, but 1 labels",
        "case 'b': box 0 is [-10.0",
        "'gone.nii.gz' is listed but missing",
        "'../a.nii.gz' leads out",
        "a case has no image",
        "the case 'a' is listed twice",
    ]
    assert len(found.problems) == len(said)
    for text, problem in zip(said, found.problems, strict=True):
        assert text in problem
    assert [case.id for case in found.layout.cases] == ["a"]  # type: ignore[union-attr]
    with pytest.raises(DatasetError, match=r"list\.json: Object missing required field .*; and 4 more\."):
        read_layout(path)


@pytest.mark.parametrize(
    "document, said",
    [
        ({"box_mode": "xyz"}, "Invalid enum value 'xyz' - at `$.box_mode`"),
        ({"first_label": 2}, "Invalid enum value 2 - at `$.first_label`"),
        ({"labels": {"0": "a", "2": "b"}}, "the numbers of 'labels' must be 0, 1, 2"),
        ({"labels": {"0": "a", "1": "a"}}, "'labels' gives 'a' to several numbers"),
        ({"labels": 3}, "at `$.labels`"),
        ({"validation": {"a": 1}}, "Expected `array`, got `object` - at `$.validation`"),
    ],
)
def test_keys_of_the_wrong_kind_are_problems(write_list: WriteList, document: dict[str, Any], said: str) -> None:
    assert any(said in problem for problem in find_layout(write_list([entry("a", LUNA)], **document)).problems)


@pytest.mark.parametrize("document", [{"box_space": "lps"}, {"box_mode": 3}])
def test_boxes_that_nobody_can_read_are_not_judged(write_list: WriteList, document: dict[str, Any]) -> None:
    found = find_layout(write_list([entry("a", LUNA[:5])], **document))
    assert len(found.problems) == 1
    assert found.layout is None


def test_a_list_that_lacks_all_boxes_is_told_by_its_other_keys(write_list: WriteList) -> None:
    lacking = find_layout(write_list([{"image": "a.nii.gz", "label": [0]}], box_space="voxel"))
    assert lacking.problems == ("Object missing required field `box` - at `$.training[0]`",)
    assert find_layout(write_list([], box_mode="xyzxyz")).problems == ("lists no case",)


def test_text_that_is_no_json_is_refused_in_one_line(write_list: WriteList) -> None:
    path = write_list([entry("a", [*LUNA[:5], float("nan")])])
    with pytest.raises(DatasetError, match="NaN is not a JSON number"):
        read_layout(path)


def test_a_list_of_boxes_is_no_dataset_of_labels(write_list: WriteList) -> None:
    with pytest.raises(DatasetError, match=r"is a list of boxes.*type='Boxes'"):
        LayoutDataset(write_list([entry("a", LUNA)]))


def test_the_example_of_the_page_is_read(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```json\n(\{\n  \"labels\".*?)^```$", page, re.MULTILINE | re.DOTALL)
    for name in "ab":
        write_volume(tmp_path / f"{name}.nii.gz", np.zeros((4, 4, 4), np.float32))
    (tmp_path / "list.json").write_text(example)
    layout = read_layout(tmp_path / "list.json")
    assert (layout.warnings, layout.classes, layout.channels) == ((), ("background", "nodule"), ("CT",))
    assert [(case.part, len(case.label.labels)) for case in layout.cases] == [("train", 1), ("val", 0)]  # type: ignore[union-attr]
