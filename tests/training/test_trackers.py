"""TensorBoard and MLflow get what the training folder says, locally, also of a run that is stopped and resumed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.logging import MessageHub
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medtransfer import create_model, save
from medtransfer.errors import ConfigError, MedTransferError, MissingExtraError
from medtransfer.training import trackers
from medtransfer.training.mlflow_tracker import MLflow
from medtransfer.training.tensorboard_tracker import TensorBoard
from medtransfer.training.tracker import Start, Tracker

from .interruptions import LONGER, Train, at_step, send
from .two_processes import Pair

BOTH = {"trackers": ["tensorboard", "mlflow"]}


def client(store: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{store}")


def runs(store: Path, name: str = "medtransfer") -> list[Any]:
    """The runs of an experiment."""
    experiment = client(store).get_experiment_by_name(name)
    return list(client(store).search_runs([experiment.experiment_id]))


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return found


@dataclass(frozen=True)
class Tracked:
    """A run that was stopped within its second epoch, lost its last checkpoint, and went on from the first epoch's."""

    folder: Path
    store: Path
    outcome_of_the_first: str
    connections: list[Any]

    def rows(self) -> Iterator[dict[str, float]]:
        for log in sorted(self.folder.glob("*/vis_data/scalars.json")):
            yield from map(json.loads, log.read_text().splitlines())

    def logged(self, name: str) -> dict[int, float]:
        """What mmengine's own log says of the training, by step."""
        return {int(row["step"]): row[name] for row in self.rows() if "iter" in row}

    def validated(self, name: str) -> dict[int, float]:
        found = json.loads((self.folder / "report.json").read_text())["validations"]
        return {row["step"]: row[name] for row in found}


@pytest.fixture(scope="module")
def kept() -> dict[str, Tracked]:
    """What :func:`tracked` trained, if it did."""
    return {}


