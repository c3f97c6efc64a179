"""The network that a run begins with, and whether it can be had at all: asked before anything trains."""

from __future__ import annotations

from mmengine.config import Config
from mmengine.runner import set_random_seed
from torch import nn

from ..errors import ConfigError, MedTransferError
from ..training import policies
from ..training.building import build_task
from ..training.check import check_config
from ..training.receipt import transferred
from ..training.registry import SCOPE
from ..training.run import spread
from ..training.runner import mmengine_scope
from ..training.tasks import Task
from .measures import MEASURES
from .runs import Plan, Run, run_config


def check_starts(plan: Plan) -> None:
    """Build the network of every arm, with its weights and its policy, as the first step would find them.

    Raises:
        MedTransferError: the config, a source or a policy was refused; the arm is named.
    """
    if plan.dataset.layout.task not in MEASURES:
        reason = f"compare scores {' and '.join(MEASURES)}, the config is for {plan.dataset.layout.task}"
        hint = "Train each start with medtransfer train; medtransfer evaluate -p A B compares two models"
        raise ConfigError(reason, hint=hint)
    firsts = {run.arm.name: run for run in reversed(plan.runs)}
    for name, run in firsts.items():
        try:
            _check(plan, run)
        except MedTransferError as error:
            if isinstance(error, ConfigError) and run.arm.source is None:
                raise  # a fault of the config, not of an arm
            raise type(error)(f"{name}: {error.reason}", path=error.path, hint=error.hint) from error


def _check(plan: Plan, run: Run) -> None:
    cfg = run_config(plan, run)
    spread(cfg)
    check_config(cfg)
    policies.prepare(cfg)
    task = _start(plan, cfg)
    policies.start(cfg, task, plan.steps // cfg.train_cfg.get("max_epochs", 1))


def starting_network(plan: Plan, run: Run) -> nn.Module | None:
    """The network as it was when the run began, drawn again from its seed; None from scratch."""
    if run.arm.source is None:
        return None
    cfg = run_config(plan, run)
    spread(cfg)
    set_random_seed(run.seed)
    return _start(plan, cfg).network


def _start(plan: Plan, cfg: Config) -> Task:
    with mmengine_scope("compare", SCOPE):
        task = build_task(cfg, plan.dataset.layout)
    transferred(cfg, task.network, plan.dataset, None)
    return task
