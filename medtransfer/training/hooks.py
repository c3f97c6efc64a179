"""What happens beside the training steps: safe checkpoints, a stop at NaN, the best model, a progress bar, a report."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from ..adapter.persist import save
from ..errors import CheckpointError, ConfigError, MedTransferError
from ..files import atomic_file
from ..reporting.curves import curves_png
from .checkpoints import LAST, as_history, as_plain, random_states, restore_random_states
from .registry import HOOKS

Metrics = Mapping[str, float]


class KeepCheckpoints(CheckpointHook):
    """mmengine's checkpoints, where older ones are deleted after the new one is written, never before.

    Args:
        max_keep_ckpts: How many to keep, at least 2, so that one is left when the newest turns out damaged; -1: all.
        **arguments: See mmengine's ``CheckpointHook``; its ``save_best`` is replaced by the folder ``best``.

    Raises:
        ConfigError: fewer than two are to be kept.
    """

    def __init__(self, max_keep_ckpts: int = 2, **arguments: Any) -> None:
        if 0 <= max_keep_ckpts < 2:
            raise ConfigError(f"default_hooks.checkpoint.max_keep_ckpts must be 2 or more, or -1, got {max_keep_ckpts}")
        if arguments.get("save_best") or arguments.get("published_keys"):
            raise ConfigError("save_best and published_keys are not used: the best weights are in the folder 'best'")
        super().__init__(max_keep_ckpts=-1, **arguments)
        self.keep = max_keep_ckpts

    def before_train(self, runner: Runner) -> None:
        """Checkpoints lie in the run's own folder."""
        self.out_dir = runner.work_dir

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        name = self.filename_tmpl.format(step)
        self.last_ckpt = str(Path(self.out_dir) / name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
        )
        if is_main_process():
            with atomic_file(Path(runner.work_dir) / LAST, overwrite=True) as part:
                part.write_text(self.last_ckpt)
            self._delete_older(step)

    def after_val_epoch(self, runner: Runner, metrics: Metrics | None = None) -> None:
        """Write a checkpoint of this very step again, now that its scores are known: a resumed run keeps them."""
        step = runner.epoch if self.by_epoch else runner.iter
        if self.last_ckpt is not None and Path(self.last_ckpt).name == self.filename_tmpl.format(step):
            self._save_checkpoint_with_step(runner, step, {"epoch": runner.epoch, "iter": runner.iter})

    def _delete_older(self, step: int) -> None:
        pattern = self.filename_tmpl.replace("{}", "*")
        prefix, _, suffix = self.filename_tmpl.partition("{}")
        numbers = {path: path.name[len(prefix) : -len(suffix)] for path in Path(self.out_dir).glob(pattern)}
        steps = {path: int(number) for path, number in numbers.items() if number.isdigit() and int(number) <= step}
        if self.keep > 0:
            for path in sorted(steps, key=lambda path: steps[path])[: -self.keep]:
                path.unlink(missing_ok=True)


class PlainCheckpoints(Hook):
    """Turn checkpoints into plain data on the way out, and back on the way in; keep the states of all generators.

    A resumed run then equals an unbroken one bit for bit on the same machine.
    """

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self._states: Mapping[str, Any] | None = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Leave tensors, numbers and words only."""
        weights = checkpoint.pop("state_dict")
        plain = as_plain(checkpoint)
        checkpoint.clear()
        checkpoint.update(plain, state_dict=weights, random_states=random_states())

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Rebuild the histories; drop the entry that mmengine would run as Python; compare the networks."""
        # Runner.resume executes meta["config"]; a checkpoint is data
        checkpoint.get("meta", {}).pop("config", None)
        hub = checkpoint.get("message_hub", {})
        histories = {key: as_history(record) for key, record in hub.get("log_scalars", {}).items()}
        hub["log_scalars"] = {key: history for key, history in histories.items() if history is not None}
        self._states = checkpoint.get("random_states")
        _refuse_other_network(_plain_model(runner), checkpoint["state_dict"])

    def before_train(self, runner: Runner) -> None:
        """Restore the generators after a resume; give the loaders generators of their own.

        A loader draws a number from the global generator each time that it starts, validation included.
        """
        loaders = [runner.train_dataloader, *([] if runner.val_loop is None else [runner.val_dataloader])]
        for loader in loaders:
            loader.generator = torch.Generator()
        if self._states is not None:
            restore_random_states(self._states)
            self._states = None


def _plain_model(runner: Runner) -> nn.Module:
    model = runner.model
    return model.module if hasattr(model, "module") else model


def _refuse_other_network(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """mmengine would load what fits and log the rest."""
    own = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    theirs = {key: tuple(value.shape) for key, value in weights.items()}
    differing = [key for key in {**own, **theirs} if own.get(key) != theirs.get(key)]
    if differing:
        listed = ", ".join(f"{key} {theirs.get(key, 'absent')} / {own.get(key, 'absent')}" for key in differing[:3])
        raise CheckpointError(
            f"the checkpoint is of another network: {len(differing)} tensors differ (checkpoint / config): {listed}",
            hint="Resume with the config that the run was started with",
        )


def _loss(outputs: Mapping[str, Any] | None) -> float:
    loss = (outputs or {}).get("loss", 0.0)
    return float(loss.detach()) if isinstance(loss, torch.Tensor) else float(loss)


class StopAtNaN(Hook):
    """Stop when the loss is not a finite number: nothing that follows could be used."""

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Look at the loss of the step.

        Raises:
            MedTransferError: it is NaN or infinite; the cases of the batch are named.
        """
        loss = _loss(outputs)
        if not math.isfinite(loss):
            cases = ", ".join(dict.fromkeys((data_batch or {}).get("case", ())))
            hint = "Take a smaller learning rate or clip gradients; the last checkpoint and best/ are from before"
            raise MedTransferError(f"the loss is {loss} at step {runner.iter + 1}, with the cases {cases}", hint=hint)


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
        """Save if the score is higher than all before."""
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
        """Without any validation the last weights are the best there are."""
        if not (Path(runner.work_dir) / "best").exists():
            self._save(runner, {})

    def _save(self, runner: Runner, scores: dict[str, float]) -> None:
        if not is_main_process():
            return
        network = cast("nn.Module", _plain_model(runner).network)
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
            text = f"training  loss {_loss(outputs):.3f}"
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
            **self.facts,
        }
        text = msgspec.json.format(msgspec.json.encode(report), indent=2)
        with atomic_file(Path(runner.work_dir) / "report.json", overwrite=True) as part:
            part.write_bytes(text + b"\n")
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


for _hook in (KeepCheckpoints, PlainCheckpoints, StopAtNaN, BestModel, ProgressBar, RunReport):
    HOOKS.register_module(module=_hook)
