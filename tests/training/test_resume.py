"""Where a run goes on, from which file, and what is refused."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch

from medtransfer.errors import CheckpointError, OutputExistsError
from medtransfer.training.checkpoints import find_resumable

from .interruptions import EVERY_STEP, LONGER, Train, assert_same_end, at_step, send

BY_STEPS = {
    "model__network__dropout_rate": 0.3,
    "train_cfg": {"by_epoch": False, "max_iters": 5, "val_interval": 2},
    "default_hooks": {"checkpoint": {"type": "KeepCheckpoints", "by_epoch": False, "interval": 2}},
}


def stopped(train: Train, monkeypatch: pytest.MonkeyPatch, step: int, **changes: object) -> None:
    with monkeypatch.context() as patch:
        at_step(patch, step, send(signal.SIGTERM))
        with pytest.raises(SystemExit):
            train("broken", **changes)


def test_training_by_steps_goes_on_amid_a_round_of_the_data(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train("whole", **BY_STEPS)
    stopped(train, monkeypatch, 3, **BY_STEPS)
    assert_same_end(whole, train("broken", resume="auto", **BY_STEPS))


def test_a_run_without_a_seed_goes_on_with_the_one_it_drew(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medtransfer.training.loaders.random.randrange", lambda _: 11)
    whole = train("whole", randomness=None, **LONGER)
    stopped(train, monkeypatch, 3, randomness=None, **LONGER)
    monkeypatch.setattr("medtransfer.training.loaders.random.randrange", lambda _: 12)
    assert_same_end(whole, train("broken", resume="auto", randomness=None, **LONGER))


def test_an_epoch_of_another_length_is_told(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped(train, monkeypatch, 3, **LONGER)
    shorter = {**LONGER, "train_dataloader__sampler__samples_per_epoch": 4}
    with pytest.warns(UserWarning, match="2 steps now, 4 when .* the 3 steps of the epoch .* are trained again"):
        train("broken", resume="auto", **shorter)


class TestFiles:
    """Which checkpoint is taken."""

    @pytest.mark.parametrize("pointer", [None, "", "/another/machine/epoch_9.pth", "epoch_7.pth"])
    def test_c42_the_pointer_is_not_asked(self, whole: Path, tmp_path: Path, pointer: str | None) -> None:
        folder = shutil.copytree(whole, tmp_path / "run")
        (folder / "last_checkpoint").unlink()
        if pointer is not None:
            (folder / "last_checkpoint").write_text(pointer)
        assert find_resumable(folder) == (folder / "epoch_2.pth", [])

    def test_c43_what_is_lost_is_counted(self, whole: Path, tmp_path: Path) -> None:
        folder = shutil.copytree(whole, tmp_path / "run")
        shutil.copy(folder / "epoch_2.pth", folder / "epoch_4.pth")
        for name in ("epoch_4.pth", "epoch_2.pth"):
            content = bytearray((folder / name).read_bytes())
            content[len(content) // 2] ^= 1
            (folder / name).write_bytes(content)
        path, notes = find_resumable(folder)
        assert path.name == "epoch_1.pth"
        assert [note.split(" ")[0] for note in notes] == ["epoch_4.pth", "epoch_2.pth"]
        assert notes[0].endswith("epoch_1.pth lacks its last 3 epochs")
        assert notes[1].endswith("epoch_1.pth lacks its last 1 epoch")

    def test_c43_weights_that_are_no_numbers_are_damage(self, whole: Path, tmp_path: Path) -> None:
        folder = shutil.copytree(whole, tmp_path / "run")
        checkpoint = torch.load(folder / "epoch_2.pth", weights_only=True)
        next(iter(checkpoint["state_dict"].values())).fill_(float("nan"))
        torch.save(checkpoint, folder / "epoch_2.pth")
        assert find_resumable(folder)[0].name == "epoch_1.pth"

    @pytest.mark.parametrize("step, name", [(6, "iter_6.pth"), (8, "epoch_2.pth"), (3, "epoch_2.pth")])
    def test_the_file_furthest_on_is_taken_whatever_its_name(
        self, whole: Path, tmp_path: Path, step: int, name: str
    ) -> None:
        folder = shutil.copytree(whole, tmp_path / "run")
        checkpoint = torch.load(folder / "epoch_1.pth", weights_only=True)
        checkpoint["meta"]["iter"] = step
        torch.save(checkpoint, folder / f"iter_{step}.pth")
        if step == 6:
            (folder / "epoch_2.pth").unlink()
        assert find_resumable(folder)[0].name == name

    def test_a_checkpoint_of_another_folder_does_not_open_a_used_one(
        self, train: Train, whole: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "epoch_1.pth").write_text("of another run")
        with pytest.raises(OutputExistsError):
            train(resume=whole / "epoch_1.pth", **LONGER)
        assert (tmp_path / "run" / "epoch_1.pth").read_text() == "of another run"


class TestRefusals:
    """What does not belong to the config is refused before the first step."""

    def test_g19_another_network_lists_what_differs(self, train: Train, whole: Path, tmp_path: Path) -> None:
        shutil.copytree(whole, tmp_path / "run")
        said = (
            r"\(checkpoint / config\); model\.network\.type 'resunet10' / 'resunet18'; \d+ tensors differ: "
            r"network\.\S+ absent / \(\d.* and \d+ more"
        )
        with pytest.raises(CheckpointError, match=said) as raised:
            train(resume="auto", **LONGER, model__network__type="resunet18")
        assert raised.value.exit_code == 4

    def test_c41_another_optimizer(self, train: Train, whole: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(whole, tmp_path / "run"))
        (folder / "epoch_2.pth").unlink()
        with pytest.raises(CheckpointError, match="optimizer is AdamW, the config's SGD"):
            train(resume="auto", **LONGER, optim_wrapper__optimizer={"type": "SGD", "lr": 1e-3}, param_scheduler=None)
        assert not (folder / "epoch_2.pth").exists()

    def test_c41_optimizer_state_of_other_parameters(self, train: Train, whole: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(whole, tmp_path / "run"))
        checkpoint = torch.load(folder / "epoch_2.pth", weights_only=True)
        del checkpoint["meta"]["optimizer_type"]
        state = checkpoint["optimizer"]["state"]
        state[0]["exp_avg"] = torch.zeros(3)
        torch.save(checkpoint, folder / "epoch_2.pth")
        with pytest.raises(CheckpointError, match=r"optimizer has .*\(3,\).* where the network has"):
            train(resume=folder / "epoch_2.pth", **LONGER)
        checkpoint["optimizer"]["param_groups"][0]["params"].pop()
        torch.save(checkpoint, folder / "epoch_2.pth")
        with pytest.raises(CheckpointError, match=r"groups of .* parameters, the config's of"):
            train(resume=folder / "epoch_2.pth", **LONGER)


def test_checkpoints_by_steps_and_their_number(train: Train) -> None:
    folder = train(default_hooks={"checkpoint": {**EVERY_STEP["checkpoint"], "max_keep_ckpts": 3}})
    assert sorted(path.name for path in folder.glob("*.pth")) == ["iter_2.pth", "iter_3.pth", "iter_4.pth"]
    assert json.loads((folder / "report.json").read_text())["steps"] == 4