@pytest.fixture
def tracked(
    train: Train, kept: dict[str, Tracked], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Tracked:
    if "run" not in kept:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        place = tmp_path_factory.mktemp("tracked")
        save(create_model("resnet10", base_channels=4, stem_channels=4), place / "source")
        connections: list[Any] = []
        monkeypatch.setattr(socket.socket, "connect", lambda _, address: connections.append(address))
        options = {
            **LONGER,
            **BOTH,
            "transfer": {"source": str(place / "source")},
            "default_hooks__logger": {"type": "LoggerHook", "interval": 1},
        }
        with monkeypatch.context() as patch:
            at_step(patch, 7, send(signal.SIGTERM))
            with pytest.raises(SystemExit):
                train(place / "run", **options)
        (place / "run" / "iter_7.pth").unlink()
        outcome = runs(place / "mlflow.db")[0].info.status
        train(place / "run", resume="auto", **options)
        kept["run"] = Tracked(place / "run", place / "mlflow.db", outcome, connections)
    return kept["run"]


LOGGED = ["loss", "lr", "grad_norm", "time", "data_time"]


def test_tensorboard_has_the_log_each_step_once(tracked: Tracked) -> None:
    found = events(tracked.folder)
    for name in LOGGED:
        points = found.Scalars(f"train/{name}")
        assert [point.step for point in points] == list(range(1, 9))
        assert {point.step: point.value for point in points} == pytest.approx(tracked.logged(name), rel=1e-6)
    scores = {point.step: point.value for point in found.Scalars("val/dice/mean")}
    assert scores == pytest.approx(tracked.validated("dice/mean"), rel=1e-6)
    assert sorted(scores) == [4, 8]


def test_mlflow_has_the_log_in_one_run(tracked: Tracked) -> None:
    (run,) = runs(tracked.store)
    for name in LOGGED:
        points = client(tracked.store).get_metric_history(run.info.run_id, f"train/{name}")
        assert {point.step: point.value for point in points} == tracked.logged(name)
    scores = client(tracked.store).get_metric_history(run.info.run_id, "val/dice/box")
    assert {point.step: point.value for point in scores} == tracked.validated("dice/box")
    assert (tracked.outcome_of_the_first, run.info.status) == ("KILLED", "FINISHED")
    assert run.info.run_name == "run"


def test_the_config_is_there_and_can_be_compared(tracked: Tracked) -> None:
    parameters = runs(tracked.store)[0].data.params
    assert parameters["optim_wrapper.optimizer.lr"] == "0.002"
    assert parameters["model.network.type"] == "resunet10"
    assert not any(name.startswith("trackers") for name in parameters)
    artifacts = tracked.store.parent / "mlflow" / runs(tracked.store)[0].info.run_id / "artifacts"
    assert "max_epochs=2" in (artifacts / "config.py").read_text()
    found = events(tracked.folder)
    assert "max_epochs=2" in found.Tensors("config.py/text_summary")[0].tensor_proto.string_val[0].decode()
    content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"optim_wrapper.optimizer.lr" in content


def test_the_transfer_and_the_best_score_are_there(tracked: Tracked) -> None:
    report = json.loads((tracked.folder / "report.json").read_text())
    expected = {"transfer/coverage": report["transfer"]["coverage"], "best/dice/mean": report["best"]["score"]}
    assert expected["transfer/coverage"] > 0.9
    (run,) = runs(tracked.store)
    assert {name: run.data.metrics[name] for name in expected} == expected
    found = events(tracked.folder)
    assert found.Scalars("transfer/coverage")[0].value == pytest.approx(expected["transfer/coverage"])
    assert b"loaded" in found.Tensors("transfer/text_summary")[0].tensor_proto.string_val[0]
    artifacts = tracked.store.parent / "mlflow" / run.info.run_id / "artifacts"
    for name in ("transfer.json", "report.json", "best/model.json"):
        assert (artifacts / name).read_bytes() == (tracked.folder / name).read_bytes()


def test_the_picture_of_the_progress_is_there(tracked: Tracked) -> None:
    (picture,) = events(tracked.folder).Images("progress")
    assert picture.step == 8
    assert min(picture.width, picture.height) > 100
    artifacts = tracked.store.parent / "mlflow" / runs(tracked.store)[0].info.run_id / "artifacts"
    assert len(list(artifacts.glob("images/progress*.png"))) == 1


def test_nothing_is_sent_anywhere(tracked: Tracked) -> None:
    assert tracked.connections == []


def test_mlflow_does_not_report_its_own_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    MLflow(tmp_path / "run").connect()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_mlflow_does_not_report_its_own_use_outside_of_tests(tmp_path: Path) -> None:
    code = (
        "from medtransfer.training.mlflow_tracker import MLflow; MLflow('run').connect()\n"
        "from mlflow.telemetry import get_telemetry_client; print(get_telemetry_client())"
    )
    hides = ("CI", "PYTEST", "MLFLOW", "GITHUB", "BUILD")  # variables for which MLflow is silent by itself
    plain = {name: value for name, value in os.environ.items() if not any(word in name for word in hides)}
    environment = {**plain, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None"]


def test_a_run_that_fails_is_told(
    train: Train, tracked: Tracked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where MLflow keeps the files of a store that is not ours
    at_step(monkeypatch, 1, lambda: float("nan"))
    with pytest.raises(MedTransferError, match="the loss is nan"):
        train(trackers={"type": "mlflow", "tracking_uri": f"sqlite:///{tracked.store}", "experiment": "failing"})
    (run,) = runs(tracked.store, "failing")
    assert run.info.status == "FAILED"
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize("name, module", [("tensorboard", "tensorboard"), ("mlflow", "mlflow"), ("mlflow", "alembic")])
def test_a_missing_extra_is_one_line_before_anything_is_read(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    said = rf"^trackers=\['{name}'\] needs {module}. Run pip install 'medtransfer\[{name}\]'\.$"
    with pytest.raises(MissingExtraError, match=said):
        train(trackers=[name], data_root="nowhere")
    assert list(tmp_path.iterdir()) == []


WRONG: dict[str, tuple[Any, str]] = {
    "name": (["tensorbord"], "trackers\\[0\\]: there is no type 'tensorbord'. Did you mean tensorboard?"),
    "word": (
        [{"type": "mlflow", "uri": "x"}],
        "trackers\\[0\\] has no key 'uri'. Known: experiment, run, tags, tracking_uri",
    ),
    "kind": ([3], "trackers must be names or dicts with a type, got 3. Known: mlflow, .*tensorboard"),
    "untyped": ({"tracking_uri": "x"}, "trackers\\[0\\] lacks 'type'"),
    "twice": (["mlflow", {"type": "mlflow"}], "trackers names mlflow twice"),
    "value": ([{"type": "mlflow", "experiment": 3}], "experiment of mlflow must be a text, got 3"),
    "tags": ([{"type": "mlflow", "tags": "x"}], "tags of mlflow must be a dict, got 'x'"),
    "store": (
        [{"type": "mlflow", "tracking_uri": "file:x"}],
        "mlflow cannot be used at file:x: The filesystem tracking",
    ),
}


@pytest.mark.parametrize("stated, said", WRONG.values(), ids=WRONG)
def test_what_cannot_be_meant_is_refused(train: Train, stated: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        train(trackers=stated)


def test_a_server_that_does_not_answer_is_told_without_the_password(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:secret@127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"mlflow cannot be used at http://127.0.0.1:9: ") as raised:
        train(trackers="mlflow", data_root="nowhere")
    assert "secret" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


class Breaking(Tracker):
    """Fails at the first number."""

    def __init__(self) -> None:
        super().__init__("run")
        self.is_open, self.calls = True, 0

    def connect(self) -> None:
        """Nothing to see to."""

    def open(self, start: Start) -> str:
        return ""

    def write_numbers(self, numbers: Any, step: int) -> None:
        self.calls += 1
        raise RuntimeError("the server went away.\nmore")

    def write_text(self, name: str, text: str) -> None:
        self.calls += 1

    def write_picture(self, name: str, picture: np.ndarray, step: int) -> None:
        self.calls += 1

    def end(self, outcome: str, start: Start, scores: Any) -> None:
        self.calls += 1


def test_a_tracker_that_breaks_is_told_once_and_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Breaking()
    for step in range(3):
        tracker.add_scalars({"loss": 1.0, "iter": step}, step)
    tracker.add_image("x", np.zeros((2, 2, 3), np.uint8))
    assert tracker.calls == 1
    assert [record.getMessage() for record in caplog.records] == [
        "Breaking gets no more of this run: the server went away"
    ]


def test_a_run_that_is_not_in_the_store_begins_anew(
    tracked: Tracked, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tracked.store}")
    memory = MessageHub("of a checkpoint")
    memory.update_info("mlflow_run", "0" * 32)
    tracker = MLflow(tmp_path / "run", experiment="Fuß (links)", run="one", tags={"by": "anna"})
    long = {"a" * 10: "x" * 7000, "lr (max)": 0.1, **{f"p{number}": number for number in range(120)}}
    said = tracker.open(Start("config", 4, long, memory))
    assert "is not at sqlite:" in caplog.records[-1].getMessage()
    (run,) = runs(tracked.store, "Fuß (links)")
    assert run.info.run_id in said
    assert memory.get_info("mlflow_run") == run.info.run_id
    assert len(run.data.params) == 122
    assert (run.data.params["lr _max_"], run.data.tags["by"], run.info.run_name) == ("0.1", "anna", "one")
    tracker.write_numbers({"val/dice/grün+blau": float("nan")}, 1)
    assert "val/dice/grün_blau" in client(tracked.store).get_run(run.info.run_id).data.metrics


def test_only_the_first_process_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = trackers.Config({"trackers": ["tensorboard"], "work_dir": "run"})
    assert [type(tracker) for tracker in trackers.connected(cfg)] == [TensorBoard]
    monkeypatch.setattr(trackers, "is_main_process", lambda: False)
    assert trackers.connected(cfg) == []


@pytest.mark.slow
def test_two_processes_write_one_log(pair: Pair, tmp_path: Path) -> None:
    pair.train("two", BOTH)
    assert len(runs(tmp_path / "mlflow.db")) == 1
    assert len(list((tmp_path / "two" / "tensorboard").iterdir())) == 1


def test_the_visualizer_of_the_config_stays(tmp_path: Path) -> None:
    tracker = TensorBoard(tmp_path)
    stated = {"type": "Visualizer", "vis_backends": {"type": "LocalVisBackend", "img_save_dir": "pictures"}}
    assert trackers.with_backends(stated, [tracker])["vis_backends"] == [stated["vis_backends"], tracker]
    assert trackers.with_backends(stated, []) is stated
