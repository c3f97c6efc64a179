"""Found boxes against reference boxes of every form: documents, tables, lists, masks; and what does not fit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medtransfer.errors import DatasetError, UsageError, VolumeError
from medtransfer.evaluation.detected import DETECTION_SCORES
from medtransfer.evaluation.evaluate import evaluate
from medtransfer.evaluation.evaluation import Evaluation
from medtransfer.reporting.boxes_table import write_boxes_csv
from medtransfer.volumes.boxes import boxes_to_world
from medtransfer.volumes.grid import Grid

AFFINE = np.array([[-1.0, 0, 0, 20], [0, 2, 0, -10], [0, 0, 1.5, 3], [0, 0, 0, 1]])
SHAPE = (20, 16, 16)
CLASSES = ("background", "nodule", "node")
#: by case: reference boxes with their class, then found ones with their class and score
CASES: dict[str, tuple[list[Any], list[Any]]] = {
    "a": ([(1, 1, 1, 5, 5, 5, 1)], [(1, 1, 1, 5, 5, 5, 1, 0.9)]),
    "b": ([(1, 1, 1, 5, 5, 5, 1), (8, 8, 8, 12, 12, 12, 2)], [(1, 2, 1, 5, 6, 5, 1, 0.8), (0, 0, 8, 4, 4, 12, 2, 0.7)]),
    "c": ([], [(1, 1, 1, 5, 5, 5, 1, 0.85)]),
    "d": ([(8, 8, 8, 12, 12, 12, 2)], [(8, 8, 8, 12, 12, 12, 2, 0.3)]),
}
FEW: Any = {"draws": 30}
Documents = Callable[..., Path]


def _box(row: Sequence[float], affine: np.ndarray = AFFINE) -> dict[str, Any]:
    centers, sizes = boxes_to_world([row[:6]], Grid(SHAPE, affine))
    scores = {"score": row[7]} if len(row) > 7 else {}
    found = {"class": CLASSES[int(row[6])], "box": list(row[:6]), **scores}
    return {**found, "center_mm": centers[0].round(4).tolist(), "size_mm": sizes[0].tolist()}


@pytest.fixture
def write_documents(tmp_path: Path) -> Documents:
    """Write a ``CASE.json`` each case of one side (0: reference, 1: found) and return the folder."""

    def write(name: str, side: int = 1, affine: np.ndarray = AFFINE, **changed: Any) -> Path:
        home = tmp_path / name
        home.mkdir()
        for case, sides in CASES.items():
            boxes = [_box(row, affine) for row in sides[side]]
            document = {"case": case, "task": "detection", "classes": CLASSES, "boxes": boxes, **changed}
            (home / f"{case}.json").write_text(json.dumps(document))
        (home / "report.json").write_text(json.dumps({"cases": []}))
        return home

    return write


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Masks and, with the same voxels, scans, and a list of these in the world of LUNA16."""
    entries = []
    for case, (rows, _) in CASES.items():
        labels = np.zeros(SHAPE, np.uint8)
        for row in rows:
            labels[tuple(slice(*ends) for ends in zip(row[:3], row[3:6], strict=True))] = row[6]
        (tmp_path / "masks").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(labels, AFFINE), tmp_path / "masks" / f"{case}.nii.gz")
        worlds = [np.concatenate(boxes_to_world([row[:6]], Grid(SHAPE, AFFINE)), axis=None) for row in rows]
        boxes = [(world * [-1, -1, 1, 1, 1, 1]).tolist() for world in worlds]
        entries.append({"image": f"masks/{case}.nii.gz", "box": boxes, "label": [row[6] - 1 for row in rows]})
    (tmp_path / "masks" / "labels.json").write_text(json.dumps(dict(enumerate(CLASSES))))
    document = {"labels": {"0": "nodule", "1": "node"}, "box_space": "world-lps", "validation": entries}
    (tmp_path / "list.json").write_text(json.dumps(document))
    return tmp_path


def _figures(found: Evaluation) -> dict[str, Any]:
    (summary,) = found.summary.values()
    return {
        name: {score: one["scores"][score]["value"] for score in DETECTION_SCORES}
        for name, one in summary["classes"].items()
    }


