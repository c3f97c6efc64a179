"""What can be wrong with one case: all of it is found, whatever else is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medtransfer.checking.run import check
from medtransfer.data.layouts import read_layout
from medtransfer.data.preparation import prepare_case
from medtransfer.data.preprocessing import Preprocessing
from medtransfer.errors import VolumeError
from tests.checking.conftest import AFFINE, SHAPE, Dataset, mask, rules, save, scan, texts

Make = Callable[..., Dataset]


def shifted(voxels: float) -> np.ndarray:
    """The affine, moved along the first axis."""
    affine = AFFINE.copy()
    affine[0, 3] += voxels * affine[0, 0]
    return affine


def test_every_problem_of_every_case_in_one_pass(make_dataset: Make) -> None:
    data = make_dataset(8)
    data.image("c00").write_bytes(b"<html>")
    save(data.label("c00"), mask(0) * 3)
    save(data.label("c01"), mask(1).astype(np.float32) * 0.5)
    flipped = mask(2)
    flipped[0, 0, 0] = 9
    save(data.label("c02"), flipped, np.diag([-1.0, 1.5, 2.0, 1.0]))
    broken = scan(3)
    broken[1, 2, 3] = np.nan
    save(data.image("c03"), broken)
    save(data.label("c03"), mask(3)[:, :, :9])
    save(data.image("c04"), np.full(SHAPE, 7, np.float32))
    data.listing["training"].append({"image": "./imagesTr/none.nii.gz", "label": "./labelsTr/none.nii.gz"})
    data.write()
    checkup = check(data.root)
    found = {(problem.case, problem.rule) for problem in checkup.problems if problem.case}
    assert found == {
        *(("c00", "scan"), ("c00", "label-classes")),
        ("c01", "label"),
        *(("c02", "label-grid"), ("c02", "label-classes")),
        ("c03", "scan"),  # its label has a scan to lie on no more
        ("c04", "constant"),
    }
    assert "layout" in rules(checkup, "error")
    assert [problem.severity for problem in checkup.problems] == sorted(
        problem.severity for problem in checkup.problems
    )  # errors first
    assert "looks like a web page" in texts(checkup, "scan")[0]
    assert "1 of 1320 voxels are NaN or infinite, the first at (1, 2, 3)" in texts(checkup, "scan")[1]


def test_i29_channels_of_one_case_on_other_grids(make_dataset: Make) -> None:
    data = make_dataset(4)
    for name in data.names:
        data.image(name).rename(data.image(f"{name}_0000"))
        save(data.image(f"{name}_0001"), scan(100 + int(name[1:])))
    save(data.image("c01_0001"), scan(7), shifted(0.3))
    save(data.image("c02_0001"), scan(8), shifted(4))
    save(data.image("c03_0001"), scan(3))
    rows = [f"{name},@{name}_0000.nii.gz,@{name}_0001.nii.gz,#{name}.nii.gz" for name in data.names]
    checkup = check(data.table(rows, "id,image_t1,image_t2,label"))
    assert texts(checkup, "channel-grid") == [
        "error c02: channel t2 lies up to 4 voxels off channel t1 (shifted by 4, 0, 0 mm, or turned). "
        "Their affines must agree; resample one onto the other",
        "warning c01: channel t2 lies up to 0.3 voxels off channel t1",
    ]
    assert texts(checkup, "channel-twice") == ["warning c03: channel t2 holds the same voxels as channel t1"]
    assert rules(checkup) == ["channel-grid", "channel-twice"]
    assert set(checkup.cases[0].hashes) == {"t1", "t2"}


def test_l01_l02_l10_l11_values_that_are_no_labels(make_dataset: Make) -> None:
    data = make_dataset(5)
    nearly = mask(0).astype(np.float32)
    nearly[3, 3, 3] += 1e-4
    save(data.label("c00"), nearly)
    save(data.label("c01"), np.where(mask(1) == 2, 1.5, mask(1)).astype(np.float32))
    ramp = mask(2) * np.linspace(0.5, 1, 12, dtype=np.float32)[:, None, None] * np.linspace(
        0.7, 1, 11, dtype=np.float32
    )[:, None]  # fmt: skip
    save(data.label("c02"), ramp)
    hole = mask(3).astype(np.float32)
    hole[0, 0, 0] = np.nan
    save(data.label("c03"), hole)
    save(data.label("c04"), np.stack([mask(4) == value for value in range(3)], axis=3).astype(np.uint8))
    found = texts(check(data.root), "label")
    assert [text.split(":")[0] for text in found] == [*(f"error c0{number}" for number in (1, 2, 3, 4)), "warning c00"]
    for text, said in zip(found, ("got 1.5", "looks interpolated", "NaN", "one-hot", "rounded"), strict=True):
        assert said in text


def test_l03_foreign_labels_with_counts(make_dataset: Make) -> None:
    data = make_dataset(4)
    for name, value in zip(data.names, (7, 255, -1, 65535), strict=True):
        labels = mask(0).astype(np.int32)
        labels[0, 0, :3] = value
        save(data.label(name), labels)
    checkup = check(data.root)
    for text, value in zip(texts(checkup, "label-classes"), (7, 255, -1, 65535), strict=True):
        assert f"labels outside 0 to 2: {value} (3 voxels)" in text
    assert checkup.cases[0].labels is not None  # and what is right in it is counted all the same
    assert checkup.cases[0].labels["tail"].voxels == 50


@pytest.mark.parametrize("last, said", [(9, "(12, 11, 9), the scan has (12, 11, 10)"), (0, "another order")])
def test_l07_a_label_of_another_shape(make_dataset: Make, last: int, said: str) -> None:
    data = make_dataset(3)
    save(data.label("c01"), mask(1)[:, :, :last] if last else np.swapaxes(mask(1), 0, 2))
    checkup = check(data.root)
    assert rules(checkup) == ["label-grid"]
    assert said in texts(checkup, "label-grid")[0]


def test_l08_how_far_a_label_lies_off_in_voxels(make_dataset: Make) -> None:
    data = make_dataset(5)
    for name, voxels in zip(data.names, (1e-6, 0.3, 5), strict=False):
        save(data.label(name), mask(int(name[1:])), shifted(voxels))
    save(data.label("c03"), mask(3), np.diag([-1.0, 1.5, 2.0, 1.0]))
    save(data.label("c04"), mask(4), np.diag([1.0, 1.5, 4.0, 1.0]))
    assert texts(check(data.root), "label-grid") == [
        "error c02: the label lies up to 5 voxels off the scan (shifted by 5, 0, 0 mm, or turned). "
        "Their affines must agree; resample one onto the other",
        "error c03: the label lies up to 23 voxels off the scan (the axes run LAS and RAS). "
        "Their affines must agree; resample one onto the other",
        "error c04: the label lies up to 9.5 voxels off the scan (the spacings are 1 x 1.5 x 4 and 1 x 1.5 x 2 mm). "
        "Their affines must agree; resample one onto the other",
        "warning c01: the label lies up to 0.3 voxels off the scan",
    ]


def test_l09_a_scan_given_as_its_own_label(make_dataset: Make) -> None:
    data = make_dataset(3)
    data.label("c00").write_bytes(data.image("c00").read_bytes())
    save(data.image("c01"), mask(1).astype(np.float32))
    checkup = check(data.root)
    assert [text[:60] for text in texts(checkup, "label-is-scan")] == [
        "error c00: the label c00.nii.gz is a copy of the scan c00.nii"[:60],
        "error c01: the label holds the very voxels of its scan. Name the"[:60],
    ]


def nnunet(data: Dataset, labels: dict[str, object]) -> Path:
    """The same files as nnU-Net names them."""
    for name in data.names:
        data.image(name).rename(data.image(f"{name}_0000"))
    data.listing = {
        "channel_names": {"0": "MRI"},
        "labels": labels,
        "numTraining": len(data.names),
        "file_ending": ".nii.gz",
    }
    return data.write()


def test_l03_a_label_to_be_ignored_is_no_foreign_one_and_no_class(make_dataset: Make) -> None:
    data = make_dataset(3)
    some = mask(0)
    some[0, 0, :2] = 3
    save(data.label("c00"), some)
    save(data.label("c01"), np.where(mask(1) > 0, 3, 0).astype(np.uint8))
    checkup = check(nnunet(data, {"background": 0, "head": 1, "tail": 2, "ignore": 3}))
    assert rules(checkup) == ["layout", "label-empty"]
    assert "the label 3 is to be ignored, which training refuses" in texts(checkup, "layout")[0]
    assert texts(checkup, "label-empty")[0].startswith("warning c01")


def test_l05_empty_labels_are_warned_of_by_case(make_dataset: Make) -> None:
    data = make_dataset(4)
    for name in ("c01", "c02"):
        save(data.label(name), np.zeros(SHAPE, np.uint8))
    checkup = check(data.root)
    assert (rules(checkup), checkup.ok) == (["label-empty"], True)
    assert "c01, c02: the label is empty: no voxel has a class" in str(checkup)


def test_l05_a_class_that_never_occurs_is_an_error(make_dataset: Make) -> None:
    data = make_dataset(3)
    data.write(labels={"0": "background", "1": "head", "2": "tail", "3": "spleen"})
    checkup = check(data.root)
    assert texts(checkup, "class-absent") == ["error : no label holds 1 of 3 classes: spleen"]
    for name in data.names:
        save(data.label(name), np.zeros(SHAPE, np.uint8))
    assert texts(check(data.root), "class-absent") == ["error : no label holds 3 of 3 classes: head, tail, spleen"]


def test_l12_classes_of_whole_scans(make_dataset: Make) -> None:
    data = make_dataset(5)
    rows = [
        f"{name},@{name}.nii.gz,{label}" for name, label in zip(data.names, ("a", "a", "", "0.5", "b"), strict=True)
    ]
    checkup = check(data.table(rows, "id,image,label"))
    said = " ".join(texts(checkup, "layout"))
    assert "line 4: label is empty" in said
    assert "line 5: label 0.5 is a fraction" in said
    assert texts(checkup, "class-rare") == ["warning c04: is the only case of b"]
    assert [facts.target for facts in checkup.cases] == ["a", "a", "b"]


def test_l13_regions_that_overlap_are_refused_by_name(make_dataset: Make) -> None:
    checkup = check(nnunet(make_dataset(2), {"background": 0, "whole": [1, 2], "tail": 2}))
    assert "whole" in " ".join(texts(checkup, "layout"))
    assert not checkup.ok


@pytest.mark.parametrize(
    "image, label, affine",
    [
        (np.full(SHAPE, np.nan, np.float32), mask(0), AFFINE),
        (scan(0), mask(0), shifted(2)),
        (scan(0), mask(0)[:, :, 1:], AFFINE),
        (scan(0), mask(0) * 2, AFFINE),
        (scan(0), mask(0) * np.float32(0.3), AFFINE),
        (mask(0).astype(np.float32), mask(0), AFFINE),
    ],
)
def test_what_a_check_calls_an_error_training_refuses(
    make_dataset: Make, image: np.ndarray, label: np.ndarray, affine: np.ndarray
) -> None:
    data = make_dataset(3)
    save(data.image("c00"), image)
    save(data.label("c00"), label, affine)
    layout = read_layout(data.root)
    assert {problem.case for problem in check(data.root).errors} == {"c00"}
    prepare_case(layout.cases[1], layout, Preprocessing())
    with pytest.raises(VolumeError):
        prepare_case(layout.cases[0], layout, Preprocessing())
