"""One run per work_dir."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from medtransfer.errors import OutputExistsError
from medtransfer.training import lock
from medtransfer.training.lock import LOCK, Holder, locked

from .interruptions import Train


def write_lock(folder: Path, **changes: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    own = Holder.this()
    words = {"pid": own.pid, "host": own.host, "started": own.started, **changes}
    (folder / LOCK).write_text(json.dumps(words))


def dead_process() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_e13_a_second_run_is_refused_with_the_pid_of_the_first(train: Train, tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        before = (tmp_path / "run" / LOCK).read_bytes()
        with pytest.raises(OutputExistsError, match=f"another run .* process {os.getpid()} on") as raised:
            train(resume="auto")
        assert raised.value.exit_code == 2
        assert (tmp_path / "run" / LOCK).read_bytes() == before
    assert not (tmp_path / "run").exists()


def test_e13_the_lock_of_a_dead_process_is_taken_over(train: Train, tmp_path: Path) -> None:
    write_lock(tmp_path / "run", pid=dead_process(), started="")
    folder = train(train_cfg__max_epochs=1)
    assert (folder / "epoch_1.pth").is_file()
    assert not list(folder.glob(f"{LOCK}*"))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only /proc tells when a process began")
def test_e13_a_later_process_with_the_same_number_holds_nothing(tmp_path: Path) -> None:
    write_lock(tmp_path, started="1")
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["started"] == Holder.this().started


def test_e13_a_lock_that_was_cut_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text('{"pid": 1')
    with pytest.raises(OutputExistsError, match="at the same time"), locked(tmp_path):
        pass  # its name may be written this very moment
    os.utime(tmp_path / LOCK, (0, 0))
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_e13_of_another_machine_nothing_is_known(tmp_path: Path) -> None:
    write_lock(tmp_path, host="elsewhere", pid=dead_process())
    with pytest.raises(OutputExistsError, match=r"on elsewhere\. .*delete run\.lock"), locked(tmp_path):
        pass
    assert (tmp_path / LOCK).exists()


def test_e13_a_lock_that_another_run_took_over_first_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lock(tmp_path, pid=dead_process(), started="")
    rename, mine = os.replace, Holder(os.getppid(), socket.gethostname())

    def slower(source: Path, target: Path) -> None:
        if Path(source).name == LOCK:  # between our look and our rename the other run put its own lock there
            write_lock(tmp_path, pid=mine.pid, host=mine.host, started="")
        rename(source, target)

    monkeypatch.setattr(lock.os, "replace", slower)
    with pytest.raises(OutputExistsError, match="another run"), locked(tmp_path):
        pass
    assert json.loads((tmp_path / LOCK).read_text())["pid"] == mine.pid


def test_the_lock_goes_with_an_error_and_so_does_a_folder_that_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path / "a" / "b"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