def test_scores_by_hand(write_documents: Documents) -> None:
    found = evaluate(write_documents("pred"), write_documents("ref", 0), **FEW)
    assert found.task == "detection"
    figures = _figures(found)
    # nodules: right 0.9, wrong 0.85 (in c, which has none), right 0.8 with an overlap of 3 to 5
    assert figures["nodule"]["ap"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert figures["nodule"]["froc"] == pytest.approx((0.5 + 1 * 6) / 7)  # one wrong box in 4 scans
    assert figures["nodule"]["precision"] == pytest.approx(2 / 3)
    assert figures["nodule"]["iou"] == pytest.approx((1 + 0.6) / 2)
    assert figures["nodule"]["center_error_mm"] == pytest.approx(1), "one voxel of 2 mm in one of two"
    # nodes: the right one has a score of 0.3, so that it counts for AP alone
    assert figures["node"]["ap"] == pytest.approx(51 * 0.5 / 101)
    assert (figures["node"]["sensitivity"], figures["node"]["precision"]) == (0, 0)
    assert math.isnan(figures["node"]["iou"])
    facts = found.summary["pred"]["classes"]["nodule"]
    assert [facts[key] for key in ("reference_boxes", "found_boxes", "hits", "false_positives")] == [2, 3, 2, 1]
    assert facts["ap_by_iou"]["0.7"] == pytest.approx(51 / 101)
    assert (facts["best_f1"], facts["best_f1_score"]) == (pytest.approx(0.8), 0.8)
    row = next(row for row in found.table if (row["case"], row["class"]) == ("b", "nodule"))
    assert (row["hits"], row["missed"], row["false_positives"], row["best_iou"]) == (1, 0, 0, 0.6)
    assert _figures(evaluate("pred", "ref", score=0.3, **FEW))["node"]["sensitivity"] == 0.5


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("references", ["ref", "masks", "list.json"])
@pytest.mark.parametrize("predictions", ["pred", "table/boxes.csv"])
def test_every_form_of_both_sides_says_the_same(
    write_documents: Documents, scans: Path, predictions: str, references: str
) -> None:
    write_documents("pred"), write_documents("ref", 0)
    write_boxes_csv(Path("table/boxes.csv"), [(case, _box(row)) for case, (_, rows) in CASES.items() for row in rows])
    figures = _figures(evaluate(predictions, references, **FEW))
    assert figures == {
        name: pytest.approx(one, nan_ok=True) for name, one in _figures(evaluate("pred", "ref", **FEW)).items()
    }


def test_a_box_each_component_and_what_is_ignored(write_documents: Documents, scans: Path) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:3, 1:3, 1:3], labels[8:10, 8:10, 8:10], labels[14:16, 1:3, 1:3] = 1, 1, 2
    nib.save(nib.Nifti1Image(labels, AFFINE), "masks/a.nii.gz")
    write_documents("pred")
    wanted = [
        evaluate("pred", "masks", boxes=each, **FEW).table[0]["reference_boxes"] for each in ("class", "component")
    ]
    assert wanted == [1, 2]
    found = evaluate("pred", "masks", ignore_label=2, **FEW)
    assert sum(row["reference_boxes"] for row in found.table if row["class"] == "node") == 0
    assert [row["class"] for row in evaluate("pred", "masks", classes=["node"], **FEW).table] == ["node"] * 4


def test_by_the_centre(write_documents: Documents, scans: Path) -> None:
    write_documents("pred")
    figures = _figures(evaluate("pred", "masks", hit="center", iou=0.9, **FEW))
    assert figures["nodule"]["sensitivity"] == 1
    assert _figures(evaluate("pred", "masks", iou=0.9, **FEW))["nodule"]["sensitivity"] == 0.5


def test_boxes_on_another_grid_are_refused_and_slightly_off_ones_warned_of(
    write_documents: Documents, scans: Path
) -> None:
    moved = AFFINE.copy()
    moved[0, 3] += 3
    write_documents("far", affine=moved)
    with pytest.raises(DatasetError, match=r"all 4 cases were refused.*3 voxels off the reference's grid"):
        evaluate("far", "masks", **FEW)
    moved[0, 3] -= 2.8
    write_documents("near", affine=moved)
    assert (
        "a: the boxes lie up to 0.2 voxels off the reference's grid"
        in evaluate("near", "masks", **FEW).models[0].warnings
    )


