"""A check of a list of boxes: how many and how large they are, and which lie outside of their scan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtransfer.checking.run import check
from tests.checking.conftest import AFFINE, rules, save, scan, texts

# of the first scan's 12 x 16.5 x 20 mm, whose first voxel's centre is the origin
FIRST, SECOND = [3.0, 4.0, 5.0, 2.0, 3.0, 4.0], [6.0, 9.0, 10.0, 4.0, 6.0, 8.0]


def write(root: Path, *entries: tuple[list[Any], list[int]], **document: Any) -> Path:
    listed = []
    for number, (boxes, labels) in enumerate(entries):
        save(root / f"c{number}.nii.gz", scan(number), AFFINE)
        listed.append({"image": f"c{number}.nii.gz", "box": boxes, "label": labels, "patient": f"p{number}"})
    keys = {"box_space": "world-ras", "labels": {"0": "cyst", "1": "tumour"}, "training": listed, **document}
    (root / "boxes.json").write_text(json.dumps(keys))
    return root / "boxes.json"


def test_sizes_and_counts_of_a_sound_list(tmp_path: Path) -> None:
    path = write(tmp_path, ([FIRST, SECOND], [0, 1]), ([FIRST, SECOND], [0, 0]), ([SECOND], [1]), ([], []))
    checkup = check(path, tmp_path / "out")
    assert (checkup.problems, checkup.task) == ((), "detection")
    assert checkup.classes == ("background", "cyst", "tumour")
    assert checkup.notes == (
        "cyst: 3 boxes in 2 cases, 2 x 3 x 4 to 4 x 6 x 8 mm, median 2 x 3 x 4",
        "tumour: 2 boxes in 2 cases, 4 x 6 x 8 to 4 x 6 x 8 mm, median 4 x 6 x 8",
        "1 case without any box",
    )
    facts = json.loads((tmp_path / "out" / "check.json").read_text())["cases"]
    assert facts[1]["boxes_mm"] == {"cyst": [[2, 3, 4], [4, 6, 8]], "tumour": []}
    page = (tmp_path / "out" / "check.html").read_text()
    assert "4 x 6 x 8" in page
    assert "smallest, mm" in page


def test_boxes_in_voxels_are_measured_along_the_axes_of_the_scan(tmp_path: Path) -> None:
    path = write(tmp_path, ([[0, 0, 0, 2, 2, 2]], [0]), box_mode="xyzxyz", box_space="voxel", labels={"0": "cyst"})
    assert check(path).cases[0].boxes == {"cyst": ((2, 3, 4),)}


def test_boxes_outside_of_their_scan_are_errors_with_the_way_out(tmp_path: Path) -> None:
    entries = ([FIRST, SECOND], [0, 1]), ([[50, 9, 10, 2, 2, 2], [11, 9, 10, 6, 2, 2]], [0, 1])
    checkup = check(write(tmp_path, *entries))
    assert rules(checkup, "error") == ["box-outside"]
    assert texts(checkup, "box-outside") == [
        "error c1: box 0 of 2 lies outside of the scan",
        "warning c1: box 1 reaches 2.5 voxels beyond the scan and is cut off",
    ]
    turned = check(write(tmp_path, *entries, box_space="world-lps"))
    first, second = texts(turned, "box-outside")
    assert first.startswith("error c0: boxes 0, 1 of 2 lie outside of the scan; in the other world of box_space")
    assert "other world" not in second


def test_classes_without_a_box_are_found(tmp_path: Path) -> None:
    checkup = check(write(tmp_path, ([FIRST], [0]), ([FIRST], [0])))
    assert texts(checkup, "class-absent") == ["error : no label holds 1 of 2 classes: tumour"]
    unseen = write(tmp_path, ([FIRST], [0]), ([FIRST], [0]))
    document = json.loads(unseen.read_text())
    validation = [{**document["training"].pop(), "label": [1]}]
    unseen.write_text(json.dumps({**document, "validation": validation}))
    assert texts(check(unseen), "class-unseen") == ["warning : as stated, the class tumour is in validation only: c1"]


@pytest.mark.parametrize("broken", ["", "x"])
def test_problems_of_the_list_and_of_the_scans_come_together(tmp_path: Path, broken: str) -> None:
    path = write(tmp_path, ([FIRST], [0]), ([SECOND[:5]], [0]), ([SECOND], [0]), labels={"0": "cyst"})
    (tmp_path / "c0.nii.gz").write_text(broken)
    checkup = check(path)
    assert rules(checkup, "error") == ["layout", "scan"]
    assert [facts.boxes is None for facts in checkup.cases] == [True, False]


def test_the_check_of_masks_says_nothing_of_boxes(make_dataset: Any) -> None:
    checkup = check(make_dataset(2).root)
    assert "boxes_mm" not in checkup.to_dict()["cases"][0]
    assert not any("box" in note for note in checkup.notes)
    assert np.all([facts.boxes is None for facts in checkup.cases])
