"""``medtransfer info --trainable``: what a training would train, told without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medtransfer.cli import main
from medtransfer.training.preview import preview

TINY = {"type": "resunet10", "base_channels": 4, "stem_channels": 4}
#: shipped config -> the steps from which the stages of its encoder train, from the input on
STARTS: dict[str, list[int | None]] = {
    "resunet18_hippocampus_transfer": [1] * 5,
    "resunet18_hippocampus_frozen": [None] * 5,
    "resunet18_hippocampus_lp_ft": [151] * 5,
    "resunet18_hippocampus_gradual": [251, 201, 151, 101, 51],
    "resunet18_hippocampus_lora": [None, None, None, 1, 1],
}


@pytest.fixture
def decathlon(tmp_path: Path) -> Path:
    """Six cases of three classes and two channels, whose files are empty: nobody may read them."""
    entries = [{"image": f"imagesTr/{n}.nii.gz", "label": f"labelsTr/{n}.nii.gz"} for n in range(6)]
    for entry in entries:
        for name in entry.values():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
    labels = {"0": "background", "1": "anterior", "2": "posterior"}
    listing = {"modality": {"0": "T1", "1": "T2"}, "labels": labels, "training": entries}
    (tmp_path / "dataset.json").write_text(json.dumps(listing))
    return tmp_path


def options(**changes: Any) -> list[str]:
    return [f"{key.replace('__', '.')}={value}" for key, value in {"model__network": TINY, **changes}.items()]


def show(capsys: pytest.CaptureFixture[str], config: str, *arguments: str, code: int = 0) -> str:
    assert main.run(["info", "--trainable", config, *arguments]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


@pytest.mark.parametrize("name", STARTS)
def test_every_fine_tuning_config_is_shown_without_data_or_weights(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    document = json.loads(show(capsys, name, "--cfg-options", *options(), "--json"))
    assert document["network"] == "resunet10"
    assert document["steps"] == 500
    assert document["notes"][:2] == [
        "data_root data/Task04_Hippocampus is not there: 1 channel (assumed), 2 classes (assumed)",
        "transfer.source weights/pretrained is not there; what trains does not depend on it",
    ]
    encoder = [part for part in document["parts"] if part["name"].startswith("encoder")]
    assert [part["from_step"] for part in encoder] == STARTS[name]
    assert {part["from_step"] for part in document["parts"] if part not in encoder} == {1}
    assert not list(tmp_path.iterdir())  # nothing is written


def test_channels_and_classes_are_the_datasets(decathlon: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = options(data_root=decathlon, finetune={"policy": "frozen"}, train_dataloader__batch_size=3)
    out = show(capsys, "resunet18_hippocampus", "--cfg-options", "split={'val': 2}", *given)
    first, *rows = out.splitlines()
    assert first == "resunet18_hippocampus: resunet10, 2 channels, 3 classes, policy frozen, 670 steps"
    assert rows[0].split()[:2] == ["part", "parameters"]
    assert rows[1].split()[-5:] == ["0", "1", "held", "-", "-"]
    assert rows[-1] == "note: learning rates are the highest of the schedule"


def test_a_classifier_of_a_table(tmp_path: Path) -> None:
    rows = [f"{n}.nii.gz,{'above' if n % 2 else 'below'}" for n in range(10)]
    (tmp_path / "table.csv").write_text("\n".join(["image,label", *rows]))
    for number in range(10):
        (tmp_path / f"{number}.nii.gz").touch()
    changes = {"data_root": str(tmp_path / "table.csv"), "model.network": {**TINY, "type": "resnet10"}}
    sampler = {"train_dataloader.sampler.samples_per_epoch": None}  # an epoch is 8 cases, in batches of 4
    shown = preview("resnet18_table", {**changes, **sampler, "finetune": {"policy": "head"}})
    assert shown.classes == ("above", "below")
    assert [row.name for row in shown.table if row.trainable] == ["head", "total"]
    assert shown.steps == 2 * 10


def test_what_the_config_states_is_not_assumed() -> None:
    network = {"type": "resunet10", "base_channels": 4, "stem_channels": 4, "in_channels": 2, "num_classes": 5}
    shown = preview("resunet18_hippocampus", {"data_root": "nowhere", "model.network": network})
    assert shown.notes[0] == "data_root nowhere is not there: 2 channels (from the config), 5 classes (from the config)"
    assert shown.finetune is None
    assert shown.table[-1].trainable == shown.table[-1].parameters


def test_without_data_an_epoch_is_of_unknown_length() -> None:
    changes = {"data_root": "nowhere", "train_dataloader.sampler.samples_per_epoch": None, "model.network": TINY}
    assert "an epoch is taken for 100 steps" in str(preview("resunet18_hippocampus", changes))


def test_a_path_of_another_machine_is_a_note() -> None:
    changes = {"data_root": "/of/another/machine", "transfer.source": "/of/another/file.pth", "model.network": TINY}
    notes = preview("resunet18_hippocampus_lora", changes).notes
    assert "data_root /of/another/machine is not there" in notes[0]
    assert "transfer.source /of/another/file.pth is not there" in notes[1]


def test_parts_that_are_left_out_and_parts_that_are_held() -> None:
    tuning = {"freeze": ["encoder", "BatchNorm3d"], "freeze_except": ["layer4"], "l2sp": 0.1, "l2sp_parts": "decoder"}
    shown = preview("resunet18_hippocampus", {"finetune": tuning, "data_root": "nowhere", "model.network": TINY})
    rows = {row.name: row for row in shown.table}
    assert rows["encoder_3"].trainable == 0 < rows["encoder_4"].trainable == rows["encoder_4"].parameters
    assert rows["decoder_3"].norms_moving == 0 < rows["decoder_3"].trainable < rows["decoder_3"].parameters
    assert rows["encoder_4"].weight_decays == (0.01, 0.0)
    assert rows["decoder_3"].weight_decays == (0.0,)
    assert "decoder: drawn to the source weights (l2sp=0.1) in place of weight decay" in shown.notes


def test_what_acts_beside_the_table_is_noted() -> None:
    changes = {"finetune": {"l2sp": 0.1, "ema": 0.9}, "data_root": "nowhere", "model.network": TINY}
    shown = preview("resunet18_hippocampus", {**changes, "auto_scale_lr": {"enable": True, "base_batch_size": 4}})
    for words in ("l2sp=0.1", "ema=0.9", "auto_scale_lr changes"):
        assert words in str(shown)
    assert {row.weight_decays for row in shown.table if row.name.startswith("encoder")} == {(0.0,)}


@pytest.mark.parametrize(
    "arguments, words, code",
    [
        (["--trainable", "resunet18_hippocampos"], "Did you mean resunet18_hippocampus", 2),
        (["--trainable", "resunet18_hippocampus", "--cfg-options", "finetune={'policy': 'lpft'}"], "policy", 2),
        (["--trainable", "resunet18_hippocampus", "folder"], "two questions", 2),
        (["--cfg-options", "a=1"], "belongs to --trainable", 2),
    ],
)
def test_what_cannot_be_meant_is_refused(
    arguments: list[str], words: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["info", *arguments]) == code
    assert words in capsys.readouterr().err


def test_data_that_are_there_and_broken_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = options(data_root=tmp_path)
    assert "dataset.json" in show(capsys, "resunet18_hippocampus", "--cfg-options", *given, code=3)
