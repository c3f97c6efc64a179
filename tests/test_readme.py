"""The README's own words: its Python runs, prints what it shows, its commands exist and its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

import medtransfer as mt
from medtransfer.cli.main import COMMANDS
from medtransfer.cli.parser import Parser
from medtransfer.training.config import read_config

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
PLAIN = [text for language, text in BLOCKS if not language]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the README's readers have: a classifier's file, a model, a scan and its label."""
    classifier = mt.create_model("resnet18", num_classes=4, deep_stem=True)
    torch.save({"state_dict": classifier.state_dict()}, tmp_path / "classifier.pth")
    card = {"classes": ["background", "organ"]}
    mt.save(mt.create_model("resunet10", base_channels=4, stem_channels=4), tmp_path / "model", card)
    (tmp_path / "labels").mkdir()
    scan = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    nib.save(nib.Nifti1Image(scan, np.eye(4)), tmp_path / "scan.nii.gz")
    nib.save(nib.Nifti1Image((scan > 0).astype(np.uint8), np.eye(4)), tmp_path / "labels" / "scan.nii.gz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_python_runs_and_prints_what_it_shows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moving, config, predicting = PYTHON
    exec(compile(moving, "README.md, moving weights", "exec"), {})
    (shown,) = [text for text in PLAIN if "encoder's parameters" in text]
    printed = {" ".join(line.split()) for line in capsys.readouterr().out.splitlines()}
    rows = [" ".join(line.split()) for line in shown.splitlines() if "─" not in line and "━" not in line]
    assert [row for row in rows if row not in printed] == [row for row in rows if "... and" in row]
    assert len(rows) == 9
    Path("mine.py").write_text(config)
    assert read_config("mine.py").finetune.policy == "lp_ft"
    exec(compile(predicting, "README.md, predicting", "exec"), {})
    assert "Dice" in capsys.readouterr().out
    assert (folder / "masks" / "scan.nii.gz").is_file()


def commands() -> list[str]:
    listed = re.findall(r"^\| `medtransfer ([a-z]+)", TEXT, re.MULTILINE)
    assert {*listed, "pull"} == set(COMMANDS)
    return [line for text in PLAIN for line in text.splitlines() if line.startswith("medtransfer ")]


@pytest.mark.parametrize("line", commands())
def test_its_commands_have_these_options(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    module: Any = import_module(f"medtransfer.cli.{name}")
    parser = Parser(name, name, name)
    module.add_arguments(parser)
    parser.parse(arguments)


def test_its_links_and_make_targets_are_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    assert not [link for link in links if not (ROOT / link).exists()]
    targets = re.findall(r"make (\w+)", TEXT + (ROOT / "CONTRIBUTING.md").read_text())
    made = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(targets) <= set(made)
