"""The hooks of mmengine through which checkpoints go: what is in them, when one is written, which are kept."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from ..errors import ConfigError
from ..files import atomic_file
from .checkpoints import LAST, NAME, as_history, as_plain, random_states, restore_random_states
from .fitting import refuse_other_network, refuse_other_optimizer
from .loops import IterBasedTrainLoop
from .registry import HOOKS

Metrics = Mapping[str, float]


def plain_model(runner: Runner) -> nn.Module:
    """The model without the wrapper that a distributed run has around it."""
    model = runner.model
    return model.module if hasattr(model, "module") else model


def save_position(runner: Runner, name: str, epoch: int, step: int, **parts: bool) -> Path:
    """Write a checkpoint of a run that has done so many whole epochs and steps; every process must call this.

    ``last_checkpoint`` follows it. A kill between the two does no harm, since resuming does not ask that file.

    Args:
        runner: The runner.
        name: The file's, in the run's folder.
        epoch: Whole epochs done.
        step: Steps done.
        **parts: ``save_optimizer``, ``save_param_scheduler``.
    """
    # each process draws from generators of its own
    runner.random_states_of_all = all_gather_object(random_states())
    runner.gradients_of_all = all_gather_object(_gradients(runner))
    path = Path(runner.work_dir) / name
    runner.message_hub.update_info("last_ckpt", str(path))
    runner.save_checkpoint(runner.work_dir, name, meta={"epoch": epoch, "iter": step}, by_epoch=False, **parts)
    if is_main_process():
        with atomic_file(path.with_name(LAST), overwrite=True) as part:
            part.write_text(str(path))
    return path


class KeepCheckpoints(CheckpointHook):
    """mmengine's checkpoints, where older ones are deleted after the new one is written and read back, never before.

    Args:
        max_keep_ckpts: How many to keep, at least 2, so that one is left when the newest turns out damaged; -1: all.
        **arguments: See mmengine's ``CheckpointHook`` (``interval``, ``by_epoch``); its ``save_best`` is replaced by
            the folder ``best``.

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
        parts = {"save_optimizer": self.save_optimizer, "save_param_scheduler": self.save_param_scheduler}
        name = self.filename_tmpl.format(step)
        self.last_ckpt = str(save_position(runner, name, meta["epoch"], meta["iter"], **parts))
        if is_main_process():
            self._delete_older(step, meta["iter"])

    def after_val_epoch(self, runner: Runner, metrics: Metrics | None = None) -> None:
        """Write a checkpoint of this very step again, now that its scores are known: a resumed run keeps them."""
        step = runner.epoch if self.by_epoch else runner.iter
        # the last one may have been written before this run was resumed
        last = runner.message_hub.get_info("last_ckpt") or ""
        if Path(last).name == self.filename_tmpl.format(step):
            self._save_checkpoint_with_step(runner, step, {"epoch": runner.epoch, "iter": runner.iter})

    def _delete_older(self, number: int, step: int) -> None:
        """Delete older files of this hook's kind, and those that a signal or another interval left behind."""
        if self.keep < 0:
            return
        kind = self.filename_tmpl.partition("{}")[0]
        own: dict[int, Path] = {}
        others: dict[int, Path] = {}
        for path in Path(self.out_dir).glob("*.pth"):
            if found := NAME.fullmatch(path.name):
                (own if path.name.startswith(kind) else others)[int(found[1])] = path
        past = sorted(found for found in own if found <= number)
        for old in past[: -self.keep]:
            own[old].unlink(missing_ok=True)
        if kind == "epoch_" and len(past) >= self.keep:
            for path in [path for done, path in others.items() if done <= step]:
                path.unlink(missing_ok=True)


