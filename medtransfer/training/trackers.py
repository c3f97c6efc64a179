"""Trackers as one line of a config: ``trackers = ["tensorboard", "mlflow"]``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from ..adapter.report import TransferReport
from ..errors import ConfigError
from . import mlflow_tracker, tensorboard_tracker
from .registry import TRACKERS
from .tracker import Start, Tracker, flat, plain_numbers

Metrics = Mapping[str, float]
REGISTERED = (mlflow_tracker, tensorboard_tracker)
#: sections of the config that are no parameters of the training
LEFT_OUT = ("trackers", "work_dir", "launcher", "log_level", "default_hooks", "visualizer", "medtransfer_version")


def as_parts(stated: Any) -> list[dict[str, Any]]:
    """The trackers of a config as dicts with a ``type``.

    Args:
        stated: A name, a dict, or a list of them; None: no trackers.

    Raises:
        ConfigError: something else, or a tracker twice.

    >>> as_parts(["tensorboard", {"type": "mlflow", "experiment": "spleen"}])
    [{'type': 'tensorboard'}, {'type': 'mlflow', 'experiment': 'spleen'}]
    """
    entries = stated if isinstance(stated, list | tuple) else [] if stated is None else [stated]
    wrong = [entry for entry in entries if not isinstance(entry, str | Mapping)]
    if wrong:
        raise ConfigError(f"trackers must be names or dicts with a type, got {wrong[0]!r}", hint=_known())
    parts = [{"type": entry} if isinstance(entry, str) else dict(entry) for entry in entries]
    kinds = [str(part.get("type")) for part in parts]
    twice = [kind for kind in kinds if kinds.count(kind) > 1]
    if twice:
        raise ConfigError(f"trackers names {twice[0]} twice")
    return parts


def _known() -> str:
    return f"Known: {', '.join(sorted(TRACKERS.module_dict))}"


def connected(cfg: Config) -> list[Tracker]:
    """The trackers of a config, each of which can be used; in the first process only.

    Raises:
        MissingExtraError: a library is not installed.
        ConfigError: a tracker cannot be used as configured.
    """
    if not is_main_process():
        return []
    built = [_built(part, cfg.work_dir) for part in as_parts(cfg.get("trackers"))]
    for tracker in built:
        tracker.connect()
    return built


def _built(part: Mapping[str, Any], work_dir: str) -> Tracker:
    kind = TRACKERS.get(part["type"])
    return kind(work_dir, **{key: value for key, value in part.items() if key != "type"})


def with_backends(visualizer: Any, trackers: Sequence[Tracker]) -> Any:
    """The config's ``visualizer``, or mmengine's own, with the trackers among its backends."""
    if not trackers:
        return visualizer
    stated = dict(visualizer or {"type": "Visualizer", "vis_backends": [{"type": "LocalVisBackend"}]})
    before = stated.get("vis_backends") or []
    return {**stated, "vis_backends": [*([before] if isinstance(before, Mapping) else before), *trackers]}


class Track(Hook):
    """Opens the trackers when training begins, gives them what mmengine's log does not, and ends them in any case.

    Args:
        trackers: Those of :func:`connected`.
        name: Of the config.
        metric: Name of the score that ``best`` is chosen by.
        report: What was transferred.
    """

    # before whatever validates at the start, and before mmengine's logger closes the backends at the end
    priority = "HIGH"

    def __init__(self, trackers: Sequence[Tracker], name: str, metric: str, report: TransferReport | None) -> None:
        self.trackers, self.name, self.metric, self.report = list(trackers), name, metric, report
        self._start: Start | None = None

    def before_train(self, runner: Runner) -> None:
        """Begin, or go on: the config, and at the start of a run its transfer."""
        if not self.trackers:
            return
        parameters = flat({key: value for key, value in runner.cfg.to_dict().items() if key not in LEFT_OUT})
        self._start = Start(self.name, runner.iter, parameters, runner.message_hub)
        for tracker in self.trackers:
            tracker.log = runner.logger
            runner.logger.info(f"{type(tracker).__name__}: {tracker.open(self._start)}")
            tracker.is_open = True
            tracker.try_to(tracker.write_text, "config.py", runner.cfg.pretty_text)
        if self.report is not None and not runner.iter:
            self._write_transfer(self.report)

    def _write_transfer(self, report: TransferReport) -> None:
        for tracker in self.trackers:
            tracker.try_to(tracker.write_numbers, {"transfer/coverage": report.coverage}, 0)
            tracker.try_to(tracker.write_text, "transfer", str(report))

    def after_val_epoch(self, runner: Runner, metrics: Metrics | None = None) -> None:
        """The scores, beside the steps of the losses; mmengine's log counts epochs here."""
        scores = plain_numbers({f"val/{name}": value for name, value in (metrics or {}).items()})
        for tracker in self.trackers:
            tracker.try_to(tracker.write_numbers, scores, runner.iter)

    def after_run(self, runner: Runner) -> None:
        """All files are written: the picture of the progress, the best score, and the end."""
        best = runner.message_hub.get_info("best_score")
        scores = {} if best is None else {f"best/{self.metric}": float(best)}
        for name, picture in _pictures(Path(runner.work_dir)):
            for tracker in self.trackers:
                tracker.try_to(tracker.write_picture, name, picture, runner.iter)
        self._end("FINISHED", scores)

    def close(self) -> None:
        """End the trackers of a run that did not come to its end."""
        error = sys.exc_info()[1]
        self._end("FAILED" if isinstance(error, Exception) else "KILLED", {})

    def _end(self, outcome: str, scores: Mapping[str, float]) -> None:
        for tracker in self.trackers:
            tracker.try_to(tracker.end, outcome, self._start, scores)
            tracker.is_open = False


def _pictures(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as picture:
            yield path.stem, np.asarray(picture.convert("RGB"))
