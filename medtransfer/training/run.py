"""From a config to a training folder."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from torch.utils.data import DataLoader

from ..adapter.report import TransferReport
from ..allocator import reused_memory
from ..data.dataset import CaseDataset
from ..errors import OutputExistsError, UsageError
from . import (
    checkpoint_hooks,
    detector,
    faults,
    hooks,
    late,
    loops,
    metrics,
    multitask,
    multitask_scores,
    norms,
    optimizers,
    policies,
    precision,
    registry,
    schedule,
    tasks,
    trackers,
)
from .agreement import check_same_data, first_decides
from .building import best_metric, build_task, number_format, recall_words
from .calibration import Calibrate, refuse_uncalibrated
from .check import check_config, check_options, told_version
from .checkpoint_hooks import PlainCheckpoints
from .checkpoints import check_resumable, find_resumable, install, tidy
from .config import find_config, list_configs, parse_options, read_config
from .distributed import Crew, launched
from .loaders import build_loaders
from .lock import LOCK, locked
from .measured import prepared_by, recall_numbers, record_numbers
from .receipt import transferred, write_receipt
from .runner import TrainingRunner, mmengine_scope
from .stated import read_stated
from .stopping import StopOnSignal
from .tracker import Tracker

__all__ = ["find_config", "list_configs", "read_config", "run"]

# what is stated once for all datasets
SHARED_KEYS = ("data_root", "boxes", "targets", "split", "preprocessing", "patch_size")
# importing these rooms' modules registers what they define
REGISTERED = (
    *(checkpoint_hooks, detector, hooks, late, loops, metrics, multitask, multitask_scores, norms, optimizers),
    *(policies, precision, schedule, tasks, trackers),
)


def run(
    config: str | Path | Config | Mapping[str, Any],
    work_dir: str | Path | None = None,
    resume: str | Path | None = None,
    amp: bool | str | None = None,
    cfg_options: Mapping[str, Any] | Sequence[str] | None = None,
    launcher: str = "none",
) -> Path:
    """Train.

    Args:
        config: A config file, the name of a shipped one, or a config.
        work_dir: Where everything is written; ``work_dirs/NAME`` by default. A folder that holds anything is refused
            unless the run in it is resumed.
        resume: ``"auto"``, the newest checkpoint of ``work_dir`` that can be read; or a checkpoint file.
        amp: Mixed precision: True, False, or ``"bfloat16"``, ``"float16"``, ``"float32"``; None: as configured.
        cfg_options: Keys of the config to set, as a dict or as ``KEY=VALUE`` strings.
        launcher: ``"none"``, or how the processes of a distributed run were started: ``"pytorch"`` (torchrun),
            ``"slurm"`` or ``"mpi"``.

    Returns:
        The training folder, with ``best`` (a model folder) and ``report.json``.

    Raises:
        ConfigError: the config cannot be used.
        DatasetError, VolumeError: the data were refused.
        CheckpointError: nothing to resume, or a checkpoint that was refused.
        TransferError: the weights do not fit; nothing was trained.
        OutputExistsError: the folder is in use.
        ResourceError: memory ran out, a disk is full, or another process of the run was lost.
    """
    with launched(launcher) as crew:
        options = parse_options(cfg_options)
        check_options(options)
        cfg = read_config(config, options)
        cfg.work_dir = str(work_dir or cfg.get("work_dir") or Path("work_dirs") / _name(cfg))
        cfg.launcher = launcher
        with told_version(cfg):
            _set_precision(cfg, amp)
            spread(cfg)
            check_config(cfg)
            policies.prepare(cfg)
            _run(cfg, resume, crew)
    return Path(cfg.work_dir)


def _run(cfg: Config, resume: str | Path | None, crew: Crew | None) -> None:
    name = f"{_name(cfg)}_{uuid.uuid4().hex[:8]}"
    if crew is not None:
        crew.connect(cfg)
    with _held(cfg, crew), faults.named():
        checkpoint = first_decides(lambda: _checkpoint_to_resume(cfg, resume))
        install()
        with mmengine_scope(name, registry.SCOPE):
            _train(cfg, checkpoint, name)


@contextmanager
def _held(cfg: Config, crew: Crew | None) -> Iterator[None]:
    """Hold the work_dir; the first process of a distributed run does so for all."""
    if crew is not None and crew.rank:
        yield
        return
    with locked(cfg.work_dir) as folder:
        if crew is not None:
            crew.clean_up = partial((folder / LOCK).unlink, missing_ok=True)
        tidy(folder)
        yield


def _train(cfg: Config, checkpoint: Path | None, name: str) -> None:
    """Build data, network and runner in this order, so that whatever is refused leaves no file behind."""
    tracked = trackers.connected(cfg)
    recall_numbers(cfg, checkpoint)
    before = {} if checkpoint is None else check_resumable(checkpoint)["meta"]
    recall_words(cfg, before.get("model"))
    loaders = build_loaders(cfg, before.get("seed"))
    check_same_data(loaders)
    dataset = cast("CaseDataset", loaders["train_dataloader"].dataset)
    task = build_task(cfg, dataset.layout, dataset)
    metric = best_metric(cfg, task, dataset.metainfo)
    refuse_uncalibrated(cfg, task, loaders)
    report, fault = transferred(cfg, task.network, dataset, checkpoint)
    tuning = policies.start(cfg, task, len(loaders["train_dataloader"]))
    track = trackers.Track(tracked, _name(cfg), metric, report)
    own_hooks = [*tuning, track, *_own_hooks(cfg, task, dataset, report, metric)]
    record_numbers(cfg, dataset)
    runner = _build_runner(cfg, task, loaders, own_hooks, name, checkpoint, tracked)
    write_receipt(cfg.work_dir, report, fault, runner.logger)
    for warning in dataset.layout.warnings[:5]:
        runner.logger.warning(warning)
    size = f"batch_size {cfg.train_dataloader.get('batch_size')} and patch_size {cfg.get('patch_size')}"
    try:
        with faults.named(size), reused_memory():
            runner.train()
    finally:
        for hook in runner.hooks:
            if isinstance(hook, hooks.ProgressBar | StopOnSignal | trackers.Track):
                hook.close()


def _name(cfg: Config) -> str:
    return Path(cfg.filename).stem if cfg.filename else "run"


def _set_precision(cfg: Config, amp: bool | str | None) -> None:
    wrapper = cfg.get("optim_wrapper")
    if amp is None or wrapper is None:
        return
    if isinstance(amp, str) and amp not in ("auto", *precision.DTYPES):
        raise UsageError(f"amp must be True, False or one of {', '.join(precision.DTYPES)}, got {amp!r}")
    on = "float16" if torch.cuda.is_available() and not torch.cuda.is_bf16_supported() else "bfloat16"
    chosen = amp if isinstance(amp, str) else on if amp else "float32"
    wrapper.update(type="MixedPrecision", dtype=chosen)


def spread(cfg: Config) -> None:
    """Give what is stated once at the top to both datasets, unless they state their own."""
    for loader in ("train_dataloader", "val_dataloader"):
        dataset = (cfg.get(loader) or {}).get("dataset")
        if isinstance(dataset, dict):
            shared = {key: cfg[key] for key in SHARED_KEYS if key in cfg}
            dataset.update({key: value for key, value in shared.items() if key not in dataset})
    if isinstance(cfg.get("train_cfg"), Mapping) and "max_epochs" in cfg.train_cfg:
        cfg.train_cfg.setdefault("by_epoch", True)
    if isinstance(cfg.get("default_hooks") or {}, Mapping):
        # mmengine's own deletes the older checkpoint before the new one is there
        cfg.default_hooks = {"checkpoint": {"type": "KeepCheckpoints"}, **(cfg.get("default_hooks") or {})}
    if "trackers" in cfg:
        cfg.trackers = trackers.as_parts(cfg.trackers)
    if cfg.get("val_dataloader") and cfg.get("val_evaluator"):
        cfg.val_cfg = cfg.get("val_cfg") or {}


def _checkpoint_to_resume(cfg: Config, resume: str | Path | None) -> Path | None:
    """The checkpoint to go on from; without ``resume`` see that the folder is free.

    Raises:
        CheckpointError: nothing can be resumed. Training never starts anew in place of it.
        OutputExistsError: the folder holds something.
    """
    resume = resume or ("auto" if cfg.get("resume") else None)
    folder = Path(cfg.work_dir)
    if resume == "auto":
        path, notes = find_resumable(folder)
        for note in notes:
            warnings.warn(f"{note}: going on from {path.name}; what came after is trained again", stacklevel=5)
        return path
    if resume is not None:
        check_resumable(resume)
        if Path(resume).resolve().parent == folder.resolve():
            return Path(resume)
    if any(path.name != LOCK for path in folder.glob("*")):
        raise OutputExistsError(
            "the work_dir holds something already",
            path=folder,
            hint="Pass --resume auto to go on, or another --work-dir",
        )
    return None if resume is None else Path(resume)


def _own_hooks(
    cfg: Config, task: tasks.Task, dataset: CaseDataset, report: TransferReport | None, metric: str
) -> list[Hook]:
    facts = {
        "config": _name(cfg),
        "seed": cfg.randomness["seed"],
        "training_cases": [case.id for case in dataset.cases],
        "transfer": None if report is None else report.to_dict(),
        **prepared_by(dataset),
        "finetune": msgspec.to_builtins(dict(cfg.get("finetune") or {})) or None,
    }
    best = [
        hooks.BestModel(metric, _card(cfg, task, dataset, report)),
        *([Calibrate()] if cfg.get("calibrate") else []),
    ]
    reporter = hooks.RunReport(metric, facts)
    # loss scaling leaves such steps out, and scales down
    nan = hooks.StopAtNaN(steps=5 if number_format(cfg) == torch.float16 else 1)
    return [PlainCheckpoints(), norms.EqualStatistics(), nan, *best, hooks.ProgressBar(), reporter, StopOnSignal()]


def _card(cfg: Config, task: tasks.Task, dataset: CaseDataset, report: TransferReport | None) -> dict[str, Any]:
    """What prediction must know: the preprocessing that the data had, channels, classes, patch size, ancestry."""
    facts = prepared_by(dataset)
    parent = None if report is None else {"format": report.source_format, "coverage": report.coverage}
    return {
        **facts["preprocessing"],
        "intensity_ranges": facts["intensity_ranges"],
        **task.card_facts(dataset.layout),
        "input_channels": list(dataset.layout.channels),
        "patch_size": None if dataset.patch_size is None else list(dataset.patch_size),
        "mirror_axes": list(dataset.augmentation.flips),
        "parent": parent,
        "training_cases": len(dataset.cases),
        "description": f"Trained by medtransfer with the config {_name(cfg)}.",
        **read_stated(cfg.get("card")),
    }


def _build_runner(
    cfg: Config,
    task: tasks.Task,
    loaders: Mapping[str, DataLoader[Any]],
    own_hooks: Sequence[Hook],
    name: str,
    checkpoint: Path | None,
    tracked: Sequence[Tracker],
) -> TrainingRunner:
    parts = {key: loaders.get(key) for key in ("train_dataloader", "val_dataloader")}
    keys = ("train_cfg", "val_cfg", "auto_scale_lr", "optim_wrapper", "param_scheduler", "val_evaluator")
    options = {key: cfg.get(key) for key in (*keys, "default_hooks", "log_processor")}
    return TrainingRunner(
        model=task,
        work_dir=cfg.work_dir,
        **parts,
        **options,
        visualizer=trackers.with_backends(cfg.get("visualizer"), tracked),
        custom_hooks=[*(cfg.get("custom_hooks") or []), *own_hooks],
        load_from=None if checkpoint is None else str(checkpoint),
        resume=checkpoint is not None,
        launcher=cfg.launcher,
        env_cfg=cfg.get("env_cfg") or {"dist_cfg": {"backend": "nccl"}},
        log_level=cfg.get("log_level") or "INFO",
        default_scope=registry.SCOPE,
        randomness=cfg.randomness,
        experiment_name=name,
        cfg=cfg,
    )
