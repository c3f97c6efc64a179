"""One run of a comparison: trained, or trained to its end if it was cut; scored; reduced to its result."""

from __future__ import annotations

import gc
import json
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

import torch

from ..adapter import persist
from ..errors import CheckpointError
from ..training.checkpoints import LAST, find_resumable
from ..training.lock import LOCK
from ..training.run import run as train
from ..version import __version__
from .curve import read_curve
from .features import feature_report
from .results import RunResult
from .runs import Plan, Run, run_config
from .scores import feature_images, score_cases
from .start import starting_network

LIBRARIES = ("torch", "monai", "mmengine", "numpy")


def train_and_score(plan: Plan, run: Run, folder: Path) -> RunResult:
    """Train and score.

    Args:
        plan: The comparison.
        run: One of its runs.
        folder: The training folder; what a cut run left there is gone on with.

    Raises:
        MedTransferError: the training or a test case failed; the folder stays as it is.
    """
    if not _is_trained(folder):
        _train(plan, run, folder)
    return _result(plan, run, folder)


def _is_trained(folder: Path) -> bool:
    """Whether an earlier attempt was cut when its training was over."""
    return (folder / "report.json").exists() and (folder / "best").is_dir()


def _train(plan: Plan, run: Run, folder: Path) -> None:
    """Go on from the newest checkpoint; a run that has none that can be read begins anew."""
    try:
        find_resumable(folder)
    except CheckpointError:
        shutil.rmtree(folder, ignore_errors=True)
    train(run_config(plan, run), folder, resume="auto" if folder.exists() else None)


def _result(plan: Plan, run: Run, folder: Path) -> RunResult:
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    layout, best = plan.dataset.layout, folder / "best"
    scores = score_cases(best, plan.test, layout)
    images = feature_images(plan.dataset, plan.test)
    drift, dead = feature_report(starting_network(plan, run), persist.load(best), images)
    return RunResult(
        arm=run.arm.name,
        source=run.arm.source,
        policy=run.arm.policy,
        training_cases=len(run.training_cases),
        seed=run.seed,
        steps=report["steps"],
        task=layout.task,  # type: ignore[arg-type]
        classes=list(layout.classes),
        cases=scores,
        curve=read_curve(folder),
        drift=drift,
        dead=dead,
        seconds=report["seconds"]["training"],
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    libraries = {name: version(name) for name in LIBRARIES}
    return {"medtransfer": __version__, "python": platform.python_version(), **libraries}


def reduce_folder(folder: Path, keep_models: bool) -> None:
    """Delete what a run does not need once its result is written.

    Args:
        folder: The training folder.
        keep_models: Keep the model folder ``best``. Checkpoints go in any case.
    """
    for path in (*folder.glob("*.pth"), folder / LAST, folder / LOCK):
        path.unlink(missing_ok=True)
    if not keep_models:
        shutil.rmtree(folder / "best", ignore_errors=True)
    gc.collect()  # the runner holds itself in circles, and with it the network and the cases
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
