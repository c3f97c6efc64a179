"""What shows when all cases are seen together: leaks, duplicates, classes, and cases unlike the others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from medtransfer.checking.run import check
from tests.checking.conftest import AFFINE, SHAPE, Dataset, mask, rules, save, scan, texts

Make = Callable[..., Dataset]


def rows_of(data: Dataset, patients: str, parts: list[str]) -> list[str]:
    """A line a case, with one letter for its patient."""
    return [
        f"{name},@{name}.nii.gz,#{name}.nii.gz,{patient},{part}"
        for name, patient, part in zip(data.names, patients, parts, strict=True)
    ]


TRAIN_VAL = ["train"] * 4 + ["val"] * 2


def test_d04_a_patient_in_training_and_validation(make_dataset: Make) -> None:
    data = make_dataset()
    checkup = check(data.table(rows_of(data, "aabbbc", TRAIN_VAL)))
    leaks = " ".join(texts(checkup, "leak") or texts(checkup, "layout"))
    assert not checkup.ok
    assert "patient b is in train (c02, c03) and val (c04)" in leaks
    assert check(data.table(rows_of(data, "aabbcd", TRAIN_VAL))).ok


def test_d04_one_scan_under_two_names_in_training_and_validation(make_dataset: Make) -> None:
    data = make_dataset()
    # the same voxels, packed as another type, in another order of axes, under another name
    save(data.image("c05"), scan(0)[::-1].astype(np.float64), np.diag([-1.0, 1.5, 2.0, 1.0]))
    save(data.label("c05"), mask(5)[::-1], np.diag([-1.0, 1.5, 2.0, 1.0]))
    checkup = check(data.table(rows_of(data, "abcdef", TRAIN_VAL)))
    assert texts(checkup, "leak") == [
        "error c00: the same scan, with different labels is in train (c00) and val (c05)",
    ]


def test_one_scan_twice_in_one_stated_part_is_a_warning(make_dataset: Make) -> None:
    data = make_dataset()
    save(data.image("c01"), scan(0))
    checkup = check(data.table(rows_of(data, "abcdef", TRAIN_VAL)))
    assert texts(checkup, "duplicate") == ["warning c00: c00, c01 hold the same scan, with different labels"]


def test_constant_scans_are_not_the_same_scan(make_dataset: Make) -> None:
    data = make_dataset()
    for name in data.names[:2]:
        save(data.image(name), np.zeros(SHAPE, np.float32))
    assert rules(check(data.root)) == ["constant"]


@pytest.mark.parametrize(
    "patients, severity, said",
    [("abcdef", "error", "a split may put it on both sides"), ("abcdea", "warning", "c00, c05 hold the same scan")],
)
def test_d04_one_scan_under_two_names(make_dataset: Make, patients: str, severity: str, said: str) -> None:
    data = make_dataset()
    save(data.image("c05"), scan(0))
    save(data.label("c05"), mask(0))
    checkup = check(data.table(rows_of(data, patients, [""] * 6)))
    assert rules(checkup) == ["duplicate"]
    assert texts(checkup, "duplicate")[0].startswith(severity)
    assert said in texts(checkup, "duplicate")[0]
    assert "different" not in texts(checkup, "duplicate")[0]


def test_one_label_for_two_scans(make_dataset: Make) -> None:
    data = make_dataset()
    save(data.label("c05"), mask(0))
    assert texts(check(data.root), "label-twice") == ["warning c00: c00, c05: one label, different scans"]


def test_l06_a_class_in_validation_only(make_dataset: Make) -> None:
    data = make_dataset()
    for name in data.names[:4]:
        save(data.label(name), np.minimum(mask(int(name[1:])), 1))
    checkup = check(data.table(rows_of(data, "abcdef", TRAIN_VAL)))
    assert texts(checkup, "class-unseen") == [
        "warning : as stated, the class tail is in validation only: c04, c05",
    ]


def test_a_class_of_one_case(make_dataset: Make) -> None:
    data = make_dataset()
    for name in data.names[1:]:
        save(data.label(name), np.minimum(mask(int(name[1:])), 1))
    assert texts(check(data.root), "class-rare") == ["warning c00: is the only case of tail"]


def test_d06_no_case_and_one_case(make_dataset: Make) -> None:
    data = make_dataset(1)
    checkup = check(data.root)
    assert (rules(checkup), checkup.ok) == (["few"], True)
    assert "1 case: nothing is left to validate on" in str(checkup)
    none = check(data.write(training=[], numTraining=0))
    assert (none.ok, none.cases) == (False, ())
    assert "lists no training case" in str(none)


def test_d11_mixed_spacings_and_one_case_much_larger(make_dataset: Make) -> None:
    data = make_dataset()
    save(data.image("c01"), scan(1), AFFINE * [[10], [10], [10], [1]])
    save(data.label("c01"), mask(1), AFFINE * [[10], [10], [10], [1]])
    save(data.image("c02"), scan(2, (56, 56, 43)))
    save(data.label("c02"), mask(2, (56, 56, 43)))
    checkup = check(data.root)
    assert texts(checkup, "spacing") == [
        "warning c01: spacing 10 x 15 x 20 mm, the median is 1 x 1.5 x 2 mm: 10 times",
    ]
    assert texts(checkup, "size") == ["warning c02: 56 x 56 x 43 voxels, 102 times as many as the median case"]
    assert texts(checkup, "volume")[0].startswith("warning c01: head has 228 ml")


def test_d11_spacing_is_compared_along_the_body_not_along_the_file(make_dataset: Make) -> None:
    data = make_dataset()
    slab, turned = np.diag([1.0, 1.0, 8.0, 1.0]), np.zeros((4, 4))
    turned[2, 0], turned[0, 1], turned[1, 2], turned[3, 3] = 8, 1, 1, 1  # the same slices, stored as the first axis
    for seed, name in enumerate(data.names):
        save(data.image(name), scan(seed), turned if seed == 3 else slab)
        save(data.label(name), mask(seed), turned if seed == 3 else slab)
    assert rules(check(data.root)) == []
    save(data.image("c00"), scan(0), np.diag([1.0, 1.0, 1.0, 1.0]))
    save(data.label("c00"), mask(0), np.diag([1.0, 1.0, 1.0, 1.0]))
    assert texts(check(data.root), "spacing")[0].endswith("the median is 1 x 1 x 8 mm: 1/8 head-foot")


def test_intensities_of_another_unit(make_dataset: Make) -> None:
    data = make_dataset(10)
    for seed, name in enumerate(data.names):
        save(data.image(name), 10 * scan(seed) - 1000)
    save(data.image("c03"), scan(3) / 200)  # rescaled to about 0..1
    save(data.image("c07"), 10 * scan(7) + 1000)  # an offset that was not taken off
    found = texts(check(data.root), "intensity")
    assert [text.split(":")[0] for text in found] == ["warning c03", "warning c07"]
    assert found[0].endswith("as wide")
    assert "shifted by" in found[1]


def test_a_dataset_that_is_mixed_is_called_so_once(make_dataset: Make) -> None:
    data = make_dataset(24)
    for seed, name in enumerate(data.names[:10]):
        save(data.image(name), 1000 * scan(seed))
    found = texts(check(data.root), "intensity")
    assert len(found) == 1
    assert "intensities are on several scales: 10 of 24 cases" in found[0]


def test_ordinary_spread_is_no_warning(make_dataset: Make) -> None:
    data = make_dataset(12)
    for seed, name in enumerate(data.names):
        save(data.image(name), scan(seed) * 1.8**seed)  # MR has no unit
    assert rules(check(data.root)) == []
