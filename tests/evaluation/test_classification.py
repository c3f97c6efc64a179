"""Classified cases from predictions.csv and CASE.json files against a table of true classes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from medtransfer.errors import DatasetError, UsageError
from medtransfer.evaluation.evaluate import evaluate
from medtransfer.reporting.predictions import write_predictions_csv

SHARES = {"a": (0.9, 0.1), "b": (0.2, 0.8), "c": (0.6, 0.4), "=d": (0.7, 0.3)}
TRUTH = "id,label,patient\na,Well,1\nb,Ill,2\nc,Ill,3\n=d,Well,3\n"
FEW: Any = {"draws": 50}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    cases = [
        {"case": case, "class": "Well", "probabilities": {"Well": well, "Ill": ill}}
        for case, (well, ill) in SHARES.items()
    ]
    (tmp_path / "documents").mkdir()
    for number, case in enumerate(cases):
        (tmp_path / "documents" / f"{number}.json").write_text(json.dumps(case))
    (tmp_path / "documents" / "report.json").write_text(json.dumps({"cases": cases}))
    write_predictions_csv(tmp_path / "table" / "predictions.csv", cases, ["Well", "Ill"])
    (tmp_path / "truth.csv").write_text(TRUTH)
    return tmp_path


@pytest.mark.parametrize("predictions", ["documents", "table", "table/predictions.csv"])
def test_from_a_folder_or_a_table(place: Path, predictions: str) -> None:
    found = evaluate(place / predictions, place / "truth.csv", **FEW)
    assert found.task == "classification"
    (summary,) = found.summary.values()
    assert summary["mean"]["accuracy"]["value"] == 0.75
    assert summary["mean"]["auroc"]["value"] == 1.0
    assert summary["classes"]["Ill"]["predicted_as"] == {"Well": 1, "Ill": 1}
    assert (summary["cases"], summary["patients"]) == (4, 3)
    assert [row["right"] for row in found.table] == [True, True, False, True]


def test_files_and_two_models(place: Path) -> None:
    found = evaluate(place / "table", place / "truth.csv", place / "documents", **FEW)
    names = {path.name for path in found.save(place / "out")}
    assert {"curves_1.png", "curves_2.png", "differences.png"} <= names
    assert "'=d" in (place / "out" / "evaluation.csv").read_text()
    assert "Too few cases differ" in str(found)


def test_a_second_model_may_name_the_classes_in_another_order(place: Path) -> None:
    cases = [{"case": case, "class": "Ill", "probabilities": {"Ill": 0.75, "Well": 0.25}} for case in SHARES]
    write_predictions_csv(place / "other" / "predictions.csv", cases, ["Ill", "Well"])
    evaluate(place / "table", place / "truth.csv", place / "other", **FEW).save(place / "out")
    with (place / "out" / "evaluation.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == "other"]
    assert {(row["probability_Well"], row["probability_Ill"]) for row in rows} == {("0.25", "0.75")}


def test_numbers_as_labels_and_classes_without_cases(place: Path) -> None:
    (place / "truth.csv").write_text("case;label\na;0\nb;0\nc;0\n=d;0\n")
    found = evaluate(place / "table", place / "truth.csv", **FEW)
    assert found.models[0].warnings == ("no case is of class ill: its AUROC is not defined",)
    assert found.to_dict()["models"]["table"]["summary"]["mean"]["accuracy"]["value"] == 0.75


@pytest.mark.parametrize(
    "truth, message",
    [
        ("id,label\na,Well\n", None),
        ("id,label\na,Well\nz,Ill\n", "1 of 2 cases have no prediction: z"),
        ("id,label\nz,Ill\n", "1 of 1 cases have no prediction: z"),
        ("id,label\na,Sick\n", r"labels that are no class of the predictions: 'Sick' \(case a\). The classes are"),
        ("id,label\na,Well\na,Ill\n", "cases occur twice: a"),
        ("id,label\na,\n", "line 2: label is empty"),
        ("id,patient\na,1\n", "column label is missing"),
    ],
)
def test_tables_of_truth(place: Path, truth: str, message: str | None) -> None:
    (place / "truth.csv").write_text(truth)
    if message is None:
        assert evaluate(place / "table", place / "truth.csv", **FEW).models[0].extra == ("=d", "b", "c")
        return
    with pytest.raises(DatasetError, match=message):
        evaluate(place / "table", place / "truth.csv")


@pytest.mark.parametrize(
    "row, message",
    [
        ("a,0.9,0.3", "add up to 1.2"),
        ("a,1.5,-0.5", "not from 0 to 1"),
        ("a,nan,0", "not from 0 to 1"),
        ("a,x,0", "'x'"),
    ],
)
def test_what_is_no_probability(place: Path, row: str, message: str) -> None:
    (place / "table" / "predictions.csv").write_text(f"case,probability_well,probability_ill\n{row}\n")
    with pytest.raises(DatasetError, match=message):
        evaluate(place / "table", place / "truth.csv")


def test_missing_ones_can_be_left_out_but_not_empty(place: Path) -> None:
    (place / "truth.csv").write_text(TRUTH + "e,Ill,9\n")
    assert evaluate(place / "table", place / "truth.csv", missing="skip", **FEW).models[0].left_out == ("e",)
    with pytest.raises(UsageError, match="cannot be scored as an empty mask"):
        evaluate(place / "table", place / "truth.csv", missing="empty")
