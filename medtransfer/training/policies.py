"""The config key ``finetune`` at work: what is frozen before the start, the phases, the groups of the optimizer."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from ..errors import ConfigError, ModelError, UsageError
from ..finetune.freeze import freeze
from ..finetune.groups import param_groups
from ..finetune.l2sp import SourcePenalty
from ..finetune.lora import add_lora
from ..finetune.phases import Phase, build_phases, frozen_now, phase_at, train_only
from ..finetune.plan import FineTuning, read_finetune
from ..finetune.select import Parameters, select
from ..finetune.trainable import TrainableTable, trainable_table
from . import averaging
from .checkpoint_hooks import plain_model
from .registry import OPTIM_WRAPPERS, OPTIMIZERS, REGISTRIES
from .tasks import Task

OPTIM_WRAPPER_CONSTRUCTORS = REGISTRIES["OPTIM_WRAPPER_CONSTRUCTORS"]


class ParameterGroups:
    """mmengine's constructor of the optimizer, with the groups of :func:`medtransfer.param_groups`.

    Args:
        optim_wrapper_cfg: The section ``optim_wrapper``.
        paramwise_cfg: Arguments of ``param_groups`` beside the optimizer's ``lr`` and ``weight_decay``.
    """

    def __init__(self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None) -> None:
        self.wrapper, self.arguments = copy.deepcopy(dict(optim_wrapper_cfg)), dict(paramwise_cfg or {})

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Every parameter is in a group, frozen ones too, so that none is missing when it is unfrozen."""
        optimizer = dict(self.wrapper["optimizer"])
        optimizer["params"] = param_groups(model, optimizer["lr"], _weight_decay(optimizer), **self.arguments)
        built = OPTIMIZERS.build(optimizer)
        return OPTIM_WRAPPERS.build({"type": "OptimWrapper", **self.wrapper, "optimizer": built})


def _weight_decay(optimizer: Mapping[str, Any]) -> float:
    """That of the config, else the optimizer's own default."""
    kind = OPTIMIZERS.get(optimizer["type"])
    default = inspect.signature(kind).parameters.get("weight_decay") if kind else None
    value = optimizer.get("weight_decay", 0.0 if default is None else default.default)
    return float(value)


def prepare(cfg: Config) -> None:
    """Write into a config what its key ``finetune`` asks of the optimizer, the hooks and the distributed wrapper.

    Raises:
        ConfigError: the optimizer has groups of its own, or no learning rate.
    """
    plan = read_finetune(cfg.get("finetune"))
    if plan is None:
        return
    wrapper = cfg.optim_wrapper
    if wrapper.get("constructor") or wrapper.get("paramwise_cfg"):
        raise ConfigError("finetune makes the optimizer's groups, but optim_wrapper has a constructor or paramwise_cfg")
    if "lr" not in wrapper.get("optimizer", {}):
        raise ConfigError("finetune needs optim_wrapper.optimizer.lr")
    if "OneCycleLR" in _schedulers(cfg) and (plan.layer_decay not in (None, 1) or plan.head_lr_mult != 1):
        reason = "param_scheduler OneCycleLR gives all parts one learning rate, finetune asks for several"
        raise ConfigError(reason, hint="Use type='OneCycle', which keeps their ratios")
    names = ("layer_decay", "head_lr_mult", "no_decay_norms")
    arguments = {name: getattr(plan, name) for name in names}
    wrapper.update(
        constructor="ParameterGroups",
        paramwise_cfg={**arguments, "no_decay": plan.l2sp_parts if plan.l2sp else []},
    )
    if plan.ema is not None:
        average = {"type": "EMAHook", "momentum": 1 - plan.ema, "priority": averaging.PRIORITY}
        cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), average]
    if plan.policy in ("lp_ft", "gradual"):
        # what is frozen for a while is in the wrapper from the start, and has no gradient in some steps
        cfg.find_unused_parameters = True


class FineTune(Hook):
    """Let the parts of the present phase train, and keep the weights that the penalty pulls to.

    Args:
        network: The network of the task.
        phases: When which parts train; none: as the network was given.
        penalty: The L2-SP penalty, if there is one.
    """

    priority = "NORMAL"

    def __init__(self, network: nn.Module, phases: Sequence[Phase] = (), penalty: SourcePenalty | None = None) -> None:
        self.phases, self.penalty = list(phases), penalty
        self._present: Phase | None = None
        fixed = frozen_now(network)
        self._fixed, self._norms = fixed.names, list(fixed.norms)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """A resumed run has to know the source weights."""
        if self.penalty is not None:
            checkpoint["source_weights"] = dict(self.penalty.source)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Take them back."""
        if self.penalty is not None and checkpoint.get("source_weights"):
            self.penalty.load(checkpoint["source_weights"])

    def before_train(self, runner: Runner) -> None:
        """Begin with the phase of the first step, which is a later one in a resumed run."""
        self._enter(runner)
        network = _network(runner)
        _say(runner, f"what trains:\n{what_trains(runner.cfg, network, self.phases, self.fixed(network))}")

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Go on to the next phase at its first step."""
        if self.phases and phase_at(self.phases, runner.iter) != self._present:
            self._enter(runner)
            assert self._present is not None
            _say(runner, f"from step {runner.iter + 1} on these train: {', '.join(self._present.trains)}")

    def _enter(self, runner: Runner) -> None:
        fixed = self.fixed(_network(runner)).freeze()
        if self.phases:
            self._present = phase_at(self.phases, runner.iter)
            train_only(fixed.model, self._present.trains, fixed)

    def fixed(self, network: nn.Module) -> Parameters:
        """What of the network is frozen in every phase."""
        # by name: mmengine may have exchanged synchronised norms
        everything = select(network, None)
        named = {name: everything.by_name[name] for name in self._fixed}
        return Parameters(network, named, {name: everything.norms[name] for name in self._norms})


