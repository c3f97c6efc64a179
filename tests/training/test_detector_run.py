"""Detectors from a config to a training folder, on scans of 16 voxels with a bright box."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from torch import Tensor

import medtransfer as mt
from medtransfer.errors import ConfigError, MedTransferError
from medtransfer.training.preview import preview
from medtransfer.training.run import run

from .interruptions import assert_same_end

Train = Callable[..., Path]
ENCODER: dict[str, Any] = {"base_channels": 4, "stem_channels": 4, "zero_init_residual": False}
NETWORK: dict[str, Any] = {
    "type": "faster_rcnn_resnet10",
    **ENCODER,
    "pool": "none",
    "returned_layers": [2, 3],
    "out_channels": 8,
    "anchor_sizes": "data",
    "box_head_size": 16,
    "rpn_pre_nms_top_n_train": 50,
    "rpn_pre_nms_top_n_test": 50,
}
RETINANET = {key: value for key, value in NETWORK.items() if not key.startswith(("rpn", "box"))}
EVERY_STEP = {"checkpoint": {"type": "KeepCheckpoints", "by_epoch": False, "interval": 1, "max_keep_ckpts": -1}}

LONGER = {
    "train_cfg": {"by_epoch": False, "max_iters": 24, "val_interval": 12},
    "optim_wrapper__optimizer__lr": 5e-3,
    "default_hooks": {
        "logger": {"type": "LoggerHook", "interval": 1, "log_metric_by_epoch": False},
        "checkpoint": {"type": "KeepCheckpoints", "by_epoch": False, "interval": 20, "max_keep_ckpts": -1},
    },
}


@pytest.fixture(scope="session")
def start(decathlon: Path) -> Train:
    """Train a tiny detector in a folder."""

    def train(folder: Path, resume: Any = None, name: str = "faster_rcnn_boxes", **changes: Any) -> Path:
        options = {
            "data_root": str(decathlon),
            "split": {"train": 4, "val": 2, "seed": 0},
            "patch_size": None,
            **({} if "model" in changes else {"model.network": NETWORK}),
            "train_dataloader.batch_size": 2,
            "train_dataloader.sampler.samples_per_epoch": 4,
            "train_cfg": {"by_epoch": False, "max_iters": 2, "val_interval": 2},
            "optim_wrapper.dtype": "float32",
            **{key.replace("__", "."): value for key, value in changes.items()},
        }
        return run(name, folder, resume=resume, cfg_options=options)

    return train


@pytest.fixture(scope="session")
def trained(start: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 24 steps."""
    return start(tmp_path_factory.mktemp("detector") / "run", **LONGER)


def rows(folder: Path) -> list[dict[str, float]]:
    """The logged training steps."""
    lines = next(folder.glob("*/vis_data/scalars.json")).read_text().splitlines()
    return [row for line in lines if "loss" in (row := json.loads(line))]


def weights(folder: Path, step: int) -> dict[str, Tensor]:
    return torch.load(folder / f"iter_{step}.pth", weights_only=True)["state_dict"]


def changed(folder: Path, one: int, other: int) -> set[str]:
    first, second = weights(folder, one), weights(folder, other)
    return {key.removeprefix("network.") for key in first if not torch.equal(first[key], second[key])}


def test_losses_go_down_and_each_is_logged_by_its_name(trained: Path) -> None:
    steps = rows(trained)
    names = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
    assert all(row["loss"] == pytest.approx(sum(row[name] for name in names), rel=1e-3) for row in steps)
    assert sum(row["loss"] for row in steps[-5:]) < 0.75 * sum(row["loss"] for row in steps[:5])


def test_the_folder_is_complete(trained: Path) -> None:
    report = json.loads((trained / "report.json").read_text())
    assert report["best"]["metric"] == "boxes/map50"
    assert set(report["validations"][-1]) == {"step", "boxes/map50", "boxes/map", "boxes/map50_box"}
    assert (trained / "progress.png").stat().st_size > 1000
    model = mt.load(trained / "best")
    assert (model.task, model.card.task, model.card.classes) == ("detection", "detection", ["background", "box"])
    assert model.card.input_channels == ["MRI"]
    found = model.eval()([torch.zeros(1, 16, 17, 12)])[0]
    assert found["boxes"].shape[1] == 6


def test_anchors_are_measured_once_and_stand_in_config_and_card(trained: Path) -> None:
    dumped = Config.fromfile(trained / "faster_rcnn_boxes.py").model.network
    card = mt.load(trained / "best").architecture["arguments"]
    # the boxes of the scans are 6 voxels high and long, and 6 to 8 wide
    assert all(5 <= size <= 9 for level in dumped.anchor_sizes for size in level)
    assert [card[key] for key in ("anchor_sizes", "aspect_ratios")] == [dumped.anchor_sizes, dumped.aspect_ratios]
    assert len(dumped.anchor_sizes) == 2


