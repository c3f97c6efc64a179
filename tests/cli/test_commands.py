"""The commands over real rooms, with networks of four channels and scans of a few voxels."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import medtransfer as mt
from medtransfer.cli.main import run

TINY = {"base_channels": 4, "stem_channels": 4}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Model folders ``seg`` (2 foreground classes) and ``cls``, and a plain weight file ``cls.pth``."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    mt.save(mt.create_model("resunet10", 1, 3, **TINY), folder / "seg", {"classes": ["background", "a", "b"]})
    classifier = mt.create_model("resnet10", 1, 2, **TINY)
    mt.save(classifier, folder / "cls", {"input_channels": ["T1"], "spacing": [1.0, 1.0, 2.0]})
    torch.save(classifier.state_dict(), folder / "cls.pth")
    return folder


@pytest.fixture
def scans(tmp_path) -> Path:
    """Three scans on an oblique grid."""
    folder = tmp_path / "scans"
    folder.mkdir()
    rng = np.random.default_rng(0)
    affine = np.array([[0.9, 0.1, 0, -7.25], [-0.1, 0.9, 0, 3.5], [0, 0, 2.0, 1 / 3], [0, 0, 0, 1]])
    for name in "abc":
        nib.save(nib.Nifti1Image(rng.normal(size=(9, 10, 11)).astype(np.float32), affine), folder / f"{name}.nii.gz")
    return folder


def predict(model: Path, *arguments: object) -> int:
    return run(["predict", "-m", str(model), *map(str, arguments)])


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_predict_writes_masks_on_the_scans_own_grid(models, scans, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    assert predict(models / "seg", "-i", scans, "-o", out) == 0
    assert files(out) == {f"{name}.{end}" for name in "abc" for end in ("nii.gz", "json")} | {
        "labels.json",
        "labels.ctbl",
        "labels_itksnap.txt",
        "report.json",
    }
    for name in "abc":
        scan, mask = (nib.load(folder / f"{name}.nii.gz") for folder in (scans, out))
        np.testing.assert_array_equal(scan.affine, mask.affine)
        assert mask.get_data_dtype() == np.uint8
    assert json.loads((out / "labels.json").read_text()) == {"0": "background", "1": "a", "2": "b"}
    assert json.loads((out / "report.json").read_text())["done"] == 3
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == f"3 of 3 written to {out}"
    assert printed.err == ""


def test_predict_goes_on_after_a_bad_scan_and_ends_with_5(models, scans, tmp_path, capsys):
    (scans / "b.nii.gz").write_text("not a scan")
    out = tmp_path / "out"
    assert predict(models / "seg", "-i", scans, scans / "missing.nii.gz", "-o", out) == 5
    report = json.loads((out / "report.json").read_text())
    assert report["failed"] == ["b", "missing"]
    assert {case["case"]: case.get("exit_code") for case in report["cases"]} == {
        "a": None,
        "b": 3,
        "c": None,
        "missing": 3,
    }
    assert {"a.nii.gz", "c.nii.gz"} <= files(out)
    assert not {name for name in files(out) if "part" in name or name.startswith(("b.", "missing"))}
    assert capsys.readouterr().err.count("medtransfer: error: ") == 2


def test_predict_of_one_bad_scan_ends_with_its_own_code_and_writes_nothing(models, scans, tmp_path, capsys):
    (scans / "b.nii.gz").write_text("not a scan")
    assert predict(models / "seg", "-i", scans / "b.nii.gz", "-o", tmp_path / "out") == 3
    assert not (tmp_path / "out").exists()
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "b.nii.gz" in err


def test_a03_predict_leaves_older_masks_without_overwrite(models, scans, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.nii.gz").write_bytes(b"older")
    assert predict(models / "seg", "-i", scans, "-o", out) == 2
    assert files(out) == {"a.nii.gz"}
    assert (out / "a.nii.gz").read_bytes() == b"older"
    assert predict(models / "seg", "-i", scans, "-o", out, "--overwrite") == 0
    assert nib.load(out / "a.nii.gz").shape == (9, 10, 11)


def test_a04_predict_never_writes_over_scans_or_models(models, scans):
    before = {path: path.read_bytes() for path in scans.iterdir()}
    for out in (scans, models / "seg" / "out", models):
        assert predict(models / "seg", "-i", scans, "-o", out, "--overwrite") == 2
    assert predict(models / "seg", "-i", scans / "a.nii.gz", "-o", scans, "--overwrite") == 2
    assert {path: path.read_bytes() for path in scans.iterdir()} == before
    assert files(models / "seg") == {"model.safetensors", "model.json", "README.md"}


def test_a05_predict_refuses_a_file_as_output(models, scans, tmp_path):
    (tmp_path / "file").touch()
    assert predict(models / "seg", "-i", scans, "-o", tmp_path / "file") == 2
    assert predict(models / "seg", "-i", scans, "-o", tmp_path / "mask.nii.gz") == 2


@pytest.mark.parametrize(
    "options, code",
    [
        (["--device", "cuda:9"], 6),
        (["--device", "gpu"], 2),
        (["--tile", "0"], 2),
        (["--tile", "8,8"], 2),
        (["--overlap", "1.0"], 2),
        (["--overlap", "nan"], 2),
        (["--memory", "-1"], 2),
        (["--precision", "int3"], 2),
    ],
)
def test_a08_a09_predict_options_out_of_range_are_refused(models, scans, tmp_path, options, code, capsys):
    assert predict(models / "seg", "-i", scans, "-o", tmp_path / "out", *options) == code
    assert not (tmp_path / "out").exists()
    assert capsys.readouterr().out == ""


def test_a13_predict_json_is_one_document(models, scans, tmp_path, capsys):
    assert predict(models / "cls", "-i", scans / "a.nii.gz", "-o", tmp_path / "out", "--json") == 0
    case = json.loads(capsys.readouterr().out)["cases"][0]
    assert sum(case["probabilities"].values()) == pytest.approx(1)
    assert files(tmp_path / "out") == {"a.json", "labels.json", "predictions.csv", "report.json"}


def test_transfer_makes_a_model_folder_that_predicts(models, scans, tmp_path, capsys):
    target = tmp_path / "target"
    arguments = ["--to", "resunet10", "--num-classes", "3", "--in-channels", "2", "-o", str(target)]
    assert run(["transfer", str(models / "cls"), *arguments]) == 0
    out = capsys.readouterr().out
    assert "100.0% of the encoder's parameters" in out
    card = mt.load(target).card
    assert card.spacing == [1.0, 1.0, 2.0]
    assert card.parent["coverage"] == 1.0
    assert len(card.input_channels) == 2
    source, moved = mt.load(models / "cls").state_dict(), mt.load(target).state_dict()
    assert torch.equal(source["layer1.0.conv1.weight"], moved["encoder_1.1.0.conv1.weight"])
    two = [scans / "a.nii.gz", scans / "b.nii.gz"]
    for channel, file in enumerate(two):
        file.rename(scans / f"case_000{channel}.nii.gz")
    (scans / "c.nii.gz").unlink()
    assert predict(target, "-i", scans, "-o", tmp_path / "out") == 0
    assert "case.nii.gz" in files(tmp_path / "out")


def test_transfer_from_a_plain_file_takes_the_widths_that_its_tensors_show(models, tmp_path, capsys):
    arguments = ["transfer", str(models / "cls.pth"), "--to", "resunet10", "-o", str(tmp_path / "t")]
    assert run([*arguments, "--arguments", "base_channels=8"]) == 4
    assert "base_channels" in capsys.readouterr().err
    assert not (tmp_path / "t").exists()
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["coverage"] == 1.0


@pytest.mark.parametrize(
    "options, code, words",
    [
        (["--to", "resnt10"], 2, "resnet10"),
        (["--to", "resunet18"], 4, "looks like resnet10"),
        (["--to", "resunet10", "--head", "drp"], 2, "head must be one of"),
        (["--to", "resunet10", "--min-coverage", "2"], 2, "from 0 to 1"),
        (["--to", "resunet10", "--arguments", "base_chanels=4"], 2, "base_channels"),
        ([], 2, "required: --to"),
    ],
)
def test_a_transfer_that_cannot_be_leaves_nothing(models, tmp_path, options, code, words, capsys):
    assert run(["transfer", str(models / "cls"), "-o", str(tmp_path / "t"), *options]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert not (tmp_path / "t").exists()


def test_a04_transfer_never_replaces_its_source_or_a_foreign_folder(models, tmp_path):
    (tmp_path / "thesis.tex").touch()
    before = files(models)
    for output in (models, models / "cls", tmp_path):
        assert run(["transfer", str(models / "cls"), "--to", "resunet10", "-o", str(output), "--overwrite"]) == 2
    assert files(tmp_path) == {"thesis.tex"}
    assert files(models) == before


def test_inspect_tells_text_and_json(models, capsys):
    assert run(["inspect", str(models / "cls.pth")]) == 0
    assert "resnet10" in capsys.readouterr().out
    assert run(["inspect", str(models / "seg"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["card"]["classes"] == ["background", "a", "b"]


def test_inspect_refuses_a_text_file(tmp_path, capsys):
    (tmp_path / "a.pth").write_text("hello")
    assert run(["inspect", str(tmp_path / "a.pth")]) == 4
    assert capsys.readouterr().err.startswith(f"medtransfer: error: {tmp_path / 'a.pth'}: ")


def test_train_hands_everything_on(monkeypatch, tmp_path, capsys):
    from medtransfer.training import run as training

    seen = {}

    def train(config, **arguments):
        seen.update(arguments, config=config)
        (tmp_path / "best").mkdir()
        return tmp_path

    monkeypatch.setattr(training, "run", train)
    options = ["--work-dir", "w", "--resume", "--amp", "--cfg-options", "a.b=1", "c=x", "--launcher", "pytorch"]
    assert run(["train", "some.py", *options]) == 0
    assert seen == {
        "config": "some.py",
        "work_dir": "w",
        "resume": "auto",
        "amp": True,
        "cfg_options": ["a.b=1", "c=x"],
        "launcher": "pytorch",
    }
    assert f"best model: {tmp_path / 'best'}" in capsys.readouterr().out


def test_train_with_a_config_that_is_not_there_says_near_names(capsys):
    assert run(["train", "resunet18_hipocampus"]) == 2
    assert "resunet18_hippocampus" in capsys.readouterr().err