class TellWhatTrains(Hook):
    """Log what trains, where no key ``finetune`` changes it."""

    def before_train(self, runner: Runner) -> None:
        """As :class:`FineTune` does."""
        _say(runner, f"what trains:\n{what_trains(runner.cfg, _network(runner))}")


def _say(runner: Runner, text: str) -> None:
    if is_main_process():
        runner.logger.info(text)


def _network(runner: Runner) -> nn.Module:
    return plain_model(runner).get_submodule("network")


def what_trains(
    cfg: Config, network: nn.Module, phases: Sequence[Phase] = (), fixed: Parameters | None = None
) -> TrainableTable:
    """The table of what trains, with the highest learning rates that the schedule comes to.

    Args:
        cfg: The config after :func:`prepare`.
        network: The network of the task after :func:`start`.
        phases, fixed: Of the hook that ``start`` gave, if it has phases.
    """
    return trainable_table(network, _groups(cfg, network), phases, fixed)


def _groups(cfg: Config, network: nn.Module) -> list[dict[str, Any]]:
    wrapper = cfg.optim_wrapper
    optimizer, is_own = wrapper.get("optimizer", {}), wrapper.get("constructor") == ParameterGroups.__name__
    schedulers = _schedulers(cfg)
    rate = schedulers.get("OneCycle") or schedulers.get("OneCycleLR") or optimizer.get("lr")
    if not isinstance(rate, int | float) or (
        not is_own and (wrapper.get("constructor") or wrapper.get("paramwise_cfg"))
    ):
        return []  # of the user's own making
    if is_own:
        return param_groups(network, rate, _weight_decay(optimizer), **wrapper.paramwise_cfg)
    return [{"params": list(network.parameters()), "lr": rate, "weight_decay": _weight_decay(optimizer)}]


def _schedulers(cfg: Config) -> dict[Any, float | None]:
    """Types of the schedulers, each with its highest learning rate where it states one."""
    given = cfg.get("param_scheduler") or []
    return {part.get("type"): part.get("eta_max") for part in ([given] if isinstance(given, Mapping) else given)}


def start(cfg: Config, task: Task, steps_per_epoch: int) -> list[Hook]:
    """Bring a task's network, which holds its source weights, into the state in which fine-tuning begins.

    Returns:
        The hook that goes on from there: :class:`FineTune`, without the key ``finetune`` :class:`TellWhatTrains`.

    Raises:
        ConfigError: the network has no such parts, or training is too short for the policy.
    """
    plan = read_finetune(cfg.get("finetune"))
    if plan is None:
        return [TellWhatTrains()]
    try:
        return [_start(plan, task, steps_of(cfg, steps_per_epoch), steps_per_epoch)]
    except (UsageError, ModelError) as error:
        raise ConfigError(f"finetune: {error.reason}", path=cfg.filename, hint=error.hint) from error


def _start(plan: FineTuning, task: Task, steps: int, steps_per_epoch: int) -> FineTune:
    network = task.network
    penalty = None if plan.l2sp is None else SourcePenalty(network, plan.l2sp, plan.l2sp_parts)
    task.penalty = penalty
    if plan.policy == "lora":
        add_lora(network, plan.rank, plan.pattern, plan.alpha)
        phases: list[Phase] = []
    else:
        phases = build_phases(plan.policy, network, steps, steps_per_epoch, plan.share, plan.every)
    if plan.freeze:
        freeze(network, plan.freeze, except_=plan.freeze_except or None)
    hook = FineTune(network, phases, penalty)
    if len(phases) == 1:
        # before the distributed wrapper counts what has gradients
        train_only(network, phases[0].trains, frozen_now(network))
    return hook


def stated_epoch(loader: Mapping[str, Any]) -> int | None:
    """Steps of an epoch where the config alone says them; None where they depend on the number of cases.

    >>> stated_epoch({"batch_size": 4, "sampler": {"samples_per_epoch": 10}}), stated_epoch({"batch_size": 4})
    (3, None)
    """
    samples = (loader.get("sampler") or {}).get("samples_per_epoch")
    if not samples:
        return None
    batches = samples / loader.get("batch_size", 1)
    return max(1, math.floor(batches) if loader.get("drop_last") else math.ceil(batches))


def steps_of(cfg: Config, steps_per_epoch: int) -> int:
    """Steps of the whole training."""
    loop = cfg.train_cfg
    return int(loop.get("max_iters") or loop["max_epochs"] * steps_per_epoch)


OPTIM_WRAPPER_CONSTRUCTORS.register_module(module=ParameterGroups)
