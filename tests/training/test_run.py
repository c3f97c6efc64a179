"""Training end to end on scans of 16 voxels."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

import medtransfer as mt
from medtransfer.checkpoint.card import read_card
from medtransfer.errors import (
    CheckpointError,
    ConfigError,
    DatasetError,
    MedTransferError,
    OutputExistsError,
    TransferError,
)
from medtransfer.training import registry
from medtransfer.training import run as training
from medtransfer.training.checkpoints import as_history
from medtransfer.training.run import run

Train = Callable[..., Path]
TINY = {"base_channels": 4, "stem_channels": 4}


def weights_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def assert_equal_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    differing = [key for key in first if not torch.equal(first[key], second[key])]
    assert not differing


def test_training_leaves_a_folder_that_predicts(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train(train_cfg__max_epochs=3, card__license="CC-BY-4.0")
    names = {path.name for path in folder.iterdir()}
    assert {"epoch_2.pth", "epoch_3.pth", "last_checkpoint", "best", "report.json", "progress.png"} <= names
    assert "epoch_1.pth" not in names  # two are kept
    assert list(folder.glob("*/vis_data/scalars.json"))
    assert list(folder.glob("*/*.log"))
    assert not list(folder.rglob("*.part*"))
    card = read_card(folder / "best")
    assert (card.input_channels, card.classes, card.patch_size) == (["MRI"], ["background", "box"], [16, 16, 16])
    assert card.metrics.keys() == {"dice/mean", "dice/box"}
    report = json.loads((folder / "report.json").read_text())
    assert report["best"]["score"] == pytest.approx(card.metrics["dice/mean"])
    assert [row["step"] for row in report["validations"]] == [2, 4, 6]
    assert len(report["training_cases"]) == 4 == card.training_cases
    assert (card.license, card.intended_use) == ("CC-BY-4.0", None)
    model = mt.load(folder / "best")
    assert model(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 2, 16, 16, 16)
    captured = capsys.readouterr()
    assert captured.out == ""  # standard output belongs to results
    assert "dice/mean" in captured.err


def test_training_learns(train: Train) -> None:
    more = {"train_cfg__max_epochs": 2, "train_cfg__val_interval": 2, "model__network__base_channels": 8}
    folder = train(train_dataloader__sampler__samples_per_epoch=60, param_scheduler__eta_max=2e-2, **more)
    report = json.loads((folder / "report.json").read_text())
    assert report["best"]["score"] > 0.6


def test_training_goes_by_steps_too(train: Train) -> None:
    loop = {"type": "IterBasedTrainLoop", "max_iters": 3, "val_interval": 3}
    hooks = {"checkpoint": {"type": "KeepCheckpoints", "by_epoch": False, "interval": 1}}
    folder = train(train_cfg=loop, default_hooks=hooks)
    assert (folder / "iter_3.pth").is_file()
    assert json.loads((folder / "report.json").read_text())["steps"] == 3


def test_a_classifier_trains_from_a_table(table: Path, tmp_path: Path) -> None:
    options = {
        "model.network": {"type": "resnet10", **TINY},
        "data_root": str(table),
        "split": {"val": 4},
        "patch_size": [16, 16, 16],
        "train_dataloader.sampler.samples_per_epoch": 40,
        "train_cfg.max_epochs": 2,
        "train_cfg.val_interval": 2,
        "optim_wrapper.dtype": "float32",
    }
    folder = run("resnet18_table", tmp_path / "run", cfg_options=options)
    card = read_card(folder / "best")
    assert card.classes == ["above", "below"]
    assert card.task == "classification"
    assert {"scores/auroc", "scores/accuracy"} <= card.metrics.keys()


class TestTransfer:
    """The config key ``transfer``: weights that are put in stay in."""

    def source(self, folder: Path, **changes: Any) -> Path:
        torch.manual_seed(7)
        network = mt.create_model("resnet10", **{"in_channels": 1, "num_classes": 5, **TINY, **changes})
        mt.save(network, folder)
        return folder

    def test_it_survives_training_at_lr_zero_bit_for_bit(self, train: Train, tmp_path: Path) -> None:
        source = self.source(tmp_path / "source", in_channels=2)
        target = mt.create_model("resunet10", in_channels=1, num_classes=2, **TINY)
        mt.transfer(source, target)
        still = {"optim_wrapper__optimizer__lr": 0.0, "optim_wrapper__optimizer__weight_decay": 0.0}
        folder = train(
            transfer={"source": str(source)}, param_scheduler=None, default_hooks__logger__interval=1, **still
        )
        trained = weights_of(folder / "epoch_2.pth")
        statistics = ("running_mean", "running_var", "num_batches_tracked")
        compared = 0
        for key, value in target.state_dict().items():
            if key.startswith("encoder_") and not key.endswith(statistics):
                assert torch.equal(trained[f"network.{key}"], value), key
                compared += 1
        assert compared > 30
        written = json.loads((folder / "transfer.json").read_text())
        assert written["coverage"] == 1.0
        assert json.loads((folder / "report.json").read_text())["transfer"]["coverage"] == 1.0
        assert read_card(folder / "best").parent is not None

    def test_too_little_overlap_is_refused_and_nothing_is_written(self, train: Train, tmp_path: Path) -> None:
        source = self.source(tmp_path / "source", base_channels=8)
        with pytest.raises(TransferError):
            train(transfer={"source": str(source)})
        assert not (tmp_path / "run").exists()

    def test_a_resumed_run_does_not_transfer_again(self, train: Train, tmp_path: Path) -> None:
        source = self.source(tmp_path / "source")
        folder = train(transfer={"source": str(source)}, train_cfg__max_epochs=1)
        before = weights_of(folder / "epoch_1.pth")
        (source / "model.json").unlink()  # a transfer would fail now
        train(transfer={"source": str(source)}, train_cfg__max_epochs=2, resume="auto")
        assert before.keys() == weights_of(folder / "epoch_2.pth").keys()


class TestResume:
    """A run that goes on is the run that was never broken."""

    def test_it_equals_an_unbroken_run_bit_for_bit(self, train: Train) -> None:
        dropout = {"model__network__dropout_rate": 0.3, "train_cfg__max_epochs": 3}
        whole = train("whole", **dropout)
        broken = train("broken", **dropout)
        (broken / "epoch_3.pth").unlink()
        for name in ("report.json", "progress.png"):
            (broken / name).unlink()
        torch.manual_seed(99)  # the state of this process must not matter
        train("broken", resume="auto", **dropout)
        assert_equal_weights(weights_of(whole / "epoch_3.pth"), weights_of(broken / "epoch_3.pth"))
        histories = [
            torch.load(folder / "epoch_3.pth", weights_only=True)["message_hub"]["log_scalars"]
            for folder in (whole, broken)
        ]
        assert histories[0]["train/loss"] == histories[1]["train/loss"]
        assert len(histories[1]["train/loss"]["values"]) == 6
        reports = [json.loads((folder / "report.json").read_text()) for folder in (whole, broken)]
        assert reports[0]["validations"] == reports[1]["validations"]
        assert reports[1]["resumed_at_step"] == 4

    def test_dropout_does_matter_to_that_test(self, train: Train) -> None:
        first = train("first", model__network__dropout_rate=0.3, train_cfg__max_epochs=1)
        second = train("second", model__network__dropout_rate=0.0, train_cfg__max_epochs=1)
        one, other = weights_of(first / "epoch_1.pth"), weights_of(second / "epoch_1.pth")
        assert any(not torch.equal(one[key], other[key]) for key in one)

    def test_auto_that_finds_nothing_is_an_error(self, train: Train, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="no epoch_"):
            train(resume="auto")
        assert not (tmp_path / "run").exists()

    def test_a_used_work_dir_is_refused_and_left_alone(self, train: Train) -> None:
        folder = train(train_cfg__max_epochs=1)
        before = (folder / "epoch_1.pth").read_bytes()
        with pytest.raises(OutputExistsError, match="--resume auto"):
            train()
        assert (folder / "epoch_1.pth").read_bytes() == before

    def test_c15_a_config_in_the_checkpoint_is_not_executed(self, train: Train, tmp_path: Path) -> None:
        folder, flag = train(train_cfg__max_epochs=1), tmp_path / "flag"
        checkpoint = torch.load(folder / "epoch_1.pth", weights_only=True)
        checkpoint["meta"]["config"] = f"open({str(flag)!r}, 'w')"
        torch.save(checkpoint, folder / "epoch_1.pth")
        train(resume="auto", train_cfg__max_epochs=2)
        assert (folder / "epoch_2.pth").is_file()
        assert not flag.exists()

    def test_checkpoints_hold_plain_data_only(self, train: Train) -> None:
        folder = train()
        for path in folder.glob("*.pth"):
            assert torch.serialization.get_unsafe_globals_in_checkpoint(path) == []

    def test_c16_c17_a_checkpoint_of_mmengine_itself_resumes_as_data(self, train: Train) -> None:
        folder = train(train_cfg__max_epochs=1)
        checkpoint = torch.load(folder / "epoch_1.pth", weights_only=True)
        hub = checkpoint["message_hub"]
        hub["log_scalars"] = {key: as_history(record) for key, record in hub["log_scalars"].items()}
        hub["runtime_info"]["mean"] = np.float64(1.5)
        del checkpoint["random_states"]
        torch.save(checkpoint, folder / "epoch_1.pth")  # histories and numpy numbers, as mmengine 0.10.7 pickles them
        assert torch.serialization.get_unsafe_globals_in_checkpoint(folder / "epoch_1.pth")
        methods = dict(HistoryBuffer._statistics_methods)
        train(resume="auto", train_cfg__max_epochs=2)
        assert len(json.loads((folder / "report.json").read_text())["validations"]) == 2
        assert torch.serialization.get_unsafe_globals_in_checkpoint(folder / "epoch_2.pth") == []
        assert HistoryBuffer._statistics_methods == methods

    def test_c16_a_history_that_brings_a_method_is_refused(self, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = train(train_cfg__max_epochs=1)
        checkpoint = torch.load(folder / "epoch_1.pth", weights_only=True)
        state = {"statistics_methods": {"mean": os.getcwd}, "_log_history": [], "_count_history": []}
        monkeypatch.setattr(HistoryBuffer, "__getstate__", lambda self: state)
        checkpoint["message_hub"]["log_scalars"]["loss"] = HistoryBuffer()
        torch.save(checkpoint, folder / "epoch_1.pth")
        with pytest.raises(CheckpointError, match="getcwd"):
            train(resume=folder / "epoch_1.pth")
        assert HistoryBuffer._statistics_methods["mean"] is HistoryBuffer.mean

    def test_c41_another_network_is_refused_before_the_first_step(self, train: Train) -> None:
        folder = train(train_cfg__max_epochs=1)
        with pytest.raises(CheckpointError, match="another network"):
            train(resume="auto", train_cfg__max_epochs=2, model__network__base_channels=8)
        assert not (folder / "epoch_2.pth").exists()

    def test_c42_a_wrong_pointer_does_not_matter(self, train: Train) -> None:
        folder = train(train_cfg__max_epochs=1)
        (folder / "last_checkpoint").write_text("/another/machine/epoch_9.pth")
        train(resume="auto", train_cfg__max_epochs=2)
        assert (folder / "epoch_2.pth").is_file()

    def test_c43_a_damaged_newest_checkpoint_falls_back_to_the_one_before(self, train: Train) -> None:
        folder = train()
        data = (folder / "epoch_2.pth").read_bytes()
        (folder / "epoch_2.pth").write_bytes(data[: len(data) // 2])
        with pytest.warns(UserWarning, match=r"epoch_2.pth cannot be resumed .* going on from epoch_1.pth"):
            train(resume="auto")
        assert len(weights_of(folder / "epoch_2.pth")) > 30

    @pytest.mark.parametrize("name", ["https://example.org/epoch_1.pth", "torchvision://resnet18"])
    def test_c46_a_url_is_refused(self, train: Train, name: str) -> None:
        with pytest.raises(CheckpointError, match="local files only"):
            train(resume=name)

    def test_weights_alone_are_no_training_checkpoint(self, train: Train, tmp_path: Path) -> None:
        torch.save({"state_dict": {"a": torch.ones(1)}}, tmp_path / "weights.pth")
        with pytest.raises(CheckpointError, match="is no training checkpoint"):
            train(resume=tmp_path / "weights.pth")


def test_a_nan_loss_stops_the_run_and_names_the_cases(train: Train, tmp_path: Path) -> None:
    with pytest.raises(MedTransferError, match=r"the loss is nan at step \d+, with the cases case_"):
        train(optim_wrapper__optimizer__lr=1e30, optim_wrapper__clip_grad=None, param_scheduler=None)
    assert not (tmp_path / "run" / "report.json").exists()


def test_networks_do_not_define_init_weights_and_tasks_keep_theirs() -> None:
    network = mt.create_model("resunet10", **TINY)
    task = registry.MODELS.build({"type": "Segmenter", "network": network})
    before = {key: value.clone() for key, value in task.state_dict().items()}
    task.init_weights()
    assert not hasattr(network, "init_weights")
    assert_equal_weights(before, task.state_dict())


def test_every_name_of_the_zoo_is_a_type() -> None:
    for name in (*mt.list_models(), "ResNet", "UNet", "Segmenter", "Classifier", "DiceCELoss"):
        assert registry.MODELS.get(name) is not None
    unet = {"type": "UNet", "encoder": {"type": "ResNet", "depth": 10, "in_channels": 1, **TINY}, "num_classes": 3}
    assert registry.MODELS.build(unet).num_classes == 3


def test_deep_supervision_weights_halve() -> None:
    class Constant(nn.Module):
        task = "segmentation"

    loss = nn.L1Loss()
    task = registry.MODELS.build({"type": "Segmenter", "network": Constant(), "loss": loss})
    outputs = [torch.full((1, 2), value) for value in (1.0, 2.0, 4.0)]
    expected = (1.0 + 2.0 / 2 + 4.0 / 4) / (1 + 1 / 2 + 1 / 4)
    assert float(task.compute_loss(outputs, torch.zeros(1, 2))) == pytest.approx(expected)


@pytest.mark.parametrize("amp, dtype", [(True, torch.bfloat16), (False, torch.float32), ("bfloat16", torch.bfloat16)])
def test_amp_is_set_from_the_call(train: Train, amp: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    forward = training.precision.MixedPrecision.optim_context
    monkeypatch.setattr(
        training.precision.MixedPrecision,
        "optim_context",
        lambda self, model: seen.append(self.dtype) or forward(self, model),
    )
    folder = train(amp=amp, train_cfg__max_epochs=1)
    assert set(seen) == {dtype}
    assert mt.load(folder / "best").num_classes == 2
    assert all(value.isfinite().all() for value in weights_of(folder / "epoch_1.pth").values())


class TestRefusals:
    """What cannot be trained is refused before anything is written."""

    def test_g14_other_classes_than_the_data_have(self, train: Train, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"num_classes is 5, but the dataset has 2: background, box"):
            train(model__network__num_classes=5)
        assert not (tmp_path / "run").exists()

    def test_a_classifier_is_no_segmenter(self, train: Train) -> None:
        with pytest.raises(ConfigError, match="trains a network for segmentation"):
            train(model__network__type="resnet10")

    def test_g07_a_wrong_argument_of_the_network(self, train: Train) -> None:
        with pytest.raises(ConfigError, match=r"no argument 'base_chanels'.*base_channels"):
            train(model__network__base_chanels=8)

    def test_d06_more_cases_than_there_are(self, train: Train, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="asks for 40 cases, 4 are left"):
            train(split={"train": 40, "val": 2})
        assert not (tmp_path / "run").exists()

    def test_no_validation_case(self, train: Train) -> None:
        with pytest.raises(DatasetError, match="no case for val_dataloader"):
            train(split={"train": 3, "val": 0})


@pytest.mark.slow
def test_two_processes_train_together_on_a_cpu(options: dict[str, Any], tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(
        "from medtransfer.training.run import run\n"
        f"run('resunet18_hippocampus', {str(tmp_path / 'run')!r}, cfg_options={options!r}, launcher='pytorch')\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29511", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, timeout=300)
    score = json.loads((tmp_path / "run" / "report.json").read_text())["best"]["score"]
    assert math.isfinite(score)
