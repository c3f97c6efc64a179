"""mmengine's Runner with logs on stderr, a quiet start and checkpoints read as data."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch import nn

from .checkpoint_hooks import plain_model
from .compiling import compile_network
from .norms import synchronise_without_cuda


class _CurrentStderr:
    """Whatever ``sys.stderr`` is at the moment (a progress bar replaces it for a while)."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


class TrainingRunner(Runner):
    """A Runner whose console shows the training; the environment, the config and the hooks go to the log file only."""

    _timestamp: str

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        for handler in _console_handlers(self.logger):
            # the others' errors, not the same lines over again
            handler.setLevel("ERROR" if self.rank else arguments.get("log_level", "INFO"))
        # each checkpoint holds the config's text: laying it out takes longer than a training step
        object.__setattr__(self.cfg, "_format_python_code", False)

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """mmengine's, and a name for this run's own folder that no earlier run has, whatever the clock says."""
        super().setup_env(env_cfg)
        taken = {path.name for path in Path(self._work_dir).glob(f"{self._timestamp}*")}
        names = [self._timestamp, *(f"{self._timestamp}_{number}" for number in range(2, len(taken) + 2))]
        free = [next(name for name in names if name not in taken)]
        broadcast_object_list(free)  # the first process may have made its folder already
        self._timestamp = free[0]

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """mmengine's, where synchronised norms stay the modules they are: others may share them.

        With one process they are batch norms; mmengine would exchange them.
        """
        if not self.distributed:
            return model.to(get_device())
        if not torch.cuda.is_available():
            synchronise_without_cuda(model)
        return super().wrap_model(model_wrapper_cfg, model)

    def scale_lr(self, optim_wrapper: Any, auto_scale_lr: dict[str, Any] | None = None) -> None:
        """mmengine's; schedules that set learning rates themselves follow it."""
        groups = optim_wrapper.param_groups
        before = [group["lr"] for group in groups]
        super().scale_lr(optim_wrapper, auto_scale_lr)
        for group, rate in zip(groups, before, strict=True):
            if rate and group["lr"] != rate:
                group["lr_scale"] = group.get("lr_scale", 1.0) * group["lr"] / rate

    def build_train_loop(self, loop: Any) -> Any:
        """The loop of ``train_cfg``; by steps it is the one of :mod:`medtransfer.training.loops`."""
        if isinstance(loop, dict) and "type" not in loop and not loop.get("by_epoch", True):
            loop = {"type": "IterBasedTrainLoop", **{key: loop[key] for key in loop if key != "by_epoch"}}
        return super().build_train_loop(loop)

    def _maybe_compile(self, target: str) -> None:
        # mmengine's compiles the whole step, hooks of the data included, before it knows whether it can
        if target == "train_step":
            dtype = getattr(self.optim_wrapper, "dtype", torch.float32)
            compile_network(cast("nn.Module", plain_model(self).network), self.cfg.get("compile"), dtype)

    def build_logger(self, log_level: int | str = "INFO", log_file: str | None = None, **kwargs: Any) -> MMLogger:
        """mmengine's logger; standard output belongs to results, so it writes to stderr."""
        logger = super().build_logger(log_level, log_file, logger_name="medtransfer", **kwargs)
        for handler in _console_handlers(logger):
            handler.setStream(_CurrentStderr())
            handler.setLevel("WARNING")
        for handler in logger.handlers:
            handler.addFilter(_says_something)
        return logger


# mmengine about its own insides, and a name repeated after every epoch
NOISE = ("Exp name", '"FileClient" will be', '"HardDiskBackend" is')


def _says_something(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(NOISE)


def _console_handlers(logger: logging.Logger) -> list[logging.StreamHandler[Any]]:
    return [
        h for h in logger.handlers if isinstance(h, logging.StreamHandler) and not isinstance(h, logging.FileHandler)
    ]


@contextmanager
def mmengine_scope(name: str, scope: str) -> Iterator[None]:
    """mmengine's global objects for one run, taken away afterwards: two runs in one process do not meet.

    Messages that come before the Runner has its own logger are shown from warnings on.
    """
    managers = (MMLogger, MessageHub, Visualizer, DefaultScope)
    before = [dict(manager._instance_dict) for manager in managers]
    DefaultScope.get_instance(f"{name}-scope", scope_name=scope)
    logger = MMLogger.get_instance(f"{name}-start", logger_name=scope, log_level="WARNING")
    for handler in _console_handlers(logger):
        handler.setStream(_CurrentStderr())
    try:
        yield
    finally:
        for created in set(MMLogger._instance_dict) - set(before[0]):
            for handler in MMLogger._instance_dict[created].handlers:
                handler.close()
        for manager, instances in zip(managers, before, strict=True):
            manager._instance_dict.clear()
            manager._instance_dict.update(instances)
