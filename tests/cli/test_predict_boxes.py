"""``medtransfer predict`` of a detector and of a network with several heads, from their model folders."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import medtransfer as mt
from medtransfer.cli.main import run

TINY = {"base_channels": 4, "stem_channels": 4}
HEADS = {
    "organs": {"task": "segmentation", "num_classes": 2},
    "ill": {"task": "classification", "num_classes": 2},
    "age": {"task": "regression", "num_outputs": 1},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    detector = mt.create_model("faster_rcnn_resnet10", num_classes=2, box_head_size=8, box_detections_per_img=5, **TINY)
    mt.save(detector, folder / "detector", {"classes": ["background", "nodule"]})
    heads = {
        name: {"task": head["task"], "classes": ["a", "b"][: head.get("num_classes", 1)]}
        for name, head in HEADS.items()
    }
    mt.save(mt.create_model("multitask_resnet10", heads=HEADS, **TINY), folder / "several", {"heads": heads})
    mt.save(mt.create_model("resunet10", **TINY), folder / "segmenter")
    values = np.random.default_rng(0).normal(size=(20, 18, 16)).astype(np.float32)
    nib.Nifti1Image(values, np.diag([-1.0, 1, 2, 1])).to_filename(folder / "scan.nii.gz")
    return folder


def predict(models: Path, name: str, out: Path, *options: str) -> int:
    return run(["predict", "-m", str(models / name), "-i", str(models / "scan.nii.gz"), "-o", str(out), *options])


def test_a_detectors_folder_becomes_boxes(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(models, "detector", tmp_path / "out", "--score", "0") == 0
    record = json.loads((tmp_path / "out" / "scan.json").read_text())
    assert record["task"] == "detection"
    assert 0 < len(record["boxes"]) <= 5
    scores = [box["score"] for box in record["boxes"]]
    assert scores == sorted(scores, reverse=True)
    for box in record["boxes"]:
        lower, upper = np.array(box["box"]).reshape(2, 3)
        assert (lower >= 0).all()
        assert (upper <= (20, 18, 16)).all()
        np.testing.assert_allclose(box["size_mm"], (upper - lower) * (1, 1, 2), atol=1e-3)
    assert f"scan: {len(scores)} box" in capsys.readouterr().out
    assert predict(models, "detector", tmp_path / "none", "--score", "1", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["cases"][0]["num_boxes"] == {"nodule": 0}
    assert (tmp_path / "none" / "boxes.csv").read_text().count("\n") == 1


@pytest.mark.parametrize(
    "name, options, words",
    [
        (
            "detector",
            ["--save-probabilities"],
            "save_probabilities is for a segmenter, the model is made for detection",
        ),
        ("detector", ["--bids"], "bids is for a segmenter"),
        ("detector", ["--largest-component"], "largest_component and fill_holes change masks"),
        ("detector", ["--classes", "liver"], "'liver' is no class of the model"),
        ("segmenter", ["--score", "0.5"], "score is for a detector, the model is made for segmentation"),
        ("several", ["--view"], "view is for a segmenter or a detector, the model is made for multitask"),
        ("several", ["--crop"], "the model is made for multitask"),
    ],
)
def test_options_that_do_not_fit_are_a_wrong_use(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, options: list[str], words: str
) -> None:
    assert predict(models, name, tmp_path / "out", *options) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_head_is_on_the_line_of_a_case(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(models, "several", tmp_path / "out") == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("scan: organs b ")
    assert " ml; ill a 0." in line
    assert "; age a " in line
    assert (tmp_path / "out" / "scan_organs.nii.gz").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["segmenter", "several"])
def test_without_boxes_monai_is_never_read(models: Path, tmp_path: Path, name: str) -> None:
    arguments = ["predict", "-m", str(models / name), "-i", str(models / "scan.nii.gz"), "-o", str(tmp_path / "out")]
    code = f"import sys; from medtransfer.cli.main import run; run({arguments}); sys.exit('monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
