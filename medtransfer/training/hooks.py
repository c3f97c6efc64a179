"""What happens beside the training steps: a stop at NaN, the best model, a progress bar, a report."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from ..adapter.persist import save
from ..errors import ConfigError, MedTransferError
from ..files import write_json
from ..finetune.lora import merged
from ..reporting.curves import curves_png
from .averaging import averaged
from .checkpoint_hooks import plain_model
from .checkpoints import not_finite
from .late import LateNumbers
from .registry import HOOKS

Metrics = Mapping[str, float]


class StopAtNaN(Hook):
    """Stop when the loss is not a finite number, and before weights that are not are written.

    Args:
        steps: After how many such steps in a row. More than one makes sense where steps with such gradients are left
            out, as loss scaling in float16 does.
    """

    def __init__(self, steps: int = 1) -> None:
        self.steps, self._in_a_row, self._cases = steps, 0, ""
        self._numbers = LateNumbers[tuple[int, str]]()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Look at the loss of the step; on a GPU at that of the step before, so that nothing waits.

        Raises:
            MedTransferError: it is NaN or infinite; the step and the cases of its batch are named.
        """
        self._cases = ", ".join(dict.fromkeys((data_batch or {}).get("case", ())))
        self._numbers.put((runner.iter + 1, self._cases), {"loss": (outputs or {}).get("loss", 0.0)})
        self._look()

    def before_val(self, runner: Runner) -> None:
        """Look at all losses: what is validated may be kept."""
        self._look(all_of_them=True)

    def after_train(self, runner: Runner) -> None:
        """Look at all losses."""
        self._look(all_of_them=True)

    def _look(self, all_of_them: bool = False) -> None:
        for (step, cases), found in self._numbers.come(all_of_them):
            self._in_a_row = 0 if math.isfinite(found["loss"]) else self._in_a_row + 1
            if self._in_a_row >= self.steps:
                raise self._error(f"the loss is {found['loss']} at step {step}", cases)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Look at the weights: a gradient may be NaN where the loss was a number still.

        Raises:
            MedTransferError: weights that are NaN or infinite; the older checkpoints stay.
        """
        self._look(all_of_them=True)
        wrong, step = not_finite(checkpoint["state_dict"]), checkpoint["meta"]["iter"]
        if wrong:
            raise self._error(f"{len(wrong)} tensors hold NaN after step {step}, {wrong[0]} among them", self._cases)

    def _error(self, reason: str, cases: str) -> MedTransferError:
        hint = "Take a smaller learning rate or clip gradients; the last checkpoint and best/ are from before"
        return MedTransferError(f"{reason}, with the cases {cases}", hint=hint)


class BestModel(Hook):
    """Keep the weights with the best score as the model folder ``best``.

    Args:
        metric: Name of the score, such as ``dice/mean``.
        card: What the model's card says; the score is added.
    """

    priority = "LOW"

    def __init__(self, metric: str, card: Mapping[str, Any]) -> None:
        self.metric, self.card = metric, dict(card)

    def after_val_epoch(self, runner: Runner, metrics: Metrics | None = None) -> None:
        """Save if the score is higher than all before.

        Raises:
            ConfigError: there is no such score.
        """
        if self.metric not in (metrics or {}):
            raise ConfigError(f"best_metric {self.metric!r} is not among the scores: {', '.join(metrics or {})}")
        scores = {name: float(value) for name, value in (metrics or {}).items() if math.isfinite(value)}
        best = runner.message_hub.get_info("best_score")
        if self.metric in scores and (best is None or scores[self.metric] > best):
            runner.message_hub.update_info("best_score", scores[self.metric])
            runner.message_hub.update_info("best_step", runner.iter)
            runner.message_hub.update_info("best_scores", scores)
            self._save(runner, scores)

    def after_train(self, runner: Runner) -> None:
        """Without any validation the last weights, or their average, are the best there are."""
        nothing_chosen = runner.message_hub.get_info("best_score") is None
        if nothing_chosen or not (Path(runner.work_dir) / "best").exists():
            with averaged(runner):
                self._save(runner, {})

    def _save(self, runner: Runner, scores: dict[str, float]) -> None:
        if not is_main_process():
            return
        network = merged(cast("nn.Module", plain_model(runner).network))
        save(network, Path(runner.work_dir) / "best", {**self.card, "metrics": scores}, overwrite=True)
        score = f"{self.metric} {scores[self.metric]:.4f}" if scores else "no validation"
        runner.logger.info(f"best/ holds the weights of step {runner.iter} ({score})")


class ProgressBar(Hook):
    """A bar on stderr, if that is a terminal."""

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def before_train(self, runner: Runner) -> None:
        """Show it."""
        if not (sys.stderr.isatty() and is_main_process()):
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("training", total=runner.max_iters, completed=runner.iter)
        self._progress.start()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Move it."""
        if self._progress is not None:
            known = runner.message_hub.log_scalars.get("train/loss")
            text = f"training  loss {known.current():.3f}" if known is not None else "training"
            self._progress.update(self._task, completed=runner.iter + 1, description=text)

    def after_train(self, runner: Runner) -> None:
        """Take it away."""
        self.close()

    def close(self) -> None:
        """Give the terminal back, also after an error."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class RunReport(Hook):
    """Write ``report.json`` and ``progress.png`` when training has ended.

    Args:
        metric: Name of the score that ``best`` was chosen by.
        facts: Anything else that belongs into the report (data, transfer).
    """

    priority = "LOW"

    def __init__(self, metric: str, facts: Mapping[str, Any]) -> None:
        self.metric, self.facts = metric, dict(facts)

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        self._start, self._first_step = time.perf_counter(), runner.iter

    def after_val_epoch(self, runner: Runner, metrics: Metrics | None = None) -> None:
        """Keep the scores in the checkpoint's own memory, so that a resumed run reports all of them."""
        rows = runner.message_hub.get_info("scores_by_step", [])
        row = {name: _finite(value) for name, value in (metrics or {}).items()}
        runner.message_hub.update_info("scores_by_step", [*rows, {"step": runner.iter, **row}])

    def after_train(self, runner: Runner) -> None:
        """Write both files."""
        if not is_main_process():
            return
        hub, seconds = runner.message_hub, time.perf_counter() - self._start
        report = {
            "best": {
                "metric": self.metric,
                "score": hub.get_info("best_score"),
                "step": hub.get_info("best_step"),
                "scores": hub.get_info("best_scores"),
                "folder": "best",
            },
            "validations": hub.get_info("scores_by_step", []),
            "steps": runner.iter,
            "seconds": {"training": round(seconds, 2), "step": _mean(hub, "time"), "data": _mean(hub, "data_time")},
            "resumed_at_step": self._first_step or None,
            "calibration": hub.get_info("calibration"),
            **self.facts,
        }
        write_json(Path(runner.work_dir) / "report.json", report)
        self._draw(runner)

    def _draw(self, runner: Runner) -> None:
        losses, _ = runner.message_hub.get_scalar("train/loss").data
        curves: dict[str, list[tuple[float, float]]] = {
            "training loss": [(step + 1, float(loss)) for step, loss in enumerate(losses)]
        }
        rows = runner.message_hub.get_info("scores_by_step", [])
        scores = [(row["step"], row[self.metric]) for row in rows if row.get(self.metric) is not None]
        curves.update({self.metric: scores} if scores else {})
        curves_png(curves, Path(runner.work_dir) / "progress.png", overwrite=True)


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _mean(hub: Any, name: str) -> float | None:
    """Mean of a timer of the training steps, seconds; the first step, which warms up, left out."""
    if f"train/{name}" not in hub.log_scalars:
        return None
    values, _ = hub.get_scalar(f"train/{name}").data
    return round(float(values[1:].mean()), 5) if len(values) > 1 else None


for _hook in (StopAtNaN, BestModel, ProgressBar, RunReport):
    HOOKS.register_module(module=_hook)
