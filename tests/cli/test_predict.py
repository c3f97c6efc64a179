"""``medtransfer predict`` over many scans: options, progress, signals, parts."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

import medtransfer as mt
from medtransfer.cli import progress
from medtransfer.cli.main import run

TINY = {"base_channels": 4, "stem_channels": 4}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "seg"
    torch.manual_seed(0)
    mt.save(mt.create_model("resunet10", 1, 3, **TINY), folder, {"classes": ["background", "liver", "spleen"]})
    return folder


def write_scans(folder: Path, count: int, size: int = 8) -> Path:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(count):
        values = generator.normal(size=(size, size, size)).astype(np.float32)
        nib.save(nib.Nifti1Image(values, np.eye(4)), folder / f"n{number:04}.nii.gz")
    return folder


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    return write_scans(tmp_path / "scans", 3)


def predict(model: Path, *arguments: object) -> int:
    return run(["predict", "-m", str(model), *map(str, arguments)])


def start(model: Path, *arguments: object, launcher: tuple[str, ...] = (), **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", *launcher, "medtransfer", "predict", "-m", str(model), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
    )


def wait_for(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.mark.parametrize("name", ["out.png", "mask.nii.gz", "mask.mha"])
def test_a10_an_output_named_like_a_file_says_what_predict_writes(
    model: Path, scans: Path, tmp_path: Path, capsys: Any, name: str
) -> None:
    assert predict(model, "-i", scans, "-o", tmp_path / name) == 2
    assert "predict writes a folder of CASE.nii.gz and CASE.json" in capsys.readouterr().err
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("option", ["--classes", "--largest-component", "--fill-holes"])
def test_a11_a_class_that_the_model_has_not_is_answered_with_those_it_has(
    model: Path, scans: Path, tmp_path: Path, capsys: Any, option: str
) -> None:
    assert predict(model, "-i", scans, "-o", tmp_path / "out", option, "liver", "splen") == 2
    error = capsys.readouterr().err
    assert "'splen'" in error
    assert "liver, spleen" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options, words",
    [
        (["--overlap", "1.0"], "from 0 to 0.9"),
        (["--overlap", "-1"], "from 0 to 0.9"),
        (["--overlap", "nan"], "from 0 to 0.9"),
        (["--tile", "0"], "sizes above 0"),
        (["--num-parts", "0", "--part-id", "0"], "at least 1"),
        (["--num-parts", "2", "--part-id", "2"], "numbered from 0"),
        (["--num-parts", "2"], "belong together"),
        (["--volume", "-1"], "at least 0"),
    ],
)
def test_a09_a_number_out_of_range_is_answered_with_the_range(
    model: Path, scans: Path, tmp_path: Path, capsys: Any, options: list[str], words: str
) -> None:
    assert predict(model, "-i", scans, "-o", tmp_path / "out", *options) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_options_reach_the_predictor_and_the_batch(
    model: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medtransfer.inference import batch, predictor

    seen: dict[str, Any] = {}

    def build(models: Any, device: str, **options: Any) -> None:
        seen.update(options, models=models, device=device)

    def run_batch(built: Any, order: Any, told: Any) -> Any:
        seen["order"] = order
        return batch.Batch(order.folder, {"done": 0, "failed": [], "cases": []})

    monkeypatch.setattr(predictor, "Predictor", build)
    monkeypatch.setattr(batch, "run_batch", run_batch)
    options = "--tta --crop --classes liver --largest-component --fill-holes spleen --overlap 0.25 --memory 2 --tile 32"
    rest = "--save-probabilities --report --view --continue --num-parts 2 --part-id 1 --volume 3 --nan 0 --device cpu"
    assert predict(model, model, "-i", scans, "-o", tmp_path / "out", *options.split(), *rest.split()) == 0
    order = seen.pop("order")
    assert seen == {
        "models": [str(model), str(model)],
        "device": "cpu",
        "precision": "auto",
        "compiled": False,
        "tile": (32, 32, 32),
        "score": None,
        "overlap": 0.25,
        "memory": 2.0,
        "tta": True,
        "crop": True,
        "classes": ["liver"],
        "largest_component": True,
        "fill_holes": ["spleen"],
    }
    assert (order.resume, order.overwrite, order.nan, order.volume) == (True, False, 0.0, 3)
    assert (order.extras.probabilities, order.extras.pictures, order.extras.viewer) == (True, True, True)
    assert (order.part.number, order.part.count, len(order.names), len(order.scans)) == (1, 2, 3, 1)


def test_an_ensemble_with_a_choice_of_classes(model: Path, scans: Path, tmp_path: Path) -> None:
    options = ["--classes", "spleen", "--largest-component", "--device", "cpu"]
    other = shutil.copytree(model, tmp_path / "other")
    assert predict(model, model, "-i", scans, "-o", tmp_path / "out", *options) == 2  # it would have two votes
    assert predict(model, other, "-i", scans, "-o", tmp_path / "out", *options) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert len(report["models"]) == 2
    assert set(np.unique(nib.load(tmp_path / "out" / "n0000.nii.gz").dataobj)) <= {0, 2}
    assert report["cases"][0]["volumes_ml"]["liver"] == 0


def test_a_list_stands_for_its_scans(model: Path, scans: Path, tmp_path: Path) -> None:
    (scans / "some.txt").write_text("# two of three\nn0000.nii.gz\n\nn0002.nii.gz\n")
    assert predict(model, "-i", scans / "some.txt", "-o", tmp_path / "out") == 0
    assert {name for name in names(tmp_path / "out") if name.endswith("gz")} == {"n0000.nii.gz", "n0002.nii.gz"}


def test_continue_finishes_a_batch_and_says_what_it_kept(model: Path, scans: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert predict(model, "-i", scans, "-o", out) == 0
    (out / "n0001.json").unlink()
    assert predict(model, "-i", scans, "-o", out) == 2
    assert "--continue" in capsys.readouterr().err
    assert predict(model, "-i", scans, "-o", out, "--continue", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [case["status"] for case in report["cases"]] == ["kept", "done", "kept"]
    assert predict(model, "-i", scans, "-o", out, "--continue", "--crop") == 2
    assert "crop False (now True). Pass --overwrite" in capsys.readouterr().err


class Terminal(io.StringIO):
    encoding = "ascii"  # as with LANG=C

    def isatty(self) -> bool:
        return True


def cases(count: int, warning: bool = False) -> list[dict[str, Any]]:
    warnings = {"warnings": ["an odd\x1b[31m thing"]} if warning else {}
    return [
        {"case": f"c\x1b{number}", "status": "done", "inputs": ["in"], **warnings} for number in range(1, count + 1)
    ]


def show(count: int, **options: Any) -> None:
    with progress.Progress(count) as shown:
        for number, case in enumerate(cases(count, **options), 1):
            shown(case, number, count)


def test_a12_a_log_is_short_and_without_control_codes(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    clock = iter(np.arange(0, 2000, 0.5))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    show(100, warning=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == r"medtransfer: warning: in: an odd\x1b[31m thing"
    steps = [line for line in lines if "warning" not in line]
    assert steps == [
        "medtransfer: 20 of 100 cases, about 40 s left",
        "medtransfer: 40 of 100 cases, about 30 s left",
        "medtransfer: 60 of 100 cases, about 20 s left",
        "medtransfer: 80 of 100 cases, about 10 s left",
    ]
    assert len(lines) - len(steps) == 21
    assert lines[-1 - 3].endswith("40 s left") or "report.json has them all" in "".join(lines)


def test_a12_a_terminal_has_a_bar_and_what_fails_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress.Progress(2) as shown:
        shown({"case": "a", "status": "failed", "inputs": ["a"], "error": "a.nii: bad [red]scan"}, 1, 2)
        shown(cases(2)[1], 2, 2)
    text = terminal.getvalue()
    assert "medtransfer: error: a.nii: bad [red]scan\n" in text
    assert "2/2" in text
    assert text.isascii()
    assert "\x1b[3" not in text, "colours"
    assert "c\x1b2" not in text


def test_a12_nothing_is_shown_where_there_is_no_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    show(3, warning=True)


def test_debug_shows_where_a_case_failed(
    model: Path, scans: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    from medtransfer.inference.predictor import Predictor

    def fail(self: Any, *arguments: Any) -> None:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(Predictor, "run", fail)
    assert predict(model, "-i", scans, "-o", tmp_path / "out", "--debug") == 5
    assert "in fail\n" in capsys.readouterr().err
    assert predict(model, "-i", scans, "-o", tmp_path / "more") == 5
    assert "Traceback" not in capsys.readouterr().err


def test_sigterm_ends_a_batch_with_143_and_continue_goes_on(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from medtransfer.inference.predictor import Predictor

    scans, out, compute = write_scans(tmp_path / "scans", 6), tmp_path / "out", Predictor.run

    def terminated(self: Predictor, job: Any, *arguments: Any) -> Any:
        if job.case == "n0003":
            wait_for(lambda: (out / "n0001.json").exists())
            os.kill(os.getpid(), signal.SIGTERM)
        return compute(self, job, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "run", terminated)
        assert predict(model, "-i", scans, "-o", out) == 143
    assert capsys.readouterr() == ("", "medtransfer: error: terminated\n")
    done = {path.name.partition(".")[0] for path in out.glob("*.json")}
    assert names(out) == {f"{name}.{end}" for name in done for end in ("nii.gz", "json")}
    assert {"n0000", "n0001"} <= done <= {"n0000", "n0001", "n0002"}
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert predict(model, "-i", scans, "-o", out, "--continue") == 0
    report = json.loads((out / "report.json").read_text())
    assert {case["case"] for case in report["cases"] if case["status"] == "kept"} == done
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "number, word, code", [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)]
)
def test_a_signal_ends_a_batch_with_its_code(model: Path, tmp_path: Path, number: int, word: str, code: int) -> None:
    scans, out = write_scans(tmp_path / "scans", 60, 24), tmp_path / "out"
    with start(model, "-i", scans, "-o", out) as process:
        wait_for(lambda: len(list(out.glob("*.json"))) >= 2)
        process.send_signal(number)
        assert process.communicate(timeout=60)[1] == f"medtransfer: error: {word}\n"
    assert process.returncode == code
    assert not [name for name in names(out) if "part" in name]


@pytest.mark.slow
def test_kill_9_in_the_midst_again_and_again_ends_in_the_same_masks(model: Path, tmp_path: Path) -> None:
    scans, out, whole = write_scans(tmp_path / "scans", 40, 24), tmp_path / "out", tmp_path / "whole"
    generator = np.random.default_rng(0)
    for _ in range(4):
        # what "auto" is in a process of its own depends on the machine
        with start(model, "-i", scans, "-o", out, "--continue", "--precision", "float32") as process:
            count = len(list(out.glob("*.json")))
            wait_for(lambda count=count: len(list(out.glob("*.json"))) > count or process.poll() is not None)
            time.sleep(generator.uniform(0, 0.2))
            process.kill()
    assert not (out / "report.json").exists(), "it ended before it was killed"
    assert predict(model, "-i", scans, "-o", out, "--continue") == 0
    assert predict(model, "-i", scans, "-o", whole) == 0
    assert {path.name: path.read_bytes() for path in out.glob("*.nii.gz")} == {
        path.name: path.read_bytes() for path in whole.glob("*.nii.gz")
    }
    assert names(out) == names(whole)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [0, 1])
def test_torchrun_shares_a_batch_among_two_processes(model: Path, tmp_path: Path, bad: int) -> None:
    scans, out = write_scans(tmp_path / "scans", 7), tmp_path / "out"
    if bad:
        (scans / "n0003.nii.gz").write_text("not a scan")  # the second process'
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    with start(model, "-i", scans, "-o", out, "--json", "--device", "cpu", launcher=launcher) as process:
        stdout, stderr = process.communicate(timeout=120)
    report = json.loads(stdout[: stdout.rindex("}") + 1])
    assert [case["case"] for case in report["cases"]] == [f"n{number:04}" for number in range(7)]
    assert report["failed"] == ["n0003"] * bad
    assert json.loads((out / "report.json").read_text()) == report
    assert len(list(out.glob("*.nii.gz"))) == 7 - bad
    assert {path.name for path in out.glob("report.part*")} == {f"report.part-{k}-of-2.json" for k in (0, 1)}
    assert ("n0003.nii.gz" in stderr) == bool(bad)
    assert (process.returncode == 0) == (not bad)
    assert not bad or "exitcode  : 5" in stderr


_MEASURED = """
import sys, resource
from medtransfer.cli import progress, main

