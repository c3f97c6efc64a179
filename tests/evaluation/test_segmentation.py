"""Scores of a case and of a folder against hand-computed ones; empty masks, grids and labels."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtransfer.errors import DatasetError, OutputExistsError, UsageError, VolumeError
from medtransfer.evaluation.evaluate import evaluate
from medtransfer.evaluation.evaluation import Evaluation
from tests.evaluation.conftest import AFFINE, two_structures

FEW = {"draws": 50}


def _row(evaluation: Evaluation, case: str, name: str) -> dict[str, Any]:
    return next(row for row in evaluation.table if (row["case"], row["class"]) == (case, name))


def test_by_hand(folders: tuple[Path, Path]) -> None:
    found = evaluate(*folders, **FEW)
    right, moved = _row(found, "a", "liver"), _row(found, "b", "liver")
    assert (right["dice"], right["nsd"], right["hd"], right["assd"], right["outcome"]) == (1, 1, 0, 0, "both")
    # 4 x 4 x 4 voxels moved by one of 1 mm: 48 of 64 are common
    assert moved["dice"] == pytest.approx(0.75)
    assert (moved["hd"], moved["hd95"], moved["nsd"]) == (1, 1, 1)
    assert (moved["sensitivity"], moved["precision"], moved["volume_error_ml"]) == (0.75, 0.75, 0)
    assert moved["reference_ml"] == pytest.approx(64 * 3 / 1000)
    assert evaluate(*folders, tolerance=0.5, **FEW).summary["pred"]["classes"]["liver"]["scores"]["nsd"]["value"] < 1


@pytest.mark.parametrize(
    "case, outcome, scores",
    [
        ("c", "missed", {"dice": 0, "nsd": 0, "hd": math.inf, "hd95": math.inf, "assd": math.inf, "sensitivity": 0,
                         "precision": math.nan, "volume_error_ml": -0.024, "volume_error_relative": -1,
                         "lesion_sensitivity": 0, "lesion_precision": math.nan, "lesion_f1": 0}),
        ("d", "invented", {"dice": 0, "nsd": 0, "hd": math.inf, "hd95": math.inf, "assd": math.inf,
                           "sensitivity": math.nan, "precision": 0, "volume_error_ml": 0.024,
                           "volume_error_relative": math.nan, "lesion_sensitivity": math.nan, "lesion_precision": 0,
                           "lesion_f1": 0}),
    ],
)  # fmt: skip
def test_empty_masks(folders: tuple[Path, Path], case: str, outcome: str, scores: dict[str, float]) -> None:
    row = _row(evaluate(*folders, **FEW), case, "spleen")
    assert row["outcome"] == outcome
    assert {name: row[name] for name in scores} == pytest.approx(scores, nan_ok=True)


def test_missed_and_invented_are_zeros_in_the_mean_and_counted_beside_distances(folders: tuple[Path, Path]) -> None:
    spleen = evaluate(*folders, **FEW).summary["pred"]["classes"]["spleen"]
    assert spleen["outcomes"] == {"both": 2, "missed": 1, "invented": 1, "absent": 0}
    # cases a 1, b 0.5, c 0, d 0
    assert (spleen["scores"]["dice"]["value"], spleen["scores"]["dice"]["n"]) == (pytest.approx(0.375), 4)
    assert (spleen["scores"]["hd"]["value"], spleen["scores"]["hd"]["n"]) == (0.5, 2)


def test_the_penalty_puts_the_diagonal_of_the_image(folders: tuple[Path, Path]) -> None:
    found = evaluate(*folders, penalty="diagonal", **FEW)
    diagonal = math.hypot(12 * 1, 8 * 2, 8 * 1.5)
    assert _row(found, "c", "spleen")["hd95"] == pytest.approx(diagonal)
    assert found.summary["pred"]["classes"]["spleen"]["scores"]["hd"]["value"] == pytest.approx((1 + 2 * diagonal) / 4)


def test_a_structure_in_neither_mask_counts_nowhere(folders: tuple[Path, Path], write_mask: Any) -> None:
    empty = two_structures()
    empty[empty == 2] = 0
    for folder in ("pred", "ref"):
        write_mask(f"{folder}/e.nii.gz", empty)
    found = evaluate(*folders, **FEW)
    assert math.isnan(_row(found, "e", "spleen")["dice"])
    assert _row(found, "e", "spleen")["outcome"] == "absent"
    assert found.summary["pred"]["classes"]["spleen"]["scores"]["dice"]["n"] == 4


def test_another_grid_is_refused_with_the_displacement_in_voxels(folders: tuple[Path, Path], write_mask: Any) -> None:
    moved = AFFINE.copy()
    moved[0, 3] = 3
    write_mask("pred/a.nii.gz", two_structures(), moved)
    found = evaluate(*folders, **FEW)
    assert found.failed == ["a"]
    assert "lies up to 3 voxels off" in found.models[0].failed[0]["error"]
    assert "a" not in {row["case"] for row in found.table}
    with pytest.raises(VolumeError, match="lies up to 3 voxels off"):
        evaluate(folders[0] / "a.nii.gz", folders[1] / "a.nii.gz")
    write_mask("pred/a.nii.gz", two_structures()[:-1])
    with pytest.raises(VolumeError, match=r"shape \(11, 8, 8\)"):
        evaluate(folders[0] / "a.nii.gz", folders[1] / "a.nii.gz")


def test_all_cases_refused_is_an_error(folders: tuple[Path, Path]) -> None:
    for file in folders[0].glob("*.nii.gz"):
        file.write_bytes(b"nothing")
    with pytest.raises(DatasetError, match="all 4 cases were refused"):
        evaluate(*folders)


def test_labels_that_are_no_class_are_refused_with_counts(folders: tuple[Path, Path], write_mask: Any) -> None:
    strange = two_structures()
    strange[0, 0, :3] = 7
    write_mask("pred/a.nii.gz", strange)
    message = evaluate(*folders, **FEW).models[0].failed[0]["error"]
    assert message.startswith(str(folders[0] / "a.nii.gz"))
    assert "labels that are no class: 7 (3 voxels)" in message


def test_ignored_voxels_count_for_nothing(folders: tuple[Path, Path], write_mask: Any) -> None:
    unsure = two_structures()
    unsure[5:7] = 9  # where the moved liver goes beyond the true one
    write_mask("ref/b.nii.gz", unsure)
    row = _row(evaluate(*folders, ignore_label=9, **FEW), "b", "liver")
    assert (row["dice"], row["precision"]) == (pytest.approx(2 * 48 / (64 + 48)), 1)
    with pytest.raises(VolumeError, match="9"):
        evaluate(folders[0] / "b.nii.gz", folders[1] / "b.nii.gz", classes=["1=liver", "2=spleen"])


def test_anisotropic_and_oblique_grids_measure_millimetres(write_mask: Any) -> None:
    turn = np.eye(4)
    turn[:2, :2] = [[math.cos(0.5), -math.sin(0.5)], [math.sin(0.5), math.cos(0.5)]]
    affine = turn @ np.diag([1.0, 1.0, 4.0, 1.0])
    one, other = np.zeros((2, 6, 6, 6))
    one[2, 2, 1], other[2, 2, 3] = 1, 1
    found = evaluate(write_mask("one.nii", one, affine), write_mask("other.nii", other, affine))
    assert found.table[0]["hd95"] == pytest.approx(8)
    assert found.table[0]["reference_ml"] == pytest.approx(0.004)


def test_tolerances_of_classes(folders: tuple[Path, Path]) -> None:
    found = evaluate(*folders, tolerance={"": 0.5, "spleen": 1}, **FEW)
    assert _row(found, "b", "liver")["nsd"] < 1
    assert _row(found, "b", "spleen")["nsd"] == 1
    with pytest.raises(UsageError, match="no class 'kidney' to have a tolerance"):
        evaluate(*folders, tolerance={"kidney": 1})


@pytest.mark.parametrize(
    "wrong",
    [{"tolerance": -1.0}, {"tolerance": math.nan}, {"lesion_iou": 2}, {"penalty": "much"}, {"missing": "what"},
     {"ignore_label": 0}, {"names": ["a", "b"]}],
)  # fmt: skip
def test_wrong_settings(folders: tuple[Path, Path], wrong: Any) -> None:
    with pytest.raises(UsageError):
        evaluate(*folders, **wrong)


def test_the_files(folders: tuple[Path, Path], tmp_path: Path) -> None:
    found = evaluate(*folders, **FEW)
    paths = found.save(tmp_path / "out")
    assert {"evaluation.csv", "evaluation.json", "evaluation.html", "dice.png", "volumes_1.png"} <= {
        path.name for path in paths
    }
    assert all(path.stat().st_size for path in paths)
    with (tmp_path / "out" / "evaluation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert [(row["dice"], row["hd"], row["precision"]) for row in rows if row["outcome"] == "missed"] == [
        ("0.0", "inf", "")
    ]
    document = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert document["models"]["pred"]["summary"]["classes"]["spleen"]["outcomes"]["missed"] == 1
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "missed" in page
    assert "http" not in page.split("</style>")[1]
    with pytest.raises(OutputExistsError):
        found.save(tmp_path / "out")


@pytest.mark.slow
def test_processes_give_the_same(folders: tuple[Path, Path]) -> None:
    alone, together = (evaluate(*folders, workers=workers, **FEW) for workers in (0, 2))
    assert repr(alone.table) == repr(together.table)
