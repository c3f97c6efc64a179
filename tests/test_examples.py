"""The examples run as they stand, in a fresh folder, the way a reader would run them."""

from __future__ import annotations

import ast
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import nibabel as nib
import numpy as np
import pytest
from nbclient import NotebookClient

import medtransfer as mt

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TINY = {"base_channels": 4, "stem_channels": 4}


def run(script: str, *arguments: object, cwd: Path) -> str:
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def segmenter(tmp_path: Path) -> Path:
    mt.save(mt.create_model("resunet10", **TINY), tmp_path / "segmenter", {"classes": ["background", "box"]})
    return tmp_path / "segmenter"


def test_python_api(tmp_path: Path) -> None:
    lines = run("python_api.py", cwd=tmp_path).splitlines()
    assert lines[0] == "resnet18"
    assert lines[2] == "True"
    assert lines[3] == "(32, 32, 32) True"
    assert lines[4] == "['scan.json', 'scan.nii.gz']"


def test_move_weights(tmp_path: Path) -> None:
    lines = run("move_weights.py", cwd=tmp_path).splitlines()
    assert lines[1:] == [
        "same answer: True",
        "(1, 5, 32, 32, 32)",
        "3 True",
        "{'objectness': 1, 'box': 4, 'classes': 100} 105",
        "121 tensors are equal bit for bit, 1 changed",
    ]


def test_fine_tune(tmp_path: Path) -> None:
    out = run("fine_tune.py", cwd=tmp_path)
    assert "step 15, encoder as the source has it: True\nat the end: False\n" in out
    assert "encoder_4      44,992      2,816  3 held" in out
    assert out.endswith("merged gives the same: True\nkeys of adapters left: 0\n")


def test_freeze_blocks(tmp_path: Path) -> None:
    out = run("freeze_blocks.py", cwd=tmp_path)
    head = "'head_fc.weight', 'head_fc.bias'"
    hidden = ", ".join(f"'head_hidden.fc{i}.{kind}'" for i in (1, 2) for kind in ("weight", "bias"))
    assert [line for line in out.splitlines() if ":" in line or line.startswith("True")] == [
        "trained: ['dense0.weight', 'dense0.bias']",
        "trained: ['output.weight', 'output.bias']",
        "output(features(x)) is net(x): True",
        "True 32 parameters frozen",
        f"trained: [{head}, {hidden}]",
        f"trained: [{head}]",
    ]


def test_fcn_activation(tmp_path: Path) -> None:
    lines = run("fcn_activation.py", "map.png", 40, cwd=tmp_path).splitlines()
    scores = [[float(word) for word in line.split() if word[0].isdigit()] for line in lines if "AUROC" in line]
    assert scores[0][0] > 0.9
    assert scores[0][1] > 0.35
    assert scores[1] == scores[0]
    assert scores[2][1] > scores[0][1] + 0.03
    assert "the same at the start: True" in lines
    assert (tmp_path / "map.png").read_bytes()[1:4] == b"PNG"


def test_split_detector_head(tmp_path: Path) -> None:
    lines = run("split_detector_head.py", cwd=tmp_path).splitlines()
    assert [line for line in lines if "equal" in line or "they were" in line] == [
        "by hand, all values are equal: True",
        "by split_head, all values are equal: True",
        "objectness and box are as they were: True",
        "classes are as they were: False",
    ]
    assert lines[-1] == "moved in the detector: ['rpn.head.bbox_pred.weight', 'rpn.head.bbox_pred.bias']"


def test_faster_rcnn_fine_tuning(tmp_path: Path) -> None:
    out = run("faster_rcnn_fine_tuning.py", cwd=tmp_path)
    assert "parts: ['transform', 'backbone', 'rpn', 'roi_heads']\n" in out
    assert "roi_heads: featmap_names ['0', '1', '2', '3'] output_size (4, 4, 4)\n" in out
    assert "output of the new backbone: Tensor\n" in out
    assert out.count("scan (1, 52, 56, 60): {'boxes': (") == 2
    losses = [ast.literal_eval(line) for line in out.splitlines() if line.startswith("{'loss_objectness'")]
    assert len(losses) == 4
    assert all(math.isfinite(value) for each in losses for value in each.values())
    assert sum(losses[3].values()) < sum(losses[1].values())


