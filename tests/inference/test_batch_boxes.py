"""What a batch writes of a detector and of a network with several heads."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medtransfer.errors import OutputExistsError, UsageError
from medtransfer.inference import batch as batch_module
from medtransfer.inference.batch import predict_batch
from medtransfer.inference.order import Extras
from medtransfer.inference.predictor import Predictor
from medtransfer.volumes.read import read_labels
from tests.inference.test_boxes import CARD, blocks

AFFINE = np.diag([-1.0, 2.0, 1.5, 1.0])


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """One scan with two blocks, one without any."""
    folder = tmp_path / "scans"
    folder.mkdir()
    full = blocks((2, 3, 4, 8, 7, 10)) + blocks((12, 3, 4, 16, 7, 10), value=2)
    for name, array in {"full": full, "empty": blocks()}.items():
        nib.Nifti1Image(array, AFFINE).to_filename(folder / f"{name}.nii.gz")
    return folder


@pytest.fixture
def detector(networks: Any) -> Predictor:
    return Predictor(networks["cubes"](), device="cpu", card=CARD)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_batch_of_boxes(detector: Predictor, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    batch = predict_batch(detector, scans, out, extras={"pictures": True})
    empty, full = batch.report["cases"]
    assert full["outputs"] == ["full_boxes.nii.gz", "full.png", "full.json"]
    assert full["num_boxes"] == {"nodule": 1, "node": 1}
    assert full["best_scores"] == {"nodule": 0.9, "node": 0.8}
    assert (empty["num_boxes"], empty["best_scores"]) == ({"nodule": 0, "node": 0}, {})
    outlines = read_labels(out / "full_boxes.nii.gz")
    np.testing.assert_array_equal(outlines.grid.affine, AFFINE)
    assert outlines.array[2:8, 3:7, 4:10].max() == 1
    assert outlines.array[4, 5, 6] == 0  # an outline is hollow
    assert outlines.array[12, 3, 4] == 2
    assert read_labels(out / "empty_boxes.nii.gz").array.max() == 0
    record = json.loads((out / "full.json").read_text())
    assert (record["task"], record["classes"]) == ("detection", CARD["classes"])
    first = record["boxes"][0]
    assert list(first) == ["class", "score", "box", "center_mm", "size_mm"]
    assert first["center_mm"] == [-4.5, 9.0, 9.75]
    (row, other) = read_rows(out / "boxes.csv")
    assert (row["case"], row["class"], other["class"]) == ("full", "nodule", "node")
    assert [float(row[f"box_{name}"]) for name in ("i0", "j0", "k0", "i1", "j1", "k1")] == first["box"]
    assert [float(row[f"center_mm_{axis}"]) for axis in "xyz"] == first["center_mm"]
    assert [float(row[f"size_mm_{axis}"]) for axis in "ijk"] == first["size_mm"] == [6, 8, 9]
    assert json.loads((out / "labels.json").read_text())["1"] == "nodule"
    assert (out / "labels.ctbl").is_file()
    page = (out / "report.html").read_text()
    assert "<h2>Boxes</h2>" in page
    assert "nodule boxes" in page


def test_parts_of_a_batch_share_one_table_of_boxes(detector: Predictor, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number in (0, 1):
        predict_batch(detector, scans, out, part=(number, 2))
    assert [row["class"] for row in read_rows(out / "boxes.csv")] == ["nodule", "node"]
    assert json.loads((out / "report.json").read_text())["done"] == 2


def test_going_on_keeps_whole_cases_and_tells_another_score(
    networks: Any, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, card = tmp_path / "out", {**CARD, "sha256": "a" * 64}
    predict_batch(Predictor(networks["cubes"](), card=card), scans, out)
    again = predict_batch(Predictor(networks["cubes"](), card=card), scans, out, resume=True)
    assert {case["status"] for case in again.report["cases"]} == {"kept"}
    assert again.report["cases"][1]["num_boxes"] == {"nodule": 1, "node": 1}
    (out / "full_boxes.nii.gz").unlink()
    third = predict_batch(Predictor(networks["cubes"](), card=card), scans, out, resume=True)
    assert [case["status"] for case in third.report["cases"]] == ["kept", "done"]
    with pytest.raises(OutputExistsError, match=r"with other options: score 0\.05 \(now 0\.5\)"):
        predict_batch(Predictor(networks["cubes"](), card=card, score=0.5), scans, out, resume=True)


def test_the_viewer_shows_the_outlines(detector: Predictor, scans: Path, tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("ipyniivue")
    predict_batch(detector, scans, tmp_path / "out", extras={"viewer": True})
    page = (tmp_path / "out" / "view.html").read_text()
    assert '"name": "nodule"' in page


@pytest.mark.parametrize("extras, option", [
    ({"probabilities": True}, "save_probabilities"), ({"bids": True}, "bids"), ({"cam": True}, "cam"),
    ({"formats": ("seg.nrrd",)}, "also"),
])  # fmt: skip
def test_what_boxes_have_not_is_refused_before_work(
    detector: Predictor, scans: Path, tmp_path: Path, extras: Any, option: str
) -> None:
    with pytest.raises(UsageError, match=f"{option} is for a .*, the model is made for detection"):
        predict_batch(detector, scans, tmp_path / "out", extras=extras)
    assert not (tmp_path / "out").exists()


def test_a_scan_may_not_take_the_name_of_the_table(detector: Predictor, scans: Path, tmp_path: Path) -> None:
    (scans / "full.nii.gz").rename(scans / "labels.nii.gz")
    with pytest.raises(UsageError, match=r"would be written over labels\.json of the batch"):
        predict_batch(detector, scans, tmp_path / "out")


HEADS_CARD: dict[str, Any] = {
    "intensity": {"scheme": "none"},
    "heads": {
        "organs": {"task": "segmentation", "classes": ["background", "liver", "spleen"]},
        "ill": {"task": "classification", "classes": ["no", "yes"]},
        "age": {"task": "regression", "classes": ["years"]},
    },
}


def test_a_batch_of_several_heads(networks: Any, scan: Any, tmp_path: Path) -> None:
    paths, out = [scan("a.nii.gz"), scan("b.nii.gz", array=np.full((9, 8, 7), 0.5))], tmp_path / "out"
    predictor = Predictor(networks["heads"](), device="cpu", card=HEADS_CARD)
    extras = Extras(pictures=True, probabilities=True)
    report = predict_batch(predictor, paths, out, extras=extras).report
    case = report["cases"][1]
    files = ["b_organs.nii.gz", "b_organs_probabilities.nii.gz", "b_organs.png", "b.json"]
    assert case["outputs"] == files
    assert all((out / name).is_file() for name in files)
    assert case["heads"]["organs"]["volumes_ml"]["liver"] == pytest.approx(9 * 8 * 7 * 0.003)
    assert case["heads"]["ill"]["class"] == "yes"
    assert case["heads"]["age"]["values"] == {"years": pytest.approx(50.5)}
    record = json.loads((out / "b.json").read_text())
    assert (record["task"], record["classes"]) == ("multitask", ["organs", "ill", "age"])
    assert [head["task"] for head in record["heads"].values()] == ["segmentation", "classification", "regression"]
    assert record["heads"]["ill"]["probabilities"]["yes"] == pytest.approx(1 / (1 + np.exp(-1)))
    tables = {path.name for path in out.iterdir()} - {"a.json", "b.json", "report.json", "report.html"}
    assert {name for name in tables if not name.startswith(("a_", "b_"))} == {
        "labels_organs.json", "labels_organs_itksnap.txt", "labels_organs.ctbl", "labels_ill.json",
        "predictions_ill.csv", "predictions_age.csv",
    }  # fmt: skip
    assert [row["class"] for row in read_rows(out / "predictions_ill.csv")] == ["yes" if x else "no" for x in (
        report["cases"][0]["heads"]["ill"]["class"] == "yes", True)]  # fmt: skip
    assert float(read_rows(out / "predictions_age.csv")[1]["years"]) == pytest.approx(50.5)
    page = (out / "report.html").read_text()
    for words in ("organs: liver", "ill: yes", "age: years", "<h2>Quantities</h2>", "<h2>Volumes</h2>"):
        assert words in page


@pytest.mark.parametrize(
    "extras, option", [({"cam": True}, "cam"), ({"bids": True}, "bids"), ({"viewer": True}, "view")]
)
def test_what_is_for_one_result_a_case_is_refused(
    networks: Any, scan: Any, tmp_path: Path, extras: Any, option: str
) -> None:
    predictor = Predictor(networks["heads"](), card=HEADS_CARD)
    with pytest.raises(UsageError, match=f"{option} is for a .*, the model is made for multitask"):
        predict_batch(predictor, scan(), tmp_path / "out", extras=extras)


def test_a_failed_case_leaves_no_row(networks: Any, scan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"nothing")
    for network, card, table in (
        ("cubes", CARD, "boxes.csv"), ("heads", HEADS_CARD, "predictions_age.csv")
    ):  # fmt: skip
        out = tmp_path / network
        done = predict_batch(Predictor(networks[network](), card=card), [scan("a.nii.gz"), bad], out)
        assert done.failed == ["bad"]
        assert all(row["case"] == "a" for row in read_rows(out / table))
    assert batch_module.SOME_FAILED == 5
