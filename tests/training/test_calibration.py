"""The config key ``calibrate``: a temperature on the card, and what it did in the report."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

import medtransfer as mt
from medtransfer.checkpoint.card import read_card
from medtransfer.errors import ConfigError
from medtransfer.training.run import run
from medtransfer.volumes.prepare import prepare
from medtransfer.volumes.read import read_volume

from .conftest import write_scan

Classify = Callable[..., Path]
NETWORK: dict[str, Any] = {"base_channels": 4, "stem_channels": 4, "pool": "none"}


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four scans of two kinds, bright below or above; a fourth of them bears the wrong label."""
    root, rng = tmp_path_factory.mktemp("noisy"), np.random.default_rng(0)
    rows = ["image,label,split"]
    for number in range(24):
        side = number % 2
        image = rng.normal(size=(8, 8, 8)).astype(np.float32)
        image[:, :, 4:] += 2 * side - 1
        write_scan(root / f"scan_{number:02}.nii.gz", image)
        label = side if number % 4 < 3 else 1 - side
        rows.append(f"scan_{number:02}.nii.gz,{('below', 'above')[label]},{'train' if number < 12 else 'val'}")
    (root / "table.csv").write_text("\n".join(rows))
    return root / "table.csv"


@pytest.fixture
def classify(noisy: Path, tmp_path: Path) -> Classify:
    """Run the shipped config for tables, made tiny."""

    def start(**changes: Any) -> Path:
        options = {
            "model.network": {"type": "resnet10", **NETWORK},
            "data_root": str(noisy),
            "patch_size": [8, 8, 8],
            "train_dataloader.sampler.samples_per_epoch": 24,
            "train_cfg.max_epochs": 1,
            "train_cfg.val_interval": 1,
            "optim_wrapper.dtype": "float32",
            "calibrate": True,
            **{key.replace("__", "."): value for key, value in changes.items()},
        }
        return run("resnet18_table", tmp_path / "run", cfg_options=options)

    return start


def validation_nll(folder: Path, table: Path, temperature: float) -> float:
    """By hand, from the files: what the model in ``best`` says of the validation scans."""
    model, card = mt.load(folder / "best"), read_card(folder / "best")
    rows = [row for row in csv.DictReader(table.open()) if row["split"] == "val"]
    losses = []
    for row in rows:
        volume = read_volume(table.parent / row["image"])
        image = torch.from_numpy(prepare(volume, card.orientation, card.spacing, card.intensity).array)[None]
        with torch.no_grad():
            logits = model(image)[0].double().numpy()
        losses.append(-log_softmax(logits / temperature)[card.classes.index(row["label"])])
    return float(np.mean(losses))


def test_the_temperature_is_the_best_for_the_validation_cases(classify: Classify, noisy: Path) -> None:
    folder = classify(train_dataloader__sampler__samples_per_epoch=60, param_scheduler__eta_max=1e-2)
    found = json.loads((folder / "report.json").read_text())["calibration"]
    temperature = read_card(folder / "best").temperature
    assert temperature is not None
    assert found["temperature"] == temperature
    assert found["cases"] == 12
    assert "measure the gain on other cases" in found["note"]
    assert found["nll_before"] == pytest.approx(validation_nll(folder, noisy, 1.0), abs=1e-4)
    assert found["nll_after"] == pytest.approx(validation_nll(folder, noisy, temperature), abs=1e-4)
    nearby = [validation_nll(folder, noisy, temperature * factor) for factor in (0.9, 1.1)]
    assert found["nll_after"] < min(nearby)
    assert f"{temperature:.3g}" in (folder / "best" / "README.md").read_text()


def test_cases_without_a_best_temperature_are_told_and_the_model_stays(
    classify: Classify, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = mt.create_model("resnet10", **NETWORK)
    for parameter in network.head_fc.parameters():
        torch.nn.init.zeros_(parameter)  # says the same of every scan
    mt.save(network, tmp_path / "source", {"classes": ["above", "below"]})
    still = {"optim_wrapper__optimizer__lr": 0.0, "train_dataloader__sampler__samples_per_epoch": 4}
    folder = classify(transfer={"source": str(tmp_path / "source"), "head": "keep"}, param_scheduler=None, **still)
    found = json.loads((folder / "report.json").read_text())["calibration"]
    assert found == {
        "temperature": None,
        "reason": "these cases have no best temperature: the network is no better than chance on them",
    }
    assert "not calibrated: these cases have no best temperature" in capsys.readouterr().err
    assert read_card(folder / "best").temperature is None


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"split": {"val": 8}}, "calibrate needs 10 validation cases or more, .* got 8 validation cases of 2 classes"),
        ({"val_dataloader": None, "val_evaluator": None, "train_cfg": {"max_epochs": 1}}, "got 0 validation cases"),
        ({"calibrate": "yes"}, "calibrate must be True or False, got 'yes'"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_before_training(
    classify: Classify, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        classify(**changes)
    assert not (tmp_path / "run").exists()


def test_a_segmentation_is_refused(train: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="calibrate is for classification, the dataset is for segmentation"):
        train(calibrate=True)
