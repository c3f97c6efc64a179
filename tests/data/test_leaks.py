"""The same scan under two names, labels that are copies, classes that training does not see."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medtransfer.data.cases import Case
from medtransfer.data.dataset import LayoutDataset
from medtransfer.data.leaks import PROBE, copied_labels, find_leaks, shared_scans
from medtransfer.errors import DatasetError

from .conftest import SHAPE, as_nnunet, write_volume

Write = Callable[..., list[tuple[list[Path], Path]]]
CLASSES = ["background", "anterior", "posterior"]
SPLIT = {"train": ["case_0", "case_1"], "val": ["case_2"]}


def write_bytes(folder: Path, **contents: bytes) -> list[Case]:
    for name, content in contents.items():
        (folder / f"{name}.nii").write_bytes(content)
    return [Case(name, (folder / f"{name}.nii",)) for name in contents]


def test_d04_equal_files_are_found_whatever_their_names(tmp_path: Path) -> None:
    long = bytes(range(256)) * 1024
    assert len(long) > 2 * PROBE
    cases = write_bytes(tmp_path, a=long, b=long[:-1] + b"x", c=long, d=b"short", e=b"other", f=b"", g=b"")
    assert shared_scans(cases) == [("a", "c")]  # b differs in its last byte only; empty files are no scans
    (tmp_path / "link.nii").symlink_to(tmp_path / "d.nii")
    assert shared_scans([*cases, Case("h", (tmp_path / "e.nii", tmp_path / "link.nii"))]) == [
        ("a", "c"),
        ("d", "h"),
        ("e", "h"),
    ]


def test_d04_headers_of_pairs_do_not_make_scans_equal(tmp_path: Path) -> None:
    for name, voxels in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / f"{name}.hdr").write_bytes(b"the same")
        (tmp_path / f"{name}.img").write_bytes(voxels)
    assert shared_scans([Case(name, (tmp_path / f"{name}.hdr",)) for name in "abc"]) == [("a", "c")]
    (tmp_path / "d.hdr").write_bytes(b"the same")  # no voxels: refused elsewhere
    assert shared_scans([Case(name, (tmp_path / f"{name}.hdr",)) for name in "bd"]) == []


def test_d04_leaks_are_patients_and_equal_scans(tmp_path: Path) -> None:
    first, second, third = write_bytes(tmp_path, a=b"1", b=b"2", c=b"1")
    assert find_leaks([first, second], [third]) == [
        "the same scan is in training and in validation: 'a' (training), 'c' (validation)"
    ]
    assert find_leaks([first, third], [second]) == []
    first, third = (Case(case.id, case.images, patient="p") for case in (first, third))
    assert find_leaks([first], [third, second]) == ["patient 'p' is in training and in validation"]


def test_d04_training_refuses_a_scan_on_both_sides(write_cases: Write, tmp_path: Path) -> None:
    files = write_cases(3)
    shutil.copy(files[0][0][0], files[2][0][0])
    root = as_nnunet(tmp_path / "n", files, CLASSES)
    for part in ("train", "val"):
        with pytest.raises(DatasetError, match=r"same scan .*'case_0' \(training\), 'case_2' \(validation\)"):
            LayoutDataset(root, split=SPLIT, part=part)
    assert len(LayoutDataset(root, split={"train": ["case_0"], "val": ["case_1"]})) == 1


def test_l09_copied_labels_are_found(tmp_path: Path) -> None:
    cases = write_bytes(tmp_path, a=b"1", b=b"1", c=b"2", d=b"")
    files = [case.images[0] for case in cases]
    labelled = [
        Case("x", (files[2], files[0]), files[1]),
        Case("y", (files[0],), files[2]),
        Case("z", (files[3],), files[3]),
    ]
    assert copied_labels([*labelled, Case("class", (files[0],), 1)]) == [
        "case 'x': the label b.nii is a copy of the scan a.nii"
    ]


def relabel(label: Path, *classes: int) -> None:
    array = np.zeros(SHAPE, np.uint8)
    array.flat[: len(classes)] = classes
    write_volume(label, array)


def test_l05_empty_labels_are_warned_of_case_by_case(write_cases: Write, tmp_path: Path) -> None:
    files = write_cases(3)
    relabel(files[1][1])
    data = LayoutDataset(as_nnunet(tmp_path / "n", files, CLASSES), split=SPLIT)
    assert data.layout.warnings == ("case case_1: its label is empty",)


def test_l05_labels_that_are_all_empty_are_refused(write_cases: Write, tmp_path: Path) -> None:
    files = write_cases(3)
    for _, label in files:
        relabel(label)
    with pytest.raises(DatasetError, match="no training case has the class anterior, posterior"):
        LayoutDataset(as_nnunet(tmp_path / "n", files, CLASSES), split=SPLIT)


def test_l06_a_class_only_in_validation_is_a_warning(write_cases: Write, tmp_path: Path) -> None:
    files = write_cases(3)
    relabel(files[0][1], 1)
    relabel(files[1][1], 1)
    root = as_nnunet(tmp_path / "n", files, CLASSES)
    said = "no training case has the class posterior, though validation cases have it"
    assert LayoutDataset(root, split=SPLIT).layout.warnings == (said,)
    with pytest.raises(DatasetError, match="no training case has the class posterior"):
        LayoutDataset(root, split={"train": ["case_0"], "val": ["case_1"]})


def test_l05_l06_hold_for_classifications(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "abc":
        write_volume(tmp_path / f"{name}.nii", rng.normal(size=(4, 4, 4)).astype(np.float32))
    (tmp_path / "t.csv").write_text("image,label,split\na.nii,sick,train\nb.nii,sick,train\nc.nii,well,val\n")
    warnings = LayoutDataset(tmp_path).layout.warnings
    assert warnings[-1] == "no training case has the class well, though validation cases have it"
    swapped = LayoutDataset(tmp_path, split={"train": ["c"], "val": ["a"]}).layout.warnings
    assert swapped[-1] == "no training case has the class sick, though validation cases have it"
    with pytest.raises(DatasetError, match="no training case has the class well"):
        LayoutDataset(tmp_path, split={"train": ["a"], "val": ["b"]})
