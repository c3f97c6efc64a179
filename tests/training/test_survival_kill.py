"""Runs that are killed with signal 9, at any moment: the resumed run ends as the unbroken one."""

from __future__ import annotations

from pathlib import Path

import pytest

from medtransfer.errors import CheckpointError, OutputExistsError
from medtransfer.training.checkpoints import find_resumable, tidy
from medtransfer.training.lock import LOCK

from .interruptions import EVERY_STEP, LONGER, Train, assert_same_end, killed_at_write


class TestKill:
    """Signal 9 at any moment: the resumed run ends as the unbroken one."""

    def _check(self, train: Train, whole: Path, number: int, moment: str) -> None:
        killed_at_write(number, moment, lambda: train("broken", **LONGER, default_hooks=EVERY_STEP))
        broken = train("broken", resume="auto", **LONGER, default_hooks=EVERY_STEP)
        assert_same_end(whole, broken)
        assert not [*broken.glob("*.part*"), *broken.glob("*.old"), *broken.glob(LOCK)]
        assert (broken / "best" / "model.json").is_file()
        assert len(list(broken.glob("iter_*.pth"))) == 2

    # writes are: a checkpoint and the pointer to it, for each step and again after a validation, and the folder best
    @pytest.mark.parametrize("number, moment", [(5, "before"), (7, "after")])
    def test_e03_kill_at_a_write_and_resume(self, train: Train, whole: Path, number: int, moment: str) -> None:
        self._check(train, whole, number, moment)

    @pytest.mark.slow
    @pytest.mark.parametrize("moment", ["before", "after"])
    @pytest.mark.parametrize("number", range(2, 22))
    def test_e03_kill_at_any_write_and_resume(self, train: Train, whole: Path, number: int, moment: str) -> None:
        self._check(train, whole, number, moment)

    def test_e03_kill_before_the_first_checkpoint_never_starts_anew(self, train: Train, tmp_path: Path) -> None:
        killed_at_write(1, "before", lambda: train(default_hooks=EVERY_STEP))
        with pytest.raises(CheckpointError, match="there is no epoch_"):
            train(resume="auto")
        with pytest.raises(OutputExistsError, match="holds something already"):
            train()
        assert not list((tmp_path / "run").glob("*.pth"))

    def test_e04_kill_between_the_checkpoint_and_its_pointer(self, train: Train, tmp_path: Path) -> None:
        killed_at_write(3, "after", lambda: train(**LONGER, default_hooks=EVERY_STEP))
        assert (tmp_path / "run" / "last_checkpoint").read_text().endswith("iter_1.pth")
        path, notes = find_resumable(tmp_path / "run")
        assert (path.name, notes) == ("iter_2.pth", [])

    def test_a_cut_swap_of_the_best_model_is_put_right(self, tmp_path: Path) -> None:
        for name in ("best.old", "best.part"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "model.json").write_text(name)
        (tmp_path / "epoch_2.part.pth").write_bytes(b"half")
        tidy(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["best"]
        assert (tmp_path / "best" / "model.json").read_text() == "best.old"