class PlainCheckpoints(Hook):
    """Turn checkpoints into plain data on the way out, and back on the way in, with all that a step depends on.

    Beside mmengine's own (weights, optimizer, schedules, histories) these are the states of all random generators, the
    place within the epoch, and gradients that wait for their step. A resumed run then equals an unbroken one bit for
    bit on the same machine.
    """

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self._loaded: Mapping[str, Any] = {}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Leave tensors, numbers and words only."""
        weights = checkpoint.pop("state_dict")
        plain = as_plain(checkpoint)
        plain["meta"].update(
            steps_per_epoch=len(runner.train_dataloader),
            optimizer_type=type(runner.optim_wrapper.optimizer).__name__,
            model=as_plain(runner.cfg.get("model", {}).to_dict()) if runner.cfg.get("model") else {},
        )
        checkpoint.clear()
        gradients = getattr(runner, "gradients_of_all", None) or [_gradients(runner)]
        checkpoint.update(plain, state_dict=weights, gradients=gradients if any(gradients) else [])
        checkpoint["random_states"] = getattr(runner, "random_states_of_all", None) or [random_states()]

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Rebuild the histories; drop the entry that mmengine would run as Python; compare with this run."""
        # Runner.resume executes meta["config"]; a checkpoint is data
        meta = checkpoint.get("meta", {})
        meta.pop("config", None)
        hub = checkpoint.get("message_hub", {})
        histories = {key: as_history(record) for key, record in hub.get("log_scalars", {}).items()}
        hub["log_scalars"] = {key: history for key, history in histories.items() if history is not None}
        stated = runner.cfg.get("model")
        refuse_other_network(plain_model(runner), checkpoint["state_dict"], meta.get("model"), stated)
        refuse_other_optimizer(runner.optim_wrapper.optimizer, checkpoint.get("optimizer", {}), meta)
        _go_to_batch(runner, meta)
        self._loaded = {key: checkpoint.get(key) for key in ("random_states", "gradients")}

    def before_train(self, runner: Runner) -> None:
        """Restore the generators after a resume; make up for a validation that the end of the run left out."""
        loaded, self._loaded = self._loaded, {}
        if not loaded:
            return
        parameters = dict(plain_model(runner).named_parameters())
        for name, gradient in _own_gradients(loaded["gradients"]).items():
            parameters[name].grad = gradient.to(parameters[name].device)
        _restore(loaded["random_states"])
        if _validation_is_due(runner):
            runner.val_loop.run()


def _gradients(runner: Runner) -> dict[str, torch.Tensor]:
    """Those that are being accumulated: after a step of the optimizer there are none."""
    named = plain_model(runner).named_parameters()
    return {name: value.grad.detach().cpu() for name, value in named if value.grad is not None}


def _own_gradients(gradients: Any) -> Mapping[str, torch.Tensor]:
    """Those of this process, which are summed with the others' when the step is made; of other processes, the mean."""
    parts = [gradients] if isinstance(gradients, Mapping) else list(gradients or ())
    if not parts or len(parts) == get_world_size():
        return parts[get_rank()] if parts else {}
    # added one by one they keep their layout in memory
    return {name: sum((part[name] for part in parts[1:]), parts[0][name]) / len(parts) for name in parts[0]}


def _restore(states: Any) -> None:
    """The states of this process; a run with other processes than before cannot equal it, and is told so."""
    states = [states] if isinstance(states, Mapping) else list(states or ())
    if len(states) not in (0, get_world_size()):
        text = f"the checkpoint has the random states of {len(states)} processes, this run has {get_world_size()}"
        warnings.warn(f"{text}: it goes on, but not bit for bit as it would have", stacklevel=2)
    if states:
        restore_random_states(states[get_rank() % len(states)])


def _go_to_batch(runner: Runner, meta: Mapping[str, Any]) -> None:
    """Let an epoch that was left half done begin with its next batch."""
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        return
    loader = runner.train_dataloader
    length = int(meta.get("steps_per_epoch", len(loader)))
    done = int(meta.get("iter", 0)) - int(meta.get("epoch", 0)) * length
    if length == len(loader):
        loader.first_batch = min(max(done, 0), length)
        return
    text = f"an epoch has {len(loader)} steps now, {length} when the checkpoint was written"
    again = f"; the {done} steps of the epoch that was left are trained again" if 0 < done < length else ""
    warnings.warn(f"{text}: it goes on, but not bit for bit as it would have{again}", stacklevel=2)


def _validation_is_due(runner: Runner) -> bool:
    """Whether the run ended between the last step before a validation and the scores."""
    loop, rows = runner.train_loop, runner.message_hub.get_info("scores_by_step", [])
    if runner.val_loop is None or runner.iter == 0 or any(row.get("step") == runner.iter for row in rows):
        return False
    if isinstance(loop, IterBasedTrainLoop):
        return loop.validates(runner.iter)
    between = runner.train_dataloader.first_batch == 0 and loop.epoch >= loop.val_begin
    return between and (loop.epoch % loop.val_interval == 0 or loop.epoch == loop.max_epochs)


for _hook in (KeepCheckpoints, PlainCheckpoints):
    HOOKS.register_module(module=_hook)
