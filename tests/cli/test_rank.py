"""``medtransfer rank``: one document, one line of error, the right exit code."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import medtransfer as mt
from medtransfer.cli import main
from medtransfer.ranking import rank
from tests.conftest import TINY


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of four scans, and a source."""
    monkeypatch.setitem(main.COMMANDS, "rank", "rank sources")
    monkeypatch.setattr(rank, "HALVES", 10)
    monkeypatch.setattr(rank, "UNTRAINED", 1)
    rows, rng = ["image,label"], np.random.default_rng(0)
    for number in range(4):
        image = rng.normal(size=(8, 8, 8)).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / f"{number}.nii")
        rows.append(f"{number}.nii,{'ab'[number % 2]}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    torch.manual_seed(0)
    mt.save(mt.create_model("resnet10", 1, 2, **TINY), tmp_path / "net")
    return tmp_path


def test_a_table_of_words_and_one_document(place, capsys):
    command = ["rank", str(place / "table.csv"), "--sources", f"mine={place / 'net'}", "--device", "cpu"]
    assert main.run(command) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[2].split("|")[0].strip() == "source"
    assert "Caution: 4 patients only" in out
    assert "mine: features of 4 cases in resnet10" in err
    assert main.run([*command, "--json", "--cases", "3", "--seed", "1"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["cases"], document["seed"], document["sources"][0]["name"]) == (3, 1, "mine")


@pytest.mark.parametrize(
    "arguments, code, said",
    [
        (["table.csv", "--sources", "net", "--cases", "1"], 2, "--cases"),
        (["table.csv"], 2, "--sources"),
        (["table.csv", "--sources", "net", "--device", "abacus"], 2, "device must be"),
        (["table.csv", "--sources", "net", "--input-channels", "guess"], 2, "input_channels must be one of"),
        (["none.csv", "--sources", "net"], 3, "no such file"),
        (["table.csv", "--sources", "none.pth"], 4, "none.pth"),
        (["table.csv", "--sources", "net", "--dialect", "genesis"], 4, "these are not the keys"),
    ],
)
def test_refusals(place, monkeypatch, capsys, arguments, code, said):
    monkeypatch.chdir(place)
    assert main.run(["rank", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err.splitlines()[-1]
