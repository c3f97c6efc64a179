"""``medtransfer info``: at once, and true."""

from __future__ import annotations

import json
import os

import pytest

from medtransfer.checkpoint.card import Architecture, ModelCard, format_card
from medtransfer.cli import info, main

HEAVY = ("torch", "monai", "mmengine", "mmcv", "matplotlib", "nibabel", "nilearn", "numpy")


@pytest.fixture
def folder(tmp_path):
    card = ModelCard(
        task="segmentation",
        architecture=Architecture("resunet10", {"base_channels": 4}),
        input_channels=["T1"],
        classes=["background", "CSF"],
        spacing=[1.0, 1.0, 2.0],
    )
    (tmp_path / "model.json").write_bytes(format_card(card))
    return tmp_path


@pytest.mark.parametrize("arguments", [["info"], ["info", "--json"], ["--version"], ["--help"]])
def test_a02_no_heavy_package_is_imported(python, arguments):
    code = f"import sys; from medtransfer.cli.main import run; code = run({arguments}); "
    done = python("-c", f"{code}print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)")
    assert done.stderr.strip() == "[]"


def test_a02_info_takes_under_300_ms_of_work(python):
    """Processor time of the best of several starts, since other work may run on the machine."""
    works = []
    for _ in range(4):
        before = os.times()
        assert python("-m", "medtransfer", "info").returncode == 0
        after = os.times()
        works.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(works) < 0.3


def test_versions_devices_and_models_are_listed(capsys):
    assert main.run(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["packages"]["torch"]
    assert facts["devices"][0]["name"] == "cpu"
    assert {"resnet18", "resunet50"} <= set(facts["models"])


def test_what_info_says_of_torch_is_what_torch_says():
    import torch

    assert info._torch_cuda() == torch.version.cuda
    assert info._version("torch") == torch.__version__


def test_a_missing_package_is_a_dash(monkeypatch, capsys):
    monkeypatch.setattr(info, "_PACKAGES", ("no-such-package",))
    assert main.run(["info"]) == 0
    assert "no-such-package  -" in capsys.readouterr().out


def test_a_card_is_shown_as_text_and_as_json(folder, capsys):
    assert main.run(["info", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "background, CSF" in out
    assert main.run(["info", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["spacing"] == [1.0, 1.0, 2.0]


def test_a_folder_that_is_no_model_is_refused(tmp_path, capsys):
    assert main.run(["info", str(tmp_path)]) == 4
    assert "model.json is missing" in capsys.readouterr().err
