"""Splits: fixed by their seed, nested, and never with a patient on both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from medtransfer.data.cases import Case, Layout
from medtransfer.data.splits import split_cases
from medtransfer.errors import ConfigError, DatasetError


def layout(patients: list[int | None], parts: list[str | None] | None = None) -> Layout:
    parts = parts or [None] * len(patients)
    cases = tuple(
        Case(f"case_{number}", (Path("a"),), 0, None if patient is None else f"p{patient}", part)
        for number, (patient, part) in enumerate(zip(patients, parts, strict=True))
    )
    return Layout(Path("table.csv"), "classification", cases, ("image",), ("a", "b"))


def ids(cases: list[Case]) -> list[str]:
    return [case.id for case in cases]


SINGLE = layout([None] * 20)


def test_the_validation_cases_do_not_depend_on_the_number_of_training_cases() -> None:
    small_train, small_val = split_cases(SINGLE, {"train": 3, "val": 6, "seed": 4})
    large_train, large_val = split_cases(SINGLE, {"train": 9, "val": 6, "seed": 4})
    rest, _ = split_cases(SINGLE, {"val": 6, "seed": 4})
    assert ids(small_val) == ids(large_val)
    assert ids(small_train) == ids(large_train)[:3]
    assert ids(large_train) == ids(rest)[:9]
    assert (len(small_train), len(small_val), len(rest)) == (3, 6, 14)


def test_the_seed_and_nothing_else_decides() -> None:
    reordered = Layout(SINGLE.path, SINGLE.task, SINGLE.cases[::-1], SINGLE.channels, SINGLE.classes)
    assert ids(split_cases(SINGLE, {"val": 6})[1]) == ids(split_cases(reordered, {"val": 6})[1])
    assert ids(split_cases(SINGLE, {"val": 6, "seed": 1})[1]) != ids(split_cases(SINGLE, {"val": 6})[1])


@given(
    st.lists(st.integers(0, 6), min_size=8, max_size=30).filter(lambda patients: len(set(patients)) >= 4),
    st.one_of(
        st.fixed_dictionaries({"val": st.floats(0.05, 0.4), "seed": st.integers(0, 9)}),
        st.fixed_dictionaries({"folds": st.integers(2, 4), "fold": st.integers(0, 1), "seed": st.integers(0, 9)}),
        st.none(),
    ),
)
@settings(max_examples=60, deadline=None)
def test_no_patient_is_on_both_sides(patients: list[int], split: dict[str, Any] | None) -> None:
    try:
        train, val = split_cases(layout(list(patients)), split)
    except DatasetError:  # one patient may have nearly all cases, which leaves none for training
        assume(False)
    assert not {case.patient for case in train} & {case.patient for case in val}
    assert not set(ids(train)) & set(ids(val))


def test_folds_cover_every_case_once() -> None:
    folds = [split_cases(SINGLE, {"folds": 5, "fold": fold}) for fold in range(5)]
    assert sorted(name for _, val in folds for name in ids(val)) == sorted(ids(list(SINGLE.cases)))
    assert all(len(train) == 16 for train, _ in folds)


def with_classes(labels: list[int], patients: list[int] | None = None) -> Layout:
    numbers = patients or list(range(len(labels)))
    cases = tuple(
        Case(f"case_{number}", (Path("a"),), label, f"p{patient}")
        for number, (label, patient) in enumerate(zip(labels, numbers, strict=True))
    )
    return Layout(Path("table.csv"), "classification", cases, ("image",), ("a", "b", "c"))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_folds_of_a_classification_have_the_same_share_of_each_class(seed: int) -> None:
    classified = with_classes([0] * 20 + [1] * 10 + [2] * 4)
    folds = [split_cases(classified, {"folds": 5, "fold": fold, "seed": seed})[1] for fold in range(5)]
    counts = [[sum(case.label == label for case in val) for label in range(3)] for val in folds]
    assert all(four == 4 and two == 2 and rare in (0, 1) for four, two, rare in counts)
    assert sorted(name for val in folds for name in ids(val)) == sorted(ids(list(classified.cases)))
    assert sorted(map(len, folds)) == [6, 7, 7, 7, 7]


def test_folds_of_a_classification_depend_on_the_seed_and_keep_patients_whole() -> None:
    classified = with_classes([0, 1] * 10, [number // 2 for number in range(20)])
    first, second = (split_cases(classified, {"folds": 5, "seed": seed}) for seed in (0, 1))
    assert ids(first[1]) != ids(second[1])
    for train, val in (first, second):
        assert (len(train), len(val)) == (16, 4)
        assert not {case.patient for case in train} & {case.patient for case in val}


def test_a_fold_without_folds_is_refused() -> None:
    with pytest.raises(DatasetError, match="fold 2 is asked for, but the dataset states none"):
        split_cases(SINGLE, {"fold": 2})
    assert split_cases(SINGLE, {"fold": 0}) == split_cases(SINGLE)


def test_d06_one_case_trains_and_leaves_none_to_validate() -> None:
    assert [len(side) for side in split_cases(layout([None]))] == [1, 0]
    with pytest.raises(DatasetError, match="2 folds need as many patients, there are 1"):
        split_cases(layout([None]), {"folds": 2})


def test_ids_may_be_listed() -> None:
    train, val = split_cases(SINGLE, {"train": ["case_3", "case_1"], "val": ["case_7"]})
    assert (ids(train), ids(val)) == (["case_3", "case_1"], ["case_7"])
    rest, _ = split_cases(SINGLE, {"val": ["case_7"]})
    assert len(rest) == 19
    _, others = split_cases(SINGLE, {"train": ["case_3"], "val": 19})
    assert "case_3" not in ids(others)


def test_the_parts_that_a_table_states_are_used() -> None:
    stated = layout([None] * 4, ["train", "val", "train", "test"])
    train, val = split_cases(stated)
    assert (ids(train), ids(val)) == (["case_0", "case_2"], ["case_1"])


def test_a_fifth_validates_when_nothing_is_said() -> None:
    train, val = split_cases(SINGLE)
    assert (len(train), len(val)) == (16, 4)


def test_d04_a_patient_on_both_sides_is_refused() -> None:
    with pytest.raises(DatasetError, match="patients in training and in validation: p1"):
        split_cases(layout([1, 1, 2], ["train", "val", "train"]))
    with pytest.raises(DatasetError, match="in training and in validation"):
        split_cases(layout([1, 1, 2]), {"train": ["case_0"], "val": ["case_1"]})


@pytest.mark.parametrize(
    "split, said",
    [
        ({"train": 30}, "asks for 30 cases, 20 are left"),
        ({"val": 20}, "no case for training"),
        ({"train": ["case_99"]}, "'case_99', which is no case"),
        ({"folds": 21}, "21 folds need as many patients"),
    ],
)
def test_d06_too_few_cases(split: dict[str, Any], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        split_cases(SINGLE, split)


@pytest.mark.parametrize(
    "split", [{"trian": 3}, {"train": "many"}, {"folds": 1}, {"folds": 3, "fold": 3}, {"train": -1}]
)
def test_a_wrong_split_is_refused(split: dict[str, Any]) -> None:
    with pytest.raises((ConfigError, DatasetError)):
        split_cases(SINGLE, split)
