"""The table of a classifier's answers."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from medtransfer.errors import OutputExistsError
from medtransfer.evaluation.probabilities import read_predicted, read_truth
from medtransfer.reporting.predictions import NAME, write_predictions_csv
from medtransfer.reporting.spreadsheet import unquoted

ODD = ['a,b "c"', "line\nbreak", "=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\tx", "'quoted", "weiß;ÿ", ""]


def test_names_come_back_whatever_they_are_and_none_is_a_formula(tmp_path: Path) -> None:
    classes = ["a, b", "=1+1"]
    cases = [{"case": name, "class": "=1+1", "probabilities": {"a, b": 0.1, "=1+1": 0.9}} for name in ODD]
    path = write_predictions_csv(tmp_path / NAME, cases, classes)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["case", "class", "probability_a, b", "probability_=1+1"]
    assert [unquoted(row[0]) for row in rows[1:]] == ODD
    assert all(not cell.startswith(("=", "+", "-", "@", "\t")) for row in rows for cell in row)
    assert {row[1] for row in rows[1:]} == {"'=1+1"}
    assert {tuple(map(float, row[2:])) for row in rows[1:]} == {(0.1, 0.9)}


def test_evaluate_reads_back_names_that_a_spreadsheet_would_run(tmp_path: Path) -> None:
    names = ["=1+1", "+1", "-1", "@x", "'quoted", "''twice", "plain"]
    cases = [{"case": name, "class": "a", "probabilities": {"a": 1.0, "b": 0.0}} for name in names]
    path = write_predictions_csv(tmp_path / NAME, cases, ["a", "b"])
    assert list(read_predicted(path).cases) == names
    truth = tmp_path / "truth.csv"
    written = [name for name in names if not name.startswith("''")]  # which would be the quoted form of another
    truth.write_text("id,label\n" + "".join(f"{name},a\n" for name in written))
    assert list(read_truth(truth).labels) == written


def test_failed_cases_are_left_out_and_numbers_keep_their_digits(tmp_path: Path) -> None:
    cases = [
        {"case": "bad", "status": "failed", "error": "no scan"},
        {"case": "good", "class": "b", "probabilities": {"a": 1 / 3, "b": 2 / 3}},
    ]
    text = write_predictions_csv(tmp_path / NAME, cases, ["a", "b"]).read_text()
    assert text == f"case,class,probability_a,probability_b\ngood,b,{1 / 3!r},{2 / 3!r}\n"


def test_a_name_that_is_no_text_and_a_table_that_exists(tmp_path: Path) -> None:
    path = write_predictions_csv(
        tmp_path / NAME, [{"case": "caf\udce9", "class": "a", "probabilities": {"a": 1.0}}], ["a"]
    )
    assert path.read_text(encoding="utf-8").splitlines()[1] == "caf\\udce9,a,1.0"
    with pytest.raises(OutputExistsError):
        write_predictions_csv(path, [], ["a"])
    assert write_predictions_csv(path, [], ["a"], overwrite=True).read_text() == "case,class,probability_a\n"


def test_evaluate_reads_it(tmp_path: Path) -> None:
    cases = [
        {"case": f"c{number}", "class": "a", "probabilities": {"a": 1 - 0.1 * number, "b, c": 0.1 * number}}
        for number in range(3)
    ]
    path = write_predictions_csv(tmp_path / NAME, [*cases, {"case": "bad", "status": "failed"}], ["a", "b, c"])
    assert read_predicted(path).cases == {case["case"]: case["probabilities"] for case in cases}
