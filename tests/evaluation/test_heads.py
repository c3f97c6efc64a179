"""Networks with several heads, each scored alone; and quantities against a table of true ones."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.stats import pearsonr

from medtransfer.errors import DatasetError, UsageError
from medtransfer.evaluation.evaluate import evaluate
from medtransfer.evaluation.regressed import REGRESSION_SCORES

FEW: Any = {"draws": 30}
AGES = {"a": (40.0, 42.0), "b": (50.0, 47.0), "c": (60.0, 60.0), "d": (70.0, 75.0), "e": (55.0, 50.0)}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Predictions of three heads in ``pred``, and what is true of each."""
    monkeypatch.chdir(tmp_path)
    for folder in ("pred", "masks"):
        Path(folder).mkdir()
    for case, (_, found) in AGES.items():
        labels = np.zeros((6, 6, 6), np.uint8)
        labels[1:3, 1:3, 1:3] = 1
        nib.save(nib.Nifti1Image(labels, np.eye(4)), f"masks/{case}.nii.gz")
        nib.save(nib.Nifti1Image(labels, np.eye(4)), f"pred/{case}_organs.nii.gz")
        nib.save(nib.Nifti1Image(labels * 0, np.eye(4)), f"pred/{case}_parts.nii.gz")
        heads = {
            "organs": {"task": "segmentation", "classes": ["background", "liver"], "volumes_ml": {"liver": 0.008}},
            "parts": {"task": "segmentation", "classes": ["background", "liver"], "volumes_ml": {"liver": 0.0}},
            "ill": {"task": "classification", "probabilities": {"no": 0.2, "yes": 0.8}, "class": "yes"},
            "age": {"task": "regression", "classes": ["Age"], "values": {"Age": found}},
        }
        Path(f"pred/{case}.json").write_text(json.dumps({"case": case, "task": "multitask", "heads": heads}))
    rows = [f"{case},{'yes' if age > 45 else 'no'},{age},{case in 'ab'}" for case, (age, _) in AGES.items()]
    Path("truth.csv").write_text("\n".join(["id,label,age,patient", *rows]))
    return tmp_path


def test_each_head_alone() -> None:
    for head, dice in (("organs", 1.0), ("parts", 0.0)):
        found = evaluate("pred", "masks", head=head, classes=["1=liver"], **FEW)
        assert (found.task, found.settings["head"]) == ("segmentation", head)
        assert found.summary["pred"]["mean"]["dice"]["value"] == dice
    found = evaluate("pred", "truth.csv", head="ill", **FEW)
    assert found.summary["pred"]["mean"]["accuracy"]["value"] == 0.8
    assert evaluate("pred", "truth.csv", head="age", **FEW).task == "regression"


def test_the_table_that_was_trained_from_is_the_reference_of_every_head() -> None:
    rows = [f"{n}/{case}.nii.gz,masks/{case}.nii.gz,{'yes' if age > 45 else 'no'},{age}" for n, (case, (age, _)) in
            enumerate(AGES.items())]  # fmt: skip
    rows[1] = rows[1].replace("masks/b.nii.gz", "").replace("yes", "n/a").replace("50.0", "na")
    for number, case in enumerate(AGES):
        Path(str(number)).mkdir()
        Path(f"{number}/{case}.nii.gz").touch()
    Path("table.csv").write_text("\n".join(["image,organs,ill,age", *rows]))
    organs = evaluate("pred", "table.csv", head="organs", classes=["1=liver"], **FEW)
    assert [row["case"] for row in organs.table] == ["a", "c", "d", "e"]
    assert organs.summary["pred"]["mean"]["dice"]["value"] == 1.0
    ill = evaluate("pred", "table.csv", head="ill", **FEW)
    assert ([row["case"] for row in ill.table], ill.models[0].extra) == (["a", "c", "d", "e"], ("b",))
    assert ill.summary["pred"]["mean"]["accuracy"]["value"] == 0.75
    assert [row["case"] for row in evaluate("pred", "table.csv", head="age", **FEW).table] == ["a", "c", "d", "e"]
    with pytest.raises(DatasetError, match=r"column parts or label is missing|column label is missing"):
        evaluate("pred", "table.csv", head="parts", **FEW)


