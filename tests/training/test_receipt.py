"""A run that goes on still says where its weights came from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

import medtransfer as mt
from medtransfer.adapter.report import TransferReport
from medtransfer.checkpoint.card import read_card
from medtransfer.training.receipt import NAME, transferred, write_receipt

from .interruptions import Train

TINY = {"base_channels": 4, "stem_channels": 4}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    torch.manual_seed(7)
    mt.save(mt.create_model("resnet10", num_classes=5, **TINY), tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture
def begun(train: Train, source: Path) -> Path:
    """One epoch of a run with transferred weights, as a kill would leave it."""
    folder = train(transfer={"source": str(source)}, train_cfg__max_epochs=1)
    (folder / "report.json").unlink()
    shutil.rmtree(folder / "best")
    return folder


def facts(folder: Path) -> tuple[Any, Any]:
    """The entry of report.json and the parent on the card."""
    return json.loads((folder / "report.json").read_text())["transfer"], read_card(folder / "best").parent


@pytest.mark.parametrize("name", ["run", "another"])
def test_a_resumed_run_keeps_the_receipt_of_its_transfer(train: Train, source: Path, begun: Path, name: str) -> None:
    shutil.rmtree(source)  # what it began with is not asked again
    resume = "auto" if name == "run" else begun / "epoch_1.pth"
    folder = train(name, resume=resume, transfer={"source": str(source)}, train_cfg__max_epochs=2)
    entry, parent = facts(folder)
    assert entry == json.loads((folder / NAME).read_text()) == json.loads((begun / NAME).read_text())
    assert entry["coverage"] == 1.0
    assert parent == {"format": entry["source_format"], "coverage": 1.0}


def test_a_receipt_counts_whatever_the_config_says_now(train: Train, begun: Path) -> None:
    entry, parent = facts(train(resume="auto", train_cfg__max_epochs=2))
    assert entry is not None
    assert parent is not None


def test_a_missing_receipt_is_told_in_the_log(train: Train, source: Path, begun: Path) -> None:
    (begun / NAME).unlink()
    folder = train(resume="auto", transfer={"source": str(source)}, train_cfg__max_epochs=2)
    assert facts(folder) == (None, None)
    logs = "".join(path.read_text() for path in folder.glob("*/*.log"))
    assert f"{NAME}: is missing: report.json and the card of best/ will not say" in logs


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda text: text[: len(text) // 2], "cannot be read"),
        (lambda text: text.replace('"coverage":', '"covers":').replace('"loaded":', '"loaded": 3, "was":'), "cannot"),
        (lambda text: text.replace("encoder_1", "encoder_9"), "is of another network"),
        (lambda text: text.replace("encoder_0.0.weight", "encoder_0.9.weight"), "is of another network"),
    ],
)
def test_a_receipt_that_is_damaged_or_of_another_network_is_not_repeated(
    tmp_path: Path, source: Path, spoil: Any, said: str
) -> None:
    network = mt.create_model("resunet10", num_classes=2, **TINY)
    checkpoint = tmp_path / "epoch_1.pth"
    write_receipt(tmp_path, mt.transfer(source, network), "", _Silent())
    found, fault = transferred(Config(), network, None, checkpoint)
    assert isinstance(found, TransferReport)
    assert (found.coverage, fault) == (1.0, "")
    (tmp_path / NAME).write_text(spoil((tmp_path / NAME).read_text()))
    found, fault = transferred(Config(), network, None, checkpoint)
    assert found is None
    assert said in fault


class _Silent:
    def info(self, text: str) -> None:
        """Nothing."""
