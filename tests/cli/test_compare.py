"""``medtransfer compare``: what it prints, its exit codes, and one line for each thing that is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import medtransfer as mt
from medtransfer.cli import main
from medtransfer.comparison import run
from medtransfer.errors import MedTransferError
from medtransfer.training.config import find_config
from tests.comparison.conftest import cheap, decathlon, fake_runs, options, picture, source

__all__ = ["cheap", "decathlon", "fake_runs", "options", "picture", "source"]

CONFIG = """
_base_ = {base!r}
data_root = "data"
split = dict(val=2, seed=0)
patch_size = [16, 16, 16]
model = dict(network=dict(_delete_=True, type="resunet10", base_channels=4, stem_channels=4))
train_dataloader = dict(batch_size=2)
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=2)
optim_wrapper = dict(dtype="float32")
"""
KEY = 'compare = dict(sources=dict(tiny="net"), policies=["full"], cases=[2], seeds=[0])'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decathlon: Path, source: Path, cheap: None) -> Path:
    """A folder with data, a source, and configs with and without the key ``compare``."""
    (tmp_path / "data").symlink_to(decathlon)
    (tmp_path / "net").symlink_to(source)
    text = CONFIG.format(base=str(find_config("resunet18_hippocampus")))
    (tmp_path / "plain.py").write_text(text)
    (tmp_path / "compare.py").write_text(text + KEY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(place: Path, capsys: pytest.CaptureFixture) -> Callable:
    """Run the command; its exit code, and what it wrote to stdout and stderr."""

    def start(*arguments: str, config: str = "compare.py", work_dir: str = "work") -> tuple[int, str, str]:
        code = main.run(["compare", config, "--work-dir", work_dir, *arguments])
        return code, *capsys.readouterr()

    return start


def test_from_options_to_a_report(command, place):
    options = ["--sources", "tiny=net", "--policies", "frozen", "--cases", "2", "--seeds", "3", "--keep-models"]
    code, out, err = command(*options, config="plain.py")
    assert code == 0
    assert out.splitlines()[0] == "2 of 2 runs are finished"
    assert out.splitlines()[-1] == "report: work/report.html"
    assert "run 2/2 tiny/frozen, 2 cases, seed 3: dice 0." in err
    assert mt.load(place / "work/runs/tiny__frozen_002_s3/best")
    assert json.loads((place / "work/results/scratch_002_s3.json").read_text())["arm"] == "scratch"


def test_one_document(command, fake_runs):
    code, out, _ = command("--json")
    document = json.loads(out)
    summary = document.pop("summary")
    assert summary
    assert (code, document) == (0, {
        "work_dir": "work", "runs": 2, "finished": 2, "failed": {}, "unfinished": [], "report": "work/report.html",
    })  # fmt: skip


def test_a_run_that_failed_gives_5_until_it_is_done(command, fake_runs, monkeypatch):
    made = run.train_and_score

    def second_fails(plan, run, folder):
        if run.arm.source:
            raise MedTransferError("the loss is nan")
        return made(plan, run, folder)

    with monkeypatch.context() as patch:
        patch.setattr(run, "train_and_score", second_fails)
        code, out, err = command()
    assert code == 5
    assert out.splitlines()[:2] == ["1 of 2 runs are finished", "failed: tiny__full_002_s0: the loss is nan"]
    assert "run 2/2 tiny/full, 2 cases, seed 0: failed: the loss is nan" in err
    assert command("--report-only")[0] == 5
    code, out, _ = command()
    assert code == 0
    assert "failed" not in out


def test_only_the_report(command, fake_runs, place):
    assert command()[0] == 0
    (place / "work/report.html").unlink()
    code, out, _ = command("--report-only", "--policies", "full", "frozen")
    assert code == 0
    assert out.splitlines()[:2] == ["2 of 3 runs are finished", "not finished: tiny__frozen_002_s0"]
    assert (place / "work/report.html").exists()
    assert len(fake_runs()) == 2


@pytest.mark.parametrize(
    "options, code, said",
    [
        (["--sources", "net"], 2, "--sources 'net' is not of the form NAME=PATH"),
        (["--sources", "a=net", "a=net"], 2, "--sources names 'a' twice"),
        (["--sources", "a=none"], 4, "none: a/full: no such file"),
        (["--sources", "a=damaged.pt"], 4, "damaged.pt: a/full: "),
        (["--sources", "a=wider"], 4, "wider: a/full: 60 tensors have other shapes than the target's"),
        (["--policies", "ful"], 2, "there is no policy 'ful'. Did you mean full"),
        (["--policies", "full", "full"], 2, "`policies` names one twice: full, full"),
        (["--cases", "2", "9"], 2, "asks for 9 training cases, but 4 are left beside 2 test cases"),
        (["--cases", "0"], 2, "--cases"),
        (["--seeds", "1.5"], 2, "--seeds"),
        (["--cfg-options", "train_cfg={'max_epochs': 2}", "train_dataloader.sampler=None"], 2, "compare needs as many"),
        (["--cfg-options", "data_root=nowhere"], 3, "nowhere"),
        (["--cfg-options", "data_root=junk"], 3, "test case case_"),
        (["--cfg-options", "model.network.widht=3"], 2, "widht"),
        (["--report-only"], 2, "there is no finished run to report"),
    ],
)
def test_refusals(command, place, fake_runs, decathlon, options, code, said):
    if "data_root=junk" in options:
        shutil.copytree(decathlon, place / "junk")
        for path in (place / "junk/labelsTr").iterdir():
            path.write_bytes(b"junk")
    (place / "damaged.pt").write_bytes((place / "net/model.json").read_bytes())
    if "a=wider" in options:
        torch.manual_seed(0)
        mt.save(mt.create_model("resnet10", 1, 2, base_channels=8, stem_channels=8), place / "wider")
    found, out, err = command(*options)
    assert (found, out) == (code, "")
    assert said in err.splitlines()[-1]
    assert not (place / "work").exists()
    assert fake_runs() == []


def test_a_config_without_anything_to_compare(command, fake_runs):
    code, _, err = command(config="plain.py")
    assert code == 2
    assert "Name one: compare=dict(sources=dict(NAME=PATH)), or --sources NAME=PATH" in err.splitlines()[-1]


def test_the_folder_of_another_comparison(command, fake_runs, place):
    assert command()[0] == 0
    before = {path: path.read_bytes() for path in place.glob("work/**/*.json")}
    for more in ([], ["--report-only"]):
        code, out, err = command("--cfg-options", "train_cfg.max_iters=3", *more)
        assert (code, out) == (2, "")
        assert "this comparison was planned otherwise: config.train_cfg.max_iters was 2, is 3" in err.splitlines()[-1]
    assert {path: path.read_bytes() for path in place.glob("work/**/*.json")} == before


def test_a_result_that_is_damaged_is_named(command, fake_runs, place):
    assert command()[0] == 0
    (place / "work/results/scratch_002_s0.json").write_text("{}")
    code, _, err = command("--report-only")
    assert code == 3
    assert "scratch_002_s0.json: is no result of a comparison's run" in err.splitlines()[-1]
