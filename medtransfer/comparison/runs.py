"""The runs of a comparison: every arm with every number of cases and every seed, each with a config of its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from ..data.cases import Case
from ..data.dataset import CaseDataset
from ..errors import ConfigError
from ..reporting.words import counted
from ..training import policies, registry
from ..training.loaders import in_config_words
from ..training.run import spread
from .cases import divide_cases, training_order
from .plan import Arm, Comparison, build_arms

#: log lines of a run, which become its curve
CURVE_POINTS = 50
#: checkpoints of a run, from which it goes on when it was cut
CHECKPOINTS = 3
#: keys that each run has of its own, or not at all
OF_ONE_RUN = (
    *("compare", "transfer", "finetune", "split", "work_dir", "resume"),
    *("val_dataloader", "val_evaluator", "val_cfg", "best_metric"),
)
#: words of ``train_cfg`` about validation
VALIDATION = ("val_interval", "val_begin", "dynamic_intervals")


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        arm: From where, and how.
        training_cases: Ids, in the order of the seed.
        seed: Of everything random.
    """

    arm: Arm
    training_cases: tuple[str, ...]
    seed: int

    @property
    def name(self) -> str:
        """Of its folder and of its result's file."""
        return f"{self.arm.file_name}_{len(self.training_cases):03d}_s{self.seed}"

    def __str__(self) -> str:
        return f"{self.arm.name}, {counted(len(self.training_cases), 'case')}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """All runs, seed by seed, so that a comparison that is not finished is balanced as far as it goes.

    Attributes:
        base: The config that all runs share.
        dataset: Every case, none of them read.
        test: The cases that score every run.
        runs: In the order in which they are done.
        steps: Of the optimizer, the same for all runs.
    """

    base: Config
    dataset: CaseDataset
    test: tuple[Case, ...]
    runs: tuple[Run, ...]
    steps: int

    @property
    def arms(self) -> list[Arm]:
        """The arms, each once."""
        return list({run.arm.name: run.arm for run in self.runs}.values())


def plan_runs(cfg: Config, comparison: Comparison) -> Plan:
    """Draw the cases and lay out the runs.

    Raises:
        ConfigError: the steps depend on the number of cases, the dataset has too few, or an arm cannot be.
        DatasetError: the dataset or its split was refused.
    """
    steps = equal_steps(cfg)
    arms = build_arms(comparison, cfg.get("finetune"), cfg.get("transfer"))
    dataset = open_dataset(cfg)
    split = dataset_words(cfg).get("split")
    test, pool = divide_cases(dataset.layout, split, max(comparison.cases))
    runs = []
    for seed in comparison.seeds:
        order = [case.id for case in training_order(pool, seed)]
        runs += [Run(arm, tuple(order[:number]), seed) for number in comparison.cases for arm in arms]
    return Plan(_base(cfg, steps), dataset, tuple(test), tuple(runs), steps)


def equal_steps(cfg: Config) -> int:
    """Steps of the optimizer, which must not depend on the number of training cases.

    Raises:
        ConfigError: they do.
    """
    loop, epoch = cfg.train_cfg, policies.stated_epoch(cfg.train_dataloader)
    if not loop.get("max_iters") and not (loop.get("max_epochs") and epoch):
        reason = "compare needs as many steps for 4 cases as for 32, but here an epoch is as long as there are cases"
        hint = "Set train_dataloader.sampler.samples_per_epoch, or train_cfg=dict(by_epoch=False, max_iters=...)"
        raise ConfigError(reason, path=cfg.filename, hint=hint)
    return policies.steps_of(cfg, epoch or 0)


def dataset_words(cfg: Config) -> dict[str, Any]:
    """The training dataset with what the config states once at the top."""
    full = copy.deepcopy(cfg)
    spread(full)
    return dict(full.train_dataloader.dataset)


def open_dataset(cfg: Config) -> CaseDataset:
    """The training dataset, of which no case is read.

    Raises:
        ConfigError: an argument that it does not take, or a dataset without a layout.
        DatasetError: its list of cases was refused.
    """
    words = {**dataset_words(cfg), "cache": False}
    dataset = in_config_words("train_dataloader", lambda: registry.DATASETS.build(words))
    if not isinstance(dataset, CaseDataset):
        reason = f"compare needs a dataset whose cases are files, got {type(dataset).__name__}"
        raise ConfigError(reason, path=cfg.filename, hint="Use Cases or Table, or a subclass of CaseDataset")
    return dataset


def _base(cfg: Config, steps: int) -> Config:
    """What all runs share: few files, few words on the console, no validation."""
    base = copy.deepcopy(cfg)
    for key in OF_ONE_RUN:
        base._cfg_dict.pop(key, None)
    base.train_dataloader.dataset.pop("split", None)
    for word in VALIDATION:
        base.train_cfg.pop(word, None)
    epochs = base.train_cfg.get("max_epochs")
    checkpoint = {"interval": max(1, (epochs or steps) // CHECKPOINTS), "by_epoch": bool(epochs), "save_last": False}
    base.default_hooks = {
        **(base.get("default_hooks") or {}),
        "logger": {"type": "LoggerHook", "interval": max(1, steps // CURVE_POINTS)},
        "checkpoint": {"type": "KeepCheckpoints", "max_keep_ckpts": 2, **checkpoint},
    }
    base.log_level = "WARNING"
    return base


def run_config(plan: Plan, run: Run) -> Config:
    """The config of one run. It has no validation: the last weights count, and the test cases choose nothing."""
    cfg = copy.deepcopy(plan.base)
    cfg.split = {"train": list(run.training_cases), "val": [case.id for case in plan.test]}
    cfg.randomness = {**(cfg.get("randomness") or {}), "seed": run.seed}
    cfg.finetune = dict(run.arm.finetune)
    if run.arm.transfer:
        cfg.transfer = dict(run.arm.transfer)
    return cfg


def plain_config(cfg: Config) -> Mapping[str, Any]:
    """A config as plain dicts."""
    return dict(cfg._cfg_dict.to_dict())
