"""Learning without labels end to end, and what comes of it: a source of weights like any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import medtransfer as mt
from medtransfer.checkpoint.card import read_card
from medtransfer.errors import CheckpointError, ConfigError
from medtransfer.training.metrics import RestorationScores
from medtransfer.training.run import run
from medtransfer.training.tasks import Restorer

from .conftest import TINY_NETWORK


@pytest.fixture(scope="module")
def restored(decathlon: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run of the shipped config."""
    changes: dict[str, Any] = {
        **TINY_NETWORK,
        "data_root": str(decathlon),
        "split": {"val": 2, "seed": 0},
        "patch_size": [16, 16, 8],
        "train_dataloader.batch_size": 2,
        "train_dataloader.sampler.samples_per_epoch": 4,
        "train_cfg": {"by_epoch": True, "max_epochs": 2, "val_interval": 1},
        "log_level": "WARNING",
    }
    return run("resunet18_restoration", tmp_path_factory.mktemp("restoration") / "run", cfg_options=changes)


def test_a_run_without_labels_leaves_a_model_folder_that_says_what_it_is(restored: Path) -> None:
    card = read_card(restored / "best")
    assert (card.task, card.classes, card.input_channels) == ("restoration", ["MRI"], ["MRI"])
    report = json.loads((restored / "report.json").read_text())
    assert [row["step"] for row in report["validations"]] == [2, 4]
    assert all(np.isfinite(row["restoration/r2"]) for row in report["validations"])


def test_its_encoder_and_decoder_move_into_a_segmenter(restored: Path, train: Callable[..., Path]) -> None:
    folder = train("tuned", transfer={"source": str(restored / "best")})
    report = json.loads((folder / "transfer.json").read_text())
    assert report["coverage"] == 1.0
    assert {entry["key"] for entry in report["dropped"]} == {"final_layer.1.weight", "final_layer.1.bias"}
    assert report["missing"] == []
    assert any(entry["key"].startswith("decoder_") for entry in report["loaded"])


def test_it_is_refused_for_prediction(restored: Path) -> None:
    with pytest.raises(CheckpointError, match="restore scans"):
        mt.Predictor(restored / "best")


def test_its_card_survives_a_second_save(restored: Path, tmp_path: Path) -> None:
    model = mt.load(restored / "best")
    assert mt.save(model, tmp_path / "again", model.card).task == "restoration"


def test_a_network_without_decoder_is_refused() -> None:
    with pytest.raises(ConfigError, match="Restorer trains a network for segmentation"):
        Restorer(mt.create_model("resnet10", base_channels=4, stem_channels=4))


def test_the_loss_is_against_the_undamaged_patch() -> None:
    class Same(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
            return [image, image + 2]

    task, image = Restorer(Same()), torch.zeros(1, 1, 4, 4, 4)
    # SmoothL1 of 1 is 0.5 and of 3 is 2.5; deep supervision weighs them 2 to 1
    loss = task(image, image - 1, ["a"], mode="loss")["loss"]
    assert loss.item() == pytest.approx((2 * 0.5 + 1 * 2.5) / 3)


def test_restored_variance_by_hand() -> None:
    metric = RestorationScores()
    wanted = torch.tensor([[0.0, 2.0]])
    metric.process(None, [{"restored": wanted, "reference": wanted}, {"restored": wanted * 0 + 1, "reference": wanted}])
    assert metric.compute_metrics(metric.results)["r2"] == pytest.approx(0.5)
    assert np.isnan(metric.compute_metrics([(0.0, 0.0)])["r2"])