peaks = {}
call = progress.Progress.__call__
def told(self, record, number, total):
    call(self, record, number, total)
    peaks[number] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
progress.Progress.__call__ = told
code = main.run(sys.argv[1:])
print(peaks[100], peaks[max(peaks)], file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.slow
def test_a14_a_thousand_scans_with_three_bad_ones_in_flat_memory(model: Path, tmp_path: Path) -> None:
    scans, out = write_scans(tmp_path / "scans", 1000), tmp_path / "out"
    (scans / "n0123.nii.gz").write_text("not a scan")
    (scans / "n0500.nii.gz").write_bytes((scans / "n0500.nii.gz").read_bytes()[:300])
    (scans / "n0999.nii.gz").write_bytes(b"")
    command = [sys.executable, "-c", _MEASURED, "predict", "-m", str(model), "-i", str(scans), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 5, done.stderr
    report = json.loads((out / "report.json").read_text())
    assert report["failed"] == ["n0123", "n0500", "n0999"]
    assert report["done"] == len(list(out.glob("*.nii.gz"))) == 997
    *errors, peaks = done.stderr.splitlines()
    assert [name in "".join(errors) for name in report["failed"]] == [True] * 3
    after_100, after_all = map(int, peaks.split())
    assert after_all - after_100 < 8 * 1024, f"{after_100} kB after 100 scans, {after_all} kB after 1000"
