"""Tables with several targets a case, as multi-task training reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medtransfer.checking.run import check
from tests.checking.conftest import AFFINE, mask, rules, save, scan, texts

CASES = 6


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Six scans, all but one with a mask, all with a grade and an age, each with a comment of its own."""
    rows = ["image,organs,grade,age,comment"]
    for number in range(CASES):
        save(tmp_path / f"scan_{number}.nii", scan(number))
        save(tmp_path / f"mask_{number}.nii", mask(number))
        organs = "" if number == 1 else f"mask_{number}.nii"
        rows.append(f"scan_{number}.nii,{organs},{'low' if number % 2 else 'high'},{40.5 + number},seen by {number}")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_every_column_that_is_a_target_is_checked(table: Path) -> None:
    checkup = check(table, table.parent / "out")
    assert (checkup.task, checkup.classes, checkup.problems) == ("multitask", ("organs", "grade", "age"), ())
    assert "organs (segmentation), grade (classification), age (regression)" in checkup.notes[0]
    assert set(checkup.cases[0].labels or ()) == {"organs: 1", "organs: 2"}
    assert checkup.cases[1].labels is None
    assert "targets organs, grade, age" in str(checkup)
    assert "organs: 2" in (table.parent / "out" / "check.html").read_text()


def test_a_column_that_is_no_target_is_named(table: Path) -> None:
    text = table.read_text().replace("44.5", "4a.5").replace("grade,age", "grade,years")
    table.write_text(text.replace(".5,seen", ",seen"))
    checkup = check(table)
    assert "years" not in checkup.classes
    assert checkup.notes[1] == "columns that were taken for no target, and not checked: years, comment"


def test_each_target_is_checked_alone(table: Path) -> None:
    save(table.parent / "mask_2.nii", mask(2), np.diag([1.0, 1.5, 9.0, 1.0]))
    save(table.parent / "mask_3.nii", np.zeros_like(mask(3)))
    save(table.parent / "mask_4.nii", mask(5))
    save(table.parent / "scan_5.nii", np.full(scan(5).shape, 7.0, np.float32))
    rows = table.read_text().replace("low", "high").replace("high", "low", 1)
    table.write_text(rows)
    checkup = check(table)
    assert rules(checkup, "error") == ["label-grid"]
    assert texts(checkup, "label-grid")[0].startswith("error scan_2: organs: the label lies up to")
    assert texts(checkup, "label-empty") == ["warning scan_3: organs: the label is empty: no voxel has a class"]
    assert texts(checkup, "label-twice") == ["warning scan_4: organs: scan_4, scan_5: one label, different scans"]
    assert texts(checkup, "class-rare") == ["warning scan_0: grade: is the only case of low"]
    assert len(texts(checkup, "constant")) == 1


def test_a_table_without_any_target_lacks_its_label(tmp_path: Path) -> None:
    for number in range(5):
        save(tmp_path / f"scan_{number}.nii", scan(number), AFFINE)
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["image,name", *(f"scan_{number}.nii,Jo {number}" for number in range(5))]))
    assert texts(check(path), "layout") == ["error : column label is missing, found image, name"]


@pytest.mark.parametrize("text", ["image,organs\n", 'image,"organs\nscan_0.nii,mask_0.nii\n'], ids=["no rows", "quote"])
def test_a_table_that_cannot_be_read_is_a_problem_and_no_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    (problem,) = check(path).problems
    assert (problem.severity, problem.rule) == ("error", "layout")
    assert "holds no case" in problem.text
