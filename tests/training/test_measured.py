"""Preprocessing that a run measures: the same for all of its parts, written down, and kept when it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mmengine.config import Config

from medtransfer.checkpoint.card import read_card
from medtransfer.data.dataset import DecathlonDataset
from medtransfer.data.preprocessing import Preprocessing
from medtransfer.errors import ConfigError
from medtransfer.intensity import IntensityRange
from medtransfer.training.loaders import build_loaders
from medtransfer.training.measured import NAME, recall_numbers, record_numbers
from medtransfer.training.preview import preview
from medtransfer.training.run import run

Train = Callable[..., Path]
OPEN = {"orientation": "LPS", "spacing": "median", "intensity": {"scheme": "ct"}}
NUMBERS = {
    "orientation": "LPS",
    "spacing": [1.0, 1.0, 2.0],
    "intensity": {"scheme": "ct", "nonzero": False, "low": -1.0, "high": 5.0, "mean": 2.5, "std": 1.5},
}


@pytest.fixture
def cfg(decathlon: Path) -> Config:
    """Loaders whose two datasets leave everything to be measured."""
    shared = {"type": "Decathlon", "data_root": str(decathlon), "split": {"train": 4, "val": 2, "seed": 0}}
    loaders = {
        f"{part}_dataloader": {
            "batch_size": 1,
            "sampler": {"type": "DefaultSampler", "shuffle": False},
            "dataset": {**shared, "part": part, "preprocessing": OPEN},
        }
        for part in ("train", "val")
    }
    return Config({**loaders, "preprocessing": OPEN, "randomness": {"seed": 0}})


def test_i32_a_run_measures_once_and_says_so_everywhere(train: Train, decathlon: Path) -> None:
    folder = train(preprocessing=OPEN, train_cfg__max_epochs=1)
    card, report = read_card(folder / "best"), json.loads((folder / "report.json").read_text())
    numbers = json.loads((folder / NAME).read_text())
    data = DecathlonDataset(decathlon, split={"train": 4, "val": 2, "seed": 0}, preprocessing=OPEN)
    assert msgspec.convert(numbers, Preprocessing) == data.preprocessing
    assert (card.orientation, card.spacing) == ("LPS", [1.0, 1.0, 2.0])
    assert card.intensity == data.preprocessing.intensity
    assert card.intensity_ranges == list(data.intensity_ranges)
    assert report["preprocessing"] == numbers
    assert msgspec.convert(report["intensity_ranges"], list[IntensityRange]) == card.intensity_ranges
    dumped = Config.fromfile(next(folder.glob("*.py")))
    for part in (dumped, dumped.train_dataloader.dataset, dumped.val_dataloader.dataset):
        assert part.preprocessing.to_dict() == numbers

    # a run that goes on has the numbers that it began with, whatever would be measured now
    numbers["intensity"]["mean"] += 0.25
    (folder / NAME).write_text(json.dumps(numbers))
    train(resume="auto", preprocessing=OPEN)
    again = read_card(folder / "best")
    assert json.loads((folder / "report.json").read_text())["preprocessing"] == numbers
    assert json.loads((folder / NAME).read_text()) == numbers
    assert again.intensity_ranges == card.intensity_ranges


def test_validation_has_the_numbers_of_training_whatever_its_own_cases_are(cfg: Config, tmp_path: Path) -> None:
    # its own training side would be two other cases
    cfg.val_dataloader.dataset.split = {"train": ["case_4", "case_5"], "val": ["case_0"]}
    cfg.train_dataloader.dataset.split = {"train": ["case_1", "case_2"], "val": []}
    train, val = (loader.dataset for loader in build_loaders(cfg).values())
    assert train.preprocessing == val.preprocessing
    assert cfg.val_dataloader.dataset.preprocessing == OPEN
    cfg.work_dir = str(tmp_path)
    record_numbers(cfg, train)
    assert msgspec.convert(cfg.preprocessing.to_dict(), Preprocessing) == train.preprocessing


def test_what_a_part_states_in_numbers_is_left_alone(cfg: Config) -> None:
    cfg.val_dataloader.dataset.preprocessing = NUMBERS
    train, val = (loader.dataset for loader in build_loaders(cfg).values())
    assert val.preprocessing == msgspec.convert(NUMBERS, Preprocessing)
    assert train.preprocessing != val.preprocessing


@pytest.mark.parametrize(
    ("content", "known"), [(NUMBERS, True), ("text", False), ({"spacing": "median"}, False), (None, False)]
)
def test_numbers_of_a_resumed_run_are_read_where_they_can_be(
    cfg: Config, content: Any, known: bool, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / NAME).write_text(json.dumps(content))
    recall_numbers(cfg, tmp_path / "epoch_1.pth")
    for part in (cfg, cfg.train_dataloader.dataset, cfg.val_dataloader.dataset):
        assert part.preprocessing.to_dict() == (NUMBERS if known else OPEN)


def test_a_preview_measures_nothing(options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medtransfer.data.fingerprint.read_volume", None)
    monkeypatch.setattr("medtransfer.data.fingerprint.read_grid", None)
    assert preview("resunet18_hippocampus", {**options, "preprocessing": OPEN}).channels == ("MRI",)


def test_a_plan_that_cannot_be_is_refused_before_anything_is_written(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"preprocessing: .*spacing"):
        run("resunet18_hippocampus", tmp_path / "run", cfg_options={**options, "preprocessing.spacing": "mean"})
    assert not (tmp_path / "run").exists()
