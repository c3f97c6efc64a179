"""``medtransfer export``: one line of result or error, and the exit codes of the contract."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import medtransfer as mt
from medtransfer.cli.main import run
from tests.exporting.test_export import tiny


@pytest.fixture
def model(tmp_path: Path) -> str:
    mt.save(tiny("vgg11"), tmp_path / "model", {"classes": ["healthy", "ill"]})
    return str(tmp_path / "model")


def test_a_report_as_json_and_as_text(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model.ts"
    assert run(["export", model, "-o", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["path"], document["format"]) == (str(out), "torchscript")
    assert document["difference"] < 1e-5
    assert run(["export", model, "-o", str(out), "--overwrite", "--spatial-size", "32", "--batch-size", "1"]) == 0
    shown = capsys.readouterr().out
    assert "1 x 2 x 32 x 32 x 32" in shown
    assert "not in the file:" in shown


@pytest.mark.parametrize(
    "arguments,code,message",
    [
        (["-o", "{}/a.h5"], 2, "a.h5: no format has the suffix '.h5'. Use .onnx (ONNX), .pt2 (torch.export), .ts"),
        (["-o", "{}/model/a.ts"], 2, "is inside the model folder"),
        (["-o", "{}/a.ts", "--spatial-size", "8", "8"], 2, "spatial_size must be 3 numbers"),
        (["-o", "{}/there.ts"], 2, "the output exists already"),
    ],
)
def test_slips(
    arguments: list[str], code: int, message: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there.ts").write_text("mine")
    assert run(["export", model, *(text.format(tmp_path) for text in arguments)]) == code
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1


def test_what_is_no_model_and_what_cannot_be_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(tmp_path / "none"), "-o", str(tmp_path / "a.ts")]) == 4
    assert "no such folder" in capsys.readouterr().err
    mt.save(tiny("retinanet_resnet10"), tmp_path / "detector")
    assert run(["export", str(tmp_path / "detector"), "-o", str(tmp_path / "a.ts")]) == 4
    error = capsys.readouterr().err
    assert "detector: RetinaNet chooses its boxes" in error
    assert len(error.splitlines()) == 1