def test_bad_cases_do_not_stop_the_others(write_documents: Documents, scans: Path) -> None:
    home = write_documents("pred")
    bad: dict[str, Any] = {
        "a": [{"class": "nodule", "score": 0.5, "box": [1, 2, 3]}],
        "b": [{"class": "nodule", "score": 0.5, "box": [5, 5, 5, 1, 1, 1]}],
    }
    for case, boxes in bad.items():
        (home / f"{case}.json").write_text(json.dumps({"case": case, "task": "detection", "boxes": boxes}))
    found = evaluate("pred", "masks", **FEW)
    errors = {one["case"]: one["error"] for one in found.models[0].failed}
    assert "length >= 6" in errors["a"]
    assert "upper corner below its lower one" in errors["b"]
    assert found.failed == ["a", "b"]
    (home / "c.json").unlink(), (home / "d.json").unlink()
    with pytest.raises(DatasetError, match="2 of 4 references have no prediction: c, d"):
        evaluate("pred", "masks", **FEW)


def test_missing_extra_foreign_and_outside_are_said(write_documents: Documents, scans: Path) -> None:
    home = write_documents("pred")
    extra = {"case": "z", "task": "detection", "boxes": []}
    (home / "z.json").write_text(json.dumps(extra))
    boxes = [
        {"class": "Nodule", "score": 0.9, "box": [1, 1, 1, 5, 5, 5]},
        {"class": "kidney", "score": 0.9, "box": [1, 1, 1, 5, 5, 5]},
        {"class": "nodule", "score": 0.1, "box": [15, 1, 1, 24, 5, 5]},
    ]
    (home / "a.json").write_text(json.dumps({"case": "a", "task": "detection", "boxes": boxes}))
    (home / "d.json").unlink()
    found = evaluate("pred", "masks", missing="empty", **FEW)
    model = found.models[0]
    assert (model.missing, model.extra) == (("d",), ("z",))
    assert "the references have no class kidney: left out were 1 of the found boxes" in model.warnings
    assert "a: 1 found box reaches up to 4 voxels beyond the scan" in model.warnings
    assert found.table[0]["hits"] == 1, "whatever the letters' case"
    assert evaluate("pred", "masks", missing="skip", **FEW).models[0].left_out == ("d",)


def test_a_class_without_reference_boxes_is_left_out_of_the_means(write_documents: Documents) -> None:
    write_documents("pred"), write_documents("ref", 0)
    Path("ref/b.json").write_text(json.dumps({"case": "b", "task": "detection", "boxes": []}))
    Path("ref/d.json").write_text(json.dumps({"case": "d", "task": "detection", "boxes": []}))
    found = evaluate("pred", "ref", **FEW)
    assert found.models[0].warnings == ("no case has a reference box of class node: it is left out of the means",)
    mean = found.summary["pred"]["mean"]
    assert mean["ap"]["value"] == _figures(found)["nodule"]["ap"]
    found.save("out")
    assert json.loads(Path("out/evaluation.json").read_text())["models"]["pred"]["summary"]["classes"]["node"][
        "scores"
    ]["ap"] == {"value": None, "low": None, "high": None, "n": 4}


@pytest.mark.parametrize(
    "options, kind, said",
    [
        ({"classes": ["kidney"]}, UsageError, "no class 'kidney'"),
        ({"iou": 0}, UsageError, "iou must be above 0"),
        ({"hit": "near"}, UsageError, "hit must be one of iou, center"),
        ({"boxes": "organ"}, UsageError, "boxes must be one of class, component"),
        ({"score": math.nan}, UsageError, "score must be a number"),
    ],
)
def test_options_that_make_no_sense(write_documents: Documents, options: Any, kind: type[Exception], said: str) -> None:
    write_documents("pred"), write_documents("ref", 0)
    with pytest.raises(kind, match=said):
        evaluate("pred", "ref", **options, **FEW)


def test_references_that_are_none(write_documents: Documents, scans: Path) -> None:
    write_documents("pred")
    for file in Path("masks").glob("[bcd].nii.gz"):
        file.unlink()
    Path("masks/a.nii.gz").write_bytes(b"no volume")
    with pytest.raises(VolumeError):
        evaluate("pred", "masks", **FEW)
    Path("empty").mkdir()
    with pytest.raises(DatasetError, match="folder without masks"):
        evaluate("pred", "empty", **FEW)
    Path("flat").mkdir()
    flat = {"case": "a", "task": "detection", "boxes": [{"class": "nodule", "box": [1, 1, 1, 5, 5, 1]}]}
    Path("flat/a.json").write_text(json.dumps(flat))
    with pytest.raises(DatasetError, match="reference box has no volume"):
        evaluate("pred", "flat", **FEW)


