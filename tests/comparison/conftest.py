"""A tiny comparison: six scans of 16 voxels, networks of four channels, runs of four steps."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

import medtransfer as mt
from medtransfer.comparison import attempt, page, pictures, run
from medtransfer.comparison.results import RunResult, read_results
from medtransfer.comparison.run import Outcome, compare
from medtransfer.comparison.runs import Plan, Run
from medtransfer.comparison.statistics import analyse
from medtransfer.reporting.curves import curves_png
from medtransfer.training import hooks
from tests.comparison.synthetic import made_run
from tests.training.conftest import TINY_NETWORK, decathlon, table

__all__ = ["decathlon", "table"]

Start = Callable[..., Outcome]
FEW: dict[str, Any] = {"policies": ["full"], "cases": [2], "seeds": [0]}


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose encoder fits the tiny network."""
    folder = tmp_path_factory.mktemp("source") / "classifier"
    arguments = {"base_channels": 4, "stem_channels": 4, "num_classes": 2}
    mt.save(mt.create_model("resnet10", in_channels=1, **arguments), folder)
    return folder


@pytest.fixture(scope="session")
def options(decathlon: Path) -> dict[str, Any]:
    """What makes the shipped segmentation config tiny: four steps, which depend on the random generators."""
    return {
        **TINY_NETWORK,
        "model.network": {**TINY_NETWORK["model.network"], "dropout_rate": 0.3},
        "data_root": str(decathlon),
        "split": {"val": 2, "seed": 0},
        "patch_size": [16, 16, 16],
        "train_dataloader.batch_size": 2,
        "train_cfg": {"by_epoch": False, "max_iters": 4},
        "optim_wrapper.dtype": "float32",
    }


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small picture."""
    return curves_png({"a": [(0, 0)]}, tmp_path_factory.mktemp("drawn") / "a.png")


@contextmanager
def cheaply(picture: Path) -> Iterator[None]:
    """Few draws, one picture in place of all, and no look through all of torch after each run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "analyse", partial(analyse, draws=50))
        patch.setattr(pictures, "panels_png", lambda panels, path, **labels: Path(shutil.copy(picture, path)))
        patch.setattr(hooks, "curves_png", lambda *arguments, **options: None)
        patch.setattr(attempt, "gc", SimpleNamespace(collect=lambda: 0))
        yield


@pytest.fixture
def cheap(picture: Path) -> Iterator[None]:
    """As :func:`cheaply`, for one test."""
    with cheaply(picture):
        yield


@pytest.fixture
def start(options: dict[str, Any], source: Path, tmp_path: Path, cheap: None) -> Start:
    """Compare with the source ``tiny``: full, with two training cases and one seed, unless told otherwise."""

    def begin(name: str = "work", changes: Mapping[str, Any] | None = None, **arguments: Any) -> Outcome:
        chosen = {**options, **(changes or {})}
        few = {"sources": {"tiny": str(source)}, **FEW}
        return compare("resunet18_hippocampus", tmp_path / name, cfg_options=chosen, **{**few, **arguments})

    return begin


@pytest.fixture(scope="session")
def unbroken(options: dict[str, Any], source: Path, tmp_path_factory: pytest.TempPathFactory, picture: Path) -> Path:
    """The folder of a finished comparison, trained once for all tests: scratch, ``tiny/frozen``, ``tiny/full``."""
    folder, lines = tmp_path_factory.mktemp("unbroken") / "work", []
    few = {"sources": {"tiny": str(source)}, **FEW, "policies": ["frozen", "full"]}
    with cheaply(picture):
        compare("resunet18_hippocampus", folder, cfg_options=options, log=lines.append, **few)
    (folder / "said.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture
def fake_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[str]]:
    """Nothing trains: every run has a made-up result. Gives the names of the runs that were done, in their order."""
    done = tmp_path / "done.txt"

    def made(plan: Plan, run: Run, folder: Path) -> RunResult:
        with done.open("a") as file:
            file.write(f"{run.name}\n")
        scores = {case.id: {"box": 0.5} for case in plan.test}
        return made_run(run.arm.name, len(run.training_cases), run.seed, scores, classes=["background", "box"])

    monkeypatch.setattr(run, "train_and_score", made)
    return lambda: done.read_text().split() if done.exists() else []


def assert_same_results(one: Path, other: Path) -> None:
    """Bit for bit, but for the time that the training took."""
    first, second = (read_results(folder / "results") for folder in (one, other))
    assert [result.arm for result in first] == [result.arm for result in second]
    for pair in zip(first, second, strict=True):
        texts = [repr(msgspec.structs.replace(result, seconds=0.0)) for result in pair]
        assert texts[0] == texts[1]
