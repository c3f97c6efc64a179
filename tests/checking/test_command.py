"""``medtransfer check``: exit codes, one document, nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medtransfer.checking import page
from medtransfer.cli import check as command
from medtransfer.cli import main
from tests.checking.conftest import SHAPE, Dataset, save

Make = Callable[..., Dataset]


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(main.COMMANDS, "check", "every problem of a dataset in one pass")


def test_a_sound_dataset_exits_with_0(
    make_dataset: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "write_report", lambda checkup, path, workers: path.parent.mkdir())
    assert main.run(["check", str(make_dataset(2).root), "-o", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert "no problem was found" in out
    assert out.rstrip().endswith(f"report: {tmp_path / 'out' / 'check.html'}")
    assert err == ""


def test_warnings_count_only_when_strict(make_dataset: Make, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_dataset(3)
    save(data.label("c01"), np.zeros(SHAPE, np.uint8))
    assert main.run(["check", str(data.root)]) == 0
    assert main.run(["check", str(data.root), "--strict"]) == 3
    assert "0 errors, 1 warning" in capsys.readouterr().err


def test_a13_errors_exit_with_3_and_one_document(make_dataset: Make, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_dataset(3)
    data.image("c02").write_bytes(b"")
    assert main.run(["check", str(data.root), "--json"]) == 3
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (document["errors"], document["problems"][0]["case"]) == (1, "c02")
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_a_dataset_that_is_not_there_is_said_on_stderr(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str]
) -> None:
    missing = tmp_path / "missing"
    assert main.run(["check", str(missing), *arguments]) == 3
    out, err = capsys.readouterr()
    wanted = f"medtransfer: error: {missing}: no such file or folder. Name the dataset's folder or table\n"
    assert (err, "no such file or folder" in out) == (wanted, True)


@pytest.mark.parametrize("arguments", [["--workers", "0"], ["--nonsense"]])
def test_a09_options_that_cannot_be(make_dataset: Make, arguments: list[str]) -> None:
    assert main.run(["check", str(make_dataset(1).root), *arguments]) == 2


def test_a_bar_moves_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with command._progress() as move:
        assert move is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with command._progress() as move:
        assert move is not None
        move(1, 2)


@pytest.mark.slow
def test_a_check_imports_no_torch(make_dataset: Make) -> None:
    code = "import sys, medtransfer.checking.run as r; print(r.check(sys.argv[1]).ok, 'torch' in sys.modules)"
    place = {"cwd": Path(__file__).resolve().parents[2], "timeout": 60}
    process = subprocess.run(
        [sys.executable, "-c", code, str(make_dataset(2).root)], capture_output=True, text=True, check=False, **place
    )
    assert process.stdout.split() == ["True", "False"], process.stderr