@pytest.mark.parametrize(
    "head, said",
    [
        (None, r"holds the results of several heads. Name one, such as --head organs: .*age \(regression\)"),
        ("heart", "there is no head 'heart'. Name one"),
    ],
)
def test_a_head_must_be_named(head: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        evaluate("pred", "masks", head=head, **FEW)
    with pytest.raises(UsageError, match="not of a network with several heads"):
        evaluate("masks", "masks", head="organs", **FEW)


def test_values_by_hand() -> None:
    found = evaluate("pred", "truth.csv", head="age", **FEW)
    true, told = (np.array(side) for side in zip(*AGES.values(), strict=True))
    figures = {name: found.summary["pred"]["mean"][name]["value"] for name in REGRESSION_SCORES}
    assert figures["mae"] == pytest.approx(3)
    assert figures["bias"] == pytest.approx(-0.2)
    assert figures["rmse"] == pytest.approx(math.sqrt(63 / 5))
    assert figures["r2"] == pytest.approx(1 - 63 / ((true - true.mean()) ** 2).sum())
    assert figures["pearson"] == pytest.approx(pearsonr(true, told).statistic)
    assert found.summary["pred"]["patients"] == 2
    row = {"reference": 40.0, "predicted": 42.0, "error": 2.0}
    assert found.table[0] == {"model": "pred", "case": "a", "patient": "True", "quantity": "Age"} | row


def test_a_draw_is_a_repetition_of_its_cases() -> None:
    results = evaluate("pred", "truth.csv", head="age", **FEW).models[0].drawn.results
    chosen = np.array([0, 0, 2, 3, 3])
    weights = np.bincount(chosen, minlength=5)[None].astype(float)
    true, told = (np.array(side)[chosen] for side in zip(*AGES.values(), strict=True))
    drawn = dict(zip(REGRESSION_SCORES, results.draws(weights)[0][0], strict=True))
    assert drawn["pearson"] == pytest.approx(pearsonr(true, told).statistic)
    assert drawn["mae"] == pytest.approx(np.abs(true - told).mean())
    assert drawn["r2"] == pytest.approx(1 - ((true - told) ** 2).sum() / ((true - true.mean()) ** 2).sum())


def test_unknown_true_values_count_nowhere_and_several_quantities_have_no_mean_error() -> None:
    for number, (case, (_, age)) in enumerate(AGES.items()):
        document = {"case": case, "task": "regression", "values": {"age": age, "size": float(number)}}
        Path(f"pred/{case}.json").write_text(json.dumps({"case": case, "heads": {"both": document}}))
    Path("truth.csv").write_text("id,age,size\na,40,\nb,50,1\nc,60,2\nd,70,3\ne,55,5\n")
    found = evaluate("pred", "truth.csv", head="both", **FEW)
    (summary,) = found.summary.values()
    assert math.isnan(summary["mean"]["mae"]["value"])
    assert summary["classes"]["size"]["scores"]["mae"]["value"] == pytest.approx(0.25)
    assert summary["classes"]["size"]["scores"]["mae"]["n"] == 4
    assert len(found.table) == 9
    assert "2 quantities" in str(found)
    assert "mean absolute error" in str(found)


@pytest.mark.parametrize(
    "table, said",
    [
        ("id,height\na,1\n", "column Age is missing, found id, height"),
        ("id,age\na,old\n", "line 2: age is 'old', not a number"),
        ("id,age\na,1\na,2\n", "case a occurs twice"),
        ("id,age\na,1\nz,2\n", "1 of 2 cases have no prediction: z"),
        ("id,age\nz,2\n", "1 of 1 cases have no prediction: z"),
    ],
)
def test_tables_that_do_not_fit(table: str, said: str) -> None:
    Path("truth.csv").write_text(table)
    with pytest.raises(DatasetError, match=said):
        evaluate("pred", "truth.csv", head="age", **FEW)


def test_two_models_and_their_page() -> None:
    Path("worse").mkdir()
    for case, (age, _) in AGES.items():
        heads = {"age": {"task": "regression", "values": {"Age": age + 9}}}
        Path(f"worse/{case}.json").write_text(json.dumps({"case": case, "heads": heads}))
    found = evaluate("pred", "truth.csv", "worse", head="age", **FEW)
    main = found.differences[0]
    assert (main.of, main.score, main.wins, main.losses) == ("Age", "mae", 5, 0)
    assert main.value == pytest.approx(-6)
    names = {path.name for path in found.save("out")}
    assert {"values_1.png", "values_2.png", "differences.png"} <= names
    page = Path("out/evaluation.html").read_text()
    assert all(text in page for text in ("the largest errors", "R2", "Which is better?"))
