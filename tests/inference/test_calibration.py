"""The card's temperature in predictions: softer or harder probabilities, the same class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import medtransfer as mt
from medtransfer.checkpoint.card import read_card
from medtransfer.errors import CheckpointError, UsageError

SMALL: dict[str, Any] = {"base_channels": 4, "stem_channels": 4}


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return mt.create_model("resnet10", num_classes=3, **SMALL)


def test_logits_are_divided_by_it_and_the_class_stays(network: Any, scan: Any, tmp_path: Path) -> None:
    path = scan()
    plain = mt.Predictor(network).predict(path)
    mt.save(network, tmp_path / "model", {"temperature": 0.25})
    sharp = mt.Predictor(tmp_path / "model").predict(path)
    torch.testing.assert_close(sharp.logits, plain.logits / 0.25)
    expected = (plain.logits.double() / 0.25).softmax(0).tolist()
    assert list(sharp.probabilities.values()) == pytest.approx(expected)
    assert sharp.to_dict()["class"] == plain.to_dict()["class"]
    assert max(sharp.probabilities.values()) > max(plain.probabilities.values())


def test_it_is_kept_by_a_model_folder_and_told_in_its_readme(network: Any, tmp_path: Path) -> None:
    mt.save(network, tmp_path / "model", {"temperature": 1.75})
    assert read_card(tmp_path / "model").temperature == 1.75
    assert mt.load(tmp_path / "model").card.temperature == 1.75
    assert "divided by 1.75" in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize("value", [0, -1.0, 1e9, "warm", [1.0], True])
def test_what_is_no_temperature_is_refused(network: Any, tmp_path: Path, value: Any) -> None:
    with pytest.raises(UsageError, match="temperature"):
        mt.save(network, tmp_path / "wrong", {"temperature": value})
    mt.save(network, tmp_path / "model")
    tree = json.loads((tmp_path / "model" / "model.json").read_text())
    (tmp_path / "model" / "model.json").write_text(json.dumps({**tree, "temperature": value}))
    with pytest.raises(CheckpointError, match="temperature"):
        read_card(tmp_path / "model")


def test_a_segmenter_has_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`temperature` belongs to a classification, not to a segmentation"):
        mt.save(mt.create_model("resunet10", **SMALL), tmp_path / "model", {"temperature": 2.0})
