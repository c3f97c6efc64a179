"""Which files belong together, what the classes are called, and that nothing is dropped in silence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from medtransfer.errors import DatasetError, UsageError, VolumeError
from medtransfer.evaluation.evaluate import evaluate
from medtransfer.evaluation.masks import Masks, find_masks, match
from medtransfer.evaluation.names import read_names
from tests.evaluation.conftest import two_structures

FEW = {"draws": 50}


def _masks(*names: str) -> Masks:
    return Masks(Path(), {name: Path(name) for name in names})


def test_names_match_exactly_before_loosely() -> None:
    found = match(_masks("a", "a_0000", "b_0000", "c"), _masks("a", "b", "c_seg", "d"))
    assert {pair.case: pair.prediction and pair.prediction.name for pair in found.pairs} == {
        "a": "a",
        "b": "b_0000",
        "c_seg": "c",
        "d": None,
    }
    assert (found.missing, found.extra) == (("d",), ("a_0000",))
    assert match(_masks("x"), _masks("y")).pairs[0].prediction == Path("x")


def test_what_lies_beside_masks_is_no_mask(folders: tuple[Path, Path]) -> None:
    for name in ("a_probabilities.nii.gz", "._a.nii.gz", "a.png", "a.json", "a.seg.nrrd"):
        (folders[0] / name).write_bytes(b"")
    found = find_masks(folders[0])
    assert sorted(found.files) == ["a", "b", "c", "d"]
    assert found.files["a"].name == "a.nii.gz"


def test_two_files_of_one_case_are_refused(folders: tuple[Path, Path], write_mask: Any) -> None:
    write_mask("pred/a.nii", two_structures())
    with pytest.raises(DatasetError, match=r"a\.nii and a\.nii\.gz are the same case|are the same case"):
        evaluate(*folders)


def test_missing_predictions_are_an_error_or_zeros_or_left_out_but_always_named(folders: tuple[Path, Path]) -> None:
    (folders[0] / "a.nii.gz").unlink()
    with pytest.raises(DatasetError, match="1 of 4 references have no prediction: a"):
        evaluate(*folders)
    as_empty = evaluate(*folders, missing="empty", **FEW)
    assert as_empty.models[0].missing == ("a",)
    assert {row["outcome"] for row in as_empty.table if row["case"] == "a"} == {"missed"}
    skipped = evaluate(*folders, missing="skip", **FEW)
    assert skipped.models[0].left_out == ("a",)
    assert {row["case"] for row in skipped.table} == {"b", "c", "d"}
    assert "1 without a prediction, left out: a" in str(skipped)


def test_predictions_without_a_reference_are_named(folders: tuple[Path, Path]) -> None:
    (folders[1] / "a.nii.gz").unlink()
    found = evaluate(*folders, **FEW)
    assert found.models[0].extra == ("a",)
    assert "predictions without a reference, left out: a" in str(found)


def test_nothing_in_common_names_both_sides(folders: tuple[Path, Path], write_mask: Any) -> None:
    for case in "wxyz":
        write_mask(f"other/{case}.nii.gz", two_structures())
    with pytest.raises(DatasetError, match="no mask has the name of a reference: w, x, y, z"):
        evaluate(folders[0].parent / "other", folders[1])


def test_empty_and_absent_folders(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="is a folder without masks"):
        evaluate(folders[0], tmp_path / "empty")


def test_a_decathlon_folder_gives_references_and_names(folders: tuple[Path, Path], write_mask: Any) -> None:
    root = folders[0].parent / "data"
    for case in "abcd":
        write_mask(f"data/imagesTr/{case}.nii.gz", two_structures())
        write_mask(f"data/labelsTr/{case}.nii.gz", two_structures())
    (folders[0] / "labels.json").unlink()
    entries = [{"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in "abcd"]
    labels = {"0": "background", "1": "Leber", "2": "Milz"}
    listing = {"modality": {"0": "CT"}, "labels": labels, "training": entries, "numTraining": 4}
    (root / "dataset.json").write_text(json.dumps(listing))
    for place in (root, root / "labelsTr"):
        assert list(evaluate(folders[0], place, **FEW).models[0].drawn.results.names.values()) == ["Leber", "Milz"]


def test_without_names_classes_are_called_by_their_numbers(folders: tuple[Path, Path]) -> None:
    (folders[0] / "labels.json").unlink()
    assert evaluate(*folders, **FEW).models[0].drawn.results.names == {1: "1", 2: "2"}


def test_chosen_classes(folders: tuple[Path, Path]) -> None:
    assert {row["class"] for row in evaluate(*folders, classes=["spleen"], **FEW).table} == {"spleen"}
    assert {row["class"] for row in evaluate(*folders, classes=["2"], **FEW).table} == {"spleen"}
    assert {row["class"] for row in evaluate(*folders, classes={1: "L", 2: "S"}, **FEW).table} == {"L", "S"}
    with pytest.raises(UsageError, match=r"no class 'kidney'\. The classes are liver, spleen"):
        evaluate(*folders, classes=["kidney"])


@pytest.mark.parametrize(
    "document",
    [["background", "a", "b"], {"0": "background", "1": "a", "2": "b"}, {"background": 0, "a": 1, "b": 2},
     {"1": {"name": "a", "voxels": 5}, "2": {"name": "b"}}],
)  # fmt: skip
def test_forms_of_labels_json(tmp_path: Path, document: Any) -> None:
    file = tmp_path / "labels.json"
    file.write_text(json.dumps(document))
    assert read_names(file) == {1: "a", 2: "b"}


@pytest.mark.parametrize("text", ["{", "5", '{"liver": "x"}', '{"1": {}}'])
def test_broken_labels_json(tmp_path: Path, text: str) -> None:
    file = tmp_path / "labels.json"
    file.write_text(text)
    with pytest.raises(DatasetError, match="names no classes"):
        read_names(file)


def test_two_models_are_compared_on_the_cases_that_both_have(folders: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folders[0], other)
    (other / "b.nii.gz").write_bytes(b"nothing")
    found = evaluate(*folders, other, **FEW)
    assert [model.drawn.results.cases for model in found.models] == [("a", "c", "d")] * 2
    assert found.failed == ["b"]
    assert found.differences[0].value == 0


def test_a_name_that_is_not_there_is_said_on_either_side(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="nowhere: no such file"):
        evaluate(tmp_path / "nowhere", folders[1], draws=20)
    with pytest.raises(VolumeError, match="nowhere: no such file"):
        evaluate(folders[0], tmp_path / "nowhere", draws=20)


def test_bids_derivatives_are_matched_with_the_datasets_masks(tmp_path: Path, write_mask: Any) -> None:
    for folder, ending in (("predicted", "dseg"), ("reference", "desc-manual_dseg")):
        for subject in ("sub-1", "sub-2"):
            write_mask(tmp_path / folder / subject / "anat" / f"{subject}_{ending}.nii.gz", two_structures())
    found = match(find_masks(tmp_path / "predicted"), find_masks(tmp_path / "reference"))
    assert [pair.prediction.name for pair in found.pairs if pair.prediction] == [
        "sub-1_dseg.nii.gz",
        "sub-2_dseg.nii.gz",
    ]


def test_two_labels_of_one_name_are_refused(folders: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="liver is given twice"):
        evaluate(*folders, classes=["1=liver", "2=liver"], draws=20)