def test_one_scan_is_segmented(tmp_path: Path, make_scan: Callable[..., Path], segmenter: Path) -> None:
    scan = make_scan()
    out = run("predict_one_scan.py", segmenter, scan, "masks", cwd=tmp_path)
    assert "box:" in out
    assert np.array_equal(nib.load(tmp_path / "masks" / "scan.nii.gz").affine, nib.load(scan).affine)


def test_one_scan_is_classified(tmp_path: Path, make_scan: Callable[..., Path]) -> None:
    model = mt.create_model("resnet10", num_classes=3, **TINY)
    mt.save(model, tmp_path / "classifier", {"classes": ["a", "b", "c"]})
    lines = run("predict_one_scan.py", tmp_path / "classifier", make_scan(), "out", cwd=tmp_path).splitlines()
    assert sum(float(line.split(": ")[1]) for line in lines) == pytest.approx(1, abs=0.01)


def test_a_folder_goes_on_after_a_bad_scan(tmp_path: Path, make_scan: Callable[..., Path], segmenter: Path) -> None:
    make_scan("scans/a.nii.gz")
    (tmp_path / "scans" / "b.nii.gz").write_text("no scan")
    make_scan("scans/c.nii.gz")
    out = run("predict_folder.py", segmenter, tmp_path / "scans", "masks", cwd=tmp_path)
    assert "b.nii.gz: left out" in out
    assert (tmp_path / "masks" / "c.nii.gz").exists()


NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
ON_THIS_MACHINE = re.compile(r"/(?:tmp|home|root|work|var|Users|private)/|[A-Z]:\\|\.venv|site-packages")
NUMBER = re.compile(r"\d+(?:\.\d+)?|-{2,}")  # and rules of tables


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.name)
def notebook(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_notebook_runs_and_says_what_it_said(notebook: Path, tmp_path: Path) -> None:
    written = nbformat.read(notebook, as_version=4)
    ran = nbformat.read(notebook, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(ran, timeout=300, kernel_name="python3", resources=resources).execute()
    for before, after in zip(written.cells, ran.cells, strict=True):
        assert _text(before) == _text(after)


def _text(cell: nbformat.NotebookNode) -> str:
    """What a cell prints; if it is tagged ``trained`` without numbers and widths, which depend on the machine."""
    printed = [output.text for output in cell.get("outputs", []) if output.get("name") == "stdout"]
    text = "".join(printed)
    return " ".join(NUMBER.sub("#", text).split()) if "trained" in cell.metadata.get("tags", []) else text


def test_notebook_is_stored_as_it_ran(notebook: Path) -> None:
    stored = nbformat.read(notebook, as_version=4)
    nbformat.validate(stored)
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert len(outputs) >= 3
    assert all(output.output_type != "error" and output.get("name") != "stderr" for output in outputs)
    assert not any("execution" in cell.metadata for cell in code)  # the times of day


def test_notebook_shows_nothing_of_the_machine_it_ran_on(notebook: Path) -> None:
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", []):
            shown = [output.get("text", ""), *(v for kind, v in output.get("data", {}).items() if kind[:5] == "text/")]
            assert not ON_THIS_MACHINE.search("".join(shown))


def test_notebook_is_a_lesson_with_pictures_and_an_end(notebook: Path) -> None:
    cells = nbformat.read(notebook, as_version=4).cells
    assert cells[0].source.startswith("# ")
    assert cells[-1].source.startswith("## With your own ")
    pictures = [output for cell in cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    assert 1 <= len(pictures) <= 4