def test_a_resumed_run_is_the_same_bit_for_bit(
    trained: Path, start: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = tmp_path / "run"
    shutil.copytree(trained, cut)
    (cut / "iter_24.pth").unlink()
    monkeypatch.setattr("medtransfer.training.detector.suggest_anchors", None)  # they are not measured again
    start(cut, resume="auto", **LONGER)
    assert_same_end(trained, cut)


POLICIES: dict[str, tuple[dict[str, Any], bool]] = {
    "frozen": ({"policy": "frozen"}, False),
    "lora": ({"policy": "lora", "rank": 2, "pattern": "layer2"}, False),
    "penalty and average": ({"l2sp": 0.01, "ema": 0.9, "layer_decay": 0.5}, True),
}


@pytest.mark.parametrize(
    "name", ["frozen", *(pytest.param(name, marks=pytest.mark.slow) for name in POLICIES if name != "frozen")]
)
def test_an_encoder_is_taken_over_and_fine_tuned(name: str, start: Train, tmp_path: Path) -> None:
    tuning, moves = POLICIES[name]
    source = mt.create_model("resnet10", num_classes=5, pool="none", **ENCODER)
    mt.save(source, tmp_path / "source")
    transfer = {"source": str(tmp_path / "source")}
    folder = start(tmp_path / "run", transfer=transfer, finetune=tuning, default_hooks=EVERY_STEP)
    assert json.loads((folder / "report.json").read_text())["transfer"]["coverage"] == 1
    given, best = source.state_dict(), mt.load(folder / "best").state_dict()
    kept = {key: torch.equal(given[key], best[f"backbone.body.{key}"]) for key in ("conv1.weight", "bn1.running_mean")}
    assert set(kept.values()) == {not moves}
    assert any(key.startswith("roi_heads.box_predictor") for key in changed(folder, 1, 2))


@pytest.mark.slow
def test_the_encoder_trains_after_the_rest_and_from_the_top(start: Train, tmp_path: Path) -> None:
    tuning = {"policy": "lp_ft", "share": 0.5}
    loop = {"by_epoch": False, "max_iters": 4, "val_interval": 4}
    folder = start(tmp_path / "run", finetune=tuning, train_cfg=loop, default_hooks=EVERY_STEP)
    assert not {key for key in changed(folder, 1, 2) if key.startswith("backbone.body")}
    assert {key for key in changed(folder, 1, 2) if key.startswith("rpn.head")}
    assert "backbone.body.conv1.weight" in changed(folder, 2, 4)
    shown = preview(
        "faster_rcnn_boxes", {"model.network": NETWORK, "data_root": "nowhere", "finetune": {"policy": "gradual"}}
    )
    assert [part.name for part in shown.table][:2] == ["stem", "layer1"]


def test_a_retinanet_in_bfloat16(start: Train, tmp_path: Path) -> None:
    network = {**RETINANET, "type": "retinanet_resnet10"}
    weighed = {"classification": 2.0}
    changes = {"model__network": network, "model__loss_weights": weighed, "optim_wrapper__dtype": "bfloat16"}
    folder = start(tmp_path / "run", **changes, default_hooks=EVERY_STEP)
    assert all(value.isfinite().all() for value in weights(folder, 2).values())
    assert mt.load(folder / "best").architecture["name"] == "retinanet_resnet10"


def test_a_nan_loss_names_the_cases(start: Train, tmp_path: Path) -> None:
    with pytest.raises(MedTransferError, match=r"with the cases case_"):
        start(tmp_path / "run", optim_wrapper__optimizer__lr=1e30, optim_wrapper__clip_grad=None, param_scheduler=None)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a segmenter": ({"model__network": {"type": "resunet10", **ENCODER}}, "Detector trains a network for detection"),
    "masks": (
        {"name": "resunet18_hippocampus", "model": {"type": "Detector", "network": NETWORK}},
        r"the model is for detection, the dataset for segmentation\. Set dataset.type='Boxes'",
    ),
    "a loss": ({"model__loss_weights": {"loss_clasifier": 2}}, r"no loss 'loss_clasifier'.*loss_classifier"),
    "classes": (
        {"model__network": {**NETWORK, "num_classes": 5}},
        "num_classes is 5, but the dataset has 2: background, box",
    ),
    "a word": ({"model__network": {**NETWORK, "box_heads_size": 8}}, r"no argument 'box_heads_size'.*box_head_size"),
    "a loss for segmenters": ({"model__loss": {"type": "DiceLoss"}}, r"model has no key 'loss'.*loss_weights"),
    "anchors": ({"model__network": {**NETWORK, "anchor_sizes": [[8]]}}, "anchor_sizes must be a list for the 2 maps"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_meant_is_refused_in_a_line(what: str, start: Train, tmp_path: Path) -> None:
    changes, message = WRONG[what]
    with pytest.raises(ConfigError, match=message) as refused:
        start(tmp_path / "run", **changes)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()