def test_names_that_do_not_meet(write_documents: Documents, scans: Path) -> None:
    Path("masks/labels.json").unlink()
    write_documents("pred", classes=[]), write_documents("ref", 0)
    with pytest.raises(DatasetError, match=r"they are of node, nodule.*references have 1, 2"):
        evaluate("pred", "masks", **FEW)
    assert evaluate("ref", "ref", classes={1: "lump"}, **FEW).table[0]["class"] == "lump", "called otherwise"
    named = evaluate("pred", "masks", classes=["1=nodule", "2=node"], **FEW)
    assert [row["class"] for row in named.table[:2]] == ["nodule", "node"]


def test_a_table_names_no_case_without_boxes(write_documents: Documents, scans: Path) -> None:
    write_boxes_csv(Path("boxes.csv"), [("a", _box(CASES["a"][1][0]))])
    found = evaluate("boxes.csv", "masks", **FEW)
    assert found.models[0].missing == ("b", "c", "d")
    assert "names no box of 3 cases, which were scored as having none: b, c, d" in found.models[0].warnings[0]
    Path("boxes.csv").write_text(Path("boxes.csv").read_text().replace("0.9", "high"))
    with pytest.raises(DatasetError, match="line 2: could not convert string to float: 'high'"):
        evaluate("boxes.csv", "masks", **FEW)


def test_a_table_without_any_box_a_wrong_one_and_one_of_a_prediction_folder(
    write_documents: Documents, scans: Path
) -> None:
    write_boxes_csv(Path("boxes.csv"), [])
    assert evaluate("boxes.csv", "masks", **FEW).models[0].missing == ("a", "b", "c", "d")
    Path("boxes.csv").unlink()
    write_boxes_csv(Path("boxes.csv"), [("a", _box(CASES["a"][1][0]))])
    Path("masks/labels.json").rename("labels.json")
    named = evaluate("boxes.csv", "masks", **FEW)
    assert [row["class"] for row in named.table[:2]] == ["nodule", "node"], "by labels.json beside the table"
    Path("other.csv").write_text(Path("boxes.csv").read_text().replace("case,", "scan,"))
    with pytest.raises(DatasetError, match="column case is missing"):
        evaluate("other.csv", "masks", **FEW)


def test_a_damaged_document_is_not_a_case_without_prediction(write_documents: Documents, scans: Path) -> None:
    home = write_documents("pred")
    assert evaluate("pred/a.json", "masks", missing="skip", **FEW).models[0].left_out == ("b", "c", "d")
    (home / "b.json").write_text("{")
    with pytest.raises(DatasetError, match=r"b\.json: is no JSON"):
        evaluate("pred", "masks", missing="empty", **FEW)


def test_reference_boxes_outside_of_their_scan_are_refused(write_documents: Documents, scans: Path) -> None:
    write_documents("pred")
    listed = json.loads(Path("list.json").read_text())
    Path("list.json").write_text(json.dumps({**listed, "box_space": "world-ras"}))
    found = evaluate("pred", "list.json", **FEW)
    assert [one["case"] for one in found.models[0].failed] == ["a", "b", "d"]
    assert "1 of 1 reference boxes lie outside of the scan" in found.models[0].failed[0]["error"]


def test_two_models_and_their_page(write_documents: Documents) -> None:
    write_documents("first"), write_documents("ref", 0)
    write_documents("second")
    for case in "ab":
        Path(f"second/{case}.json").write_text(json.dumps({"case": case, "task": "detection", "boxes": []}))
    found = evaluate("first", "ref", "second", **FEW)
    main = found.differences[0]
    assert (main.of, main.score, main.p, main.patients) == ("mean over the classes", "ap", None, 4)
    assert main.value > 0
    assert (main.wins, main.losses) == (2, 0)
    assert "Too few cases differ" in str(found)
    same = evaluate("first", "ref", "first", names=["one", "two"], **FEW)
    assert {one.value for one in same.differences if not math.isnan(one.value)} == {0}
    names = {path.name for path in found.save("out")}
    assert {"curves_1.png", "curves_2.png", "differences.png"} <= names
    page = Path("out/evaluation.html").read_text()
    assert all(text in page for text in ("Average precision by overlap", "FROC", "Where to look first", "best F1"))
    assert Path("out/evaluation.csv").read_text().startswith("model,case,patient,label,class,reference_boxes,")


def test_patients_are_drawn(write_documents: Documents) -> None:
    write_documents("pred"), write_documents("ref", 0)
    found = evaluate("pred", "ref", patients={"a": "1", "b": "1", "c": "2", "d": "2"}, **FEW)
    assert found.summary["pred"]["patients"] == 2
    ap = found.summary["pred"]["mean"]["ap"]
    assert ap["low"] <= ap["value"] <= ap["high"]
