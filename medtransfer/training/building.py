"""The task of a config: its network, made for the data, and the score that it is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from mmengine.config import Config

from ..data.cases import Layout
from ..errors import ConfigError
from . import precision, registry
from .check import with_path
from .loaders import in_config_words
from .tasks import FROM_DATA, Task


def build_task(cfg: Config, layout: Layout, dataset: Any = None) -> Task:
    """Build the network, with the dataset's channels and classes where the config leaves them out.

    Args:
        cfg: The config; what the data say of the network is written into it.
        layout: The dataset's.
        dataset: What trains; None where only its layout is known.

    Raises:
        ConfigError: the config states other numbers of channels or classes than the data have.
    """
    network, kind = cfg.model.get("network"), registry.MODELS.get(cfg.model.type)
    if isinstance(network, dict) and network.get("type") != "UNet":
        network.update(in_config_words("model", lambda: kind.network_words(network, layout, dataset)))
    # in bfloat16 this layout saves a fifth of a step; in float32 it costs as much
    cfg.model.setdefault("channels_last", number_format(cfg) == torch.bfloat16)
    task = cast("Task", in_config_words("model", lambda: registry.MODELS.build(cfg.model)))
    if task.task != layout.task:
        reason = f"the model is for {task.task}, the dataset for {layout.task}"
        raise ConfigError(reason, path=cfg.filename, hint=task.dataset_hint)
    try:
        task.refuse_other_data(layout)
    except ConfigError as error:
        raise with_path(error, cfg) from error
    return task


def recall_words(cfg: Config, saved: Any) -> None:
    """Give a run that is resumed the words of its network that were measured from its data when it began.

    Args:
        cfg: The config of the run.
        saved: The section ``model`` that the checkpoint was written under; None where it is not known.
    """
    network, before = cfg.model.get("network"), saved.get("network") if isinstance(saved, Mapping) else None
    if isinstance(network, dict) and isinstance(before, Mapping) and FROM_DATA in network.values():
        network.update({key: value for key, value in before.items() if network.get(key, FROM_DATA) == FROM_DATA})


def best_metric(cfg: Config, task: Task, meta: Mapping[str, Any]) -> str:
    """The score that ``best`` is chosen by, on a dataset that says ``meta`` of itself.

    Raises:
        ConfigError: the metrics of the config do not give it.
    """
    metric = cfg.get("best_metric") or task.best_metric
    evaluators = cfg.get("val_evaluator") or []
    kinds = [
        registry.METRICS.get(part["type"]) for part in ([evaluators] if isinstance(evaluators, Mapping) else evaluators)
    ]
    # metrics of the user's own do not state their names
    if kinds and all(hasattr(kind, "score_names") for kind in kinds):
        names = [name for kind in kinds for name in kind.score_names(meta)]
        if metric not in names:
            raise ConfigError(f"best_metric {metric!r} is not among the scores: {', '.join(names)}", path=cfg.filename)
    if any(hasattr(kind, "is_error") and kind.is_error(metric) for kind in kinds):
        reason = f"best_metric {metric!r} is better the lower it is, but the highest score is chosen"
        raise ConfigError(reason, path=cfg.filename, hint="Choose by another, such as r2")
    return metric


def number_format(cfg: Config) -> torch.dtype:
    """The number format that training will compute in."""
    wrapper = cfg.optim_wrapper
    if wrapper.get("type") != "MixedPrecision":
        return torch.float32
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return precision.chosen_dtype(wrapper.get("dtype", "auto"), device)
