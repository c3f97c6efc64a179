"""``medtransfer evaluate``: results on stdout, one line of error, the right exit code."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medtransfer.cli import main


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models for three cases with one class."""
    monkeypatch.chdir(tmp_path)
    for folder, shift in (("ref", 0), ("good", 0), ("bad", 1)):
        Path(folder).mkdir()
        for case in "abc":
            labels = np.zeros((8, 8, 8), np.uint8)
            labels[2 + shift : 5 + shift, 2:5, 2:5] = 1
            nib.save(nib.Nifti1Image(labels, np.eye(4)), f"{folder}/{case}.nii.gz")
    Path("ref/labels.json").write_text('{"1": "liver"}')
    return tmp_path


def test_a_table_for_people_and_one_document_for_programs(place, capsys):
    assert main.run(["evaluate", "-p", "good", "-r", "ref"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("good: 3 cases")
    assert "liver" in out
    assert err == ""
    assert main.run(["evaluate", "-p", "good", "bad", "-r", "ref", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document["models"]) == ["good", "bad"]
    assert document["differences"][0]["first"] == 1.0


@pytest.mark.parametrize(
    "arguments, code, said",
    [
        (["-p", "good"], 2, "-r"),
        (["-p", "good", "bad", "ref", "-r", "ref"], 2, "3 predictions are given"),
        (["-p", "good", "-r", "none"], 3, "none"),
        (["-p", "good", "-r", "ref", "--tolerance", "wide"], 2, "--tolerance must be MM or CLASS=MM"),
        (["-p", "good", "-r", "ref", "--tolerance", "kidney=2"], 2, "no class 'kidney'"),
        (["-p", "good", "-r", "ref", "--classes", "kidney"], 2, "The classes are liver"),
        (["-p", "good", "-r", "ref", "--lesion-iou", "2"], 2, "--lesion-iou"),
        (["-p", "good", "-r", "ref", "-o", "ref/labels.json"], 2, "is a file"),
        (["-p", "good/a.nii.gz", "-r", "ref", "--missing", "refuse"], 3, "2 of 3 references have no prediction"),
    ],
)
def test_refusals(place, capsys, arguments, code, said):
    assert main.run(["evaluate", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.splitlines()[-1].startswith("medtransfer: error: ")


def test_an_existing_output_is_refused_before_any_work(place, capsys):
    (place / "out").mkdir()
    (place / "out" / "evaluation.json").write_text("mine")
    assert main.run(["evaluate", "-p", "none", "-r", "ref", "-o", "out"]) == 2
    assert "the output exists already" in capsys.readouterr().err
    assert main.run(["evaluate", "-p", "good", "-r", "ref", "-o", "out", "--overwrite"]) == 0
    assert (place / "out" / "evaluation.html").is_file()
    assert json.loads((place / "out" / "evaluation.json").read_text())["task"] == "segmentation"


def test_one_bad_case_does_not_stop_the_others(place, capsys):
    (place / "good" / "b.nii.gz").write_bytes(b"")
    assert main.run(["evaluate", "-p", "good", "-r", "ref", "--json"]) == 5
    out, err = capsys.readouterr()
    assert [one["case"] for one in json.loads(out)["models"]["good"]["failed"]] == ["b"]
    assert err.startswith("medtransfer: error: good/b.nii.gz: ")
    assert len(err.splitlines()) == 1


def test_missing_cases_may_be_allowed_and_count_as_failed(place, capsys):
    (place / "good" / "b.nii.gz").unlink()
    assert main.run(["evaluate", "-p", "good", "-r", "ref"]) == 3
    assert main.run(["evaluate", "-p", "good", "-r", "ref", "--allow-missing", "--json"]) == 0
    model = json.loads(capsys.readouterr().out)["models"]["good"]
    assert model["missing"] == ["b"]
    assert model["summary"]["mean"]["dice"]["value"] == pytest.approx(2 / 3)


@pytest.fixture
def boxes(place: Path) -> Path:
    """Found boxes for the three cases."""
    Path("boxes").mkdir()
    for case in "abc":
        box = {"class": "liver", "score": 0.9, "box": [2, 2, 2, 5, 5, 6]}
        Path(f"boxes/{case}.json").write_text(json.dumps({"case": case, "task": "detection", "boxes": [box]}))
    return place


def test_boxes_against_masks(boxes, capsys):
    assert main.run(["evaluate", "-p", "boxes", "-r", "ref", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["task"] == "detection"
    counted = {"iou": 0.5, "hit": "iou", "boxes": "class", "score": 0.5, "ignore_label": None}
    assert document["settings"] == counted | {"missing": "refuse", "draws": 2000, "seed": 0}
    liver = document["models"]["boxes"]["summary"]["classes"]["liver"]
    assert liver["scores"]["ap"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 3}
    assert (liver["ap_by_iou"]["0.7"], liver["ap_by_iou"]["0.8"]) == (1.0, 0.0)
    options = ["--iou", "0.8", "--boxes", "component", "--score", "0.1", "--hit", "center"]
    assert main.run(["evaluate", "-p", "boxes", "-r", "ref", *options]) == 0
    assert "boxes: 3 cases" in capsys.readouterr().out
    assert main.run(["evaluate", "-p", "boxes", "-r", "ref", "--head", "organs"]) == 2
    assert "not of a network with several heads" in capsys.readouterr().err


@pytest.mark.slow
def test_boxes_need_neither_torch_nor_monai(boxes, python):
    code = (
        "import sys; from medtransfer.cli import main;"
        "assert main.run(['evaluate', '-p', 'boxes', '-r', 'ref', '-o', 'out']) == 0;"
        "sys.exit(1 if {'torch', 'monai'} & set(sys.modules) else 0)"
    )
    assert python("-c", code).returncode == 0


@pytest.mark.slow
def test_it_starts_without_torch_and_monai(place, python):
    code = (
        "import sys; from medtransfer.cli import main;"
        "assert main.run(['evaluate', '-p', 'good', '-r', 'ref']) == 0;"
        "sys.exit(1 if {'torch', 'monai'} & set(sys.modules) else 0)"
    )
    assert python("-c", code).returncode == 0
