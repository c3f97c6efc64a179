"""What a training would train, without training: the network of a config, its fine-tuning applied, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec
from mmengine.config import Config

from ..data.cases import Layout
from ..data.dataset import CaseDataset
from ..finetune.plan import FineTuning, read_finetune
from ..finetune.trainable import TrainableTable
from ..reporting.words import counted
from . import policies, registry
from .building import build_task
from .check import check_config, check_options, told_version
from .config import parse_options, read_config
from .loaders import build_loaders
from .run import spread
from .runner import mmengine_scope

#: where neither the data nor the config say it
ASSUMED_CHANNELS, ASSUMED_CLASSES, ASSUMED_STEPS = 1, 2, 100


@dataclass(frozen=True)
class Preview:
    """What a config would train; printed, a heading, the table and notes.

    Attributes:
        config, network: Their names.
        channels, classes: Names of the input channels and of the classes, numbers where the data are not there.
        finetune: The policy and its words; None: everything trains as it is built.
        steps: Of the whole training.
        table: What trains.
        notes: What was assumed, and what acts beside the table.
    """

    config: str
    network: str
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    finetune: FineTuning | None
    steps: int
    table: TrainableTable
    notes: tuple[str, ...]

    def __str__(self) -> str:
        policy = "no finetune" if self.finetune is None else f"policy {self.finetune.policy}"
        sizes = f"{counted(len(self.channels), 'channel')}, {counted(len(self.classes), 'class')}"
        head = f"{self.config}: {self.network}, {sizes}, {policy}, {self.steps} steps"
        return "\n".join([head, str(self.table), *(f"note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and words: the attributes, with ``parts``, ``total`` and ``phases`` of the table."""
        names = ("config", "network", "channels", "classes")
        facts = {name: getattr(self, name) for name in names}
        plan = msgspec.to_builtins(self.finetune)
        return {**facts, "finetune": plan, "steps": self.steps, **self.table.to_dict(), "notes": self.notes}


def preview(
    config: str | Path | Config | Mapping[str, Any], cfg_options: Mapping[str, Any] | Sequence[str] | None = None
) -> Preview:
    """Build the network that :func:`medtransfer.training.run.run` would train, and tell what of it would.

    Scans are not read and nothing is written. Neither weights nor data need be there: without data, channels and
    classes are the config's, or assumed, and a note says so.

    Args:
        config: A config file, the name of a shipped one, or a config.
        cfg_options: Keys of the config to set.

    Raises:
        ConfigError: the config cannot be used.
        DatasetError: there are data, and they are refused.

    >>> shown = preview("resunet18_hippocampus", {"data_root": "nowhere", "model.network.base_channels": 4})
    >>> shown.table[-1].name, shown.steps, shown.notes[0]
    ('total', 500, 'data_root nowhere is not there: 1 channel (assumed), 2 classes (assumed)')
    """
    options = parse_options(cfg_options)
    check_options(options)
    cfg = read_config(config, options)
    with told_version(cfg):
        spread(cfg)
        check_config(cfg, paths=False)
        policies.prepare(cfg)
        name = Path(cfg.filename).stem if cfg.filename else "config"
        with mmengine_scope(f"preview-{name}", registry.SCOPE):
            return _preview(cfg, name)


def _preview(cfg: Config, name: str) -> Preview:
    plan = read_finetune(cfg.get("finetune"))
    layout, steps_per_epoch, notes = _described(cfg) if _is_there(cfg) else _assumed(cfg)
    task = build_task(cfg, layout)
    hook = policies.start(cfg, task, steps_per_epoch)[0]
    tuning = (hook.phases, hook.fixed(task.network)) if isinstance(hook, policies.FineTune) else ()
    return Preview(
        config=name,
        network=str(cfg.model.get("network", {}).get("type") or type(task.network).__name__),
        channels=layout.channels,
        classes=layout.classes,
        finetune=plan,
        steps=policies.steps_of(cfg, steps_per_epoch),
        table=policies.what_trains(cfg, task.network, *tuning),
        notes=(*notes, *_beside(cfg, plan)),
    )


def _is_there(cfg: Config) -> bool:
    root = cfg.train_dataloader.dataset.get("data_root")
    return root is None or Path(root).exists()


def _described(cfg: Config) -> tuple[Layout, int, list[str]]:
    """What the dataset says of itself; its scans stay unread."""
    loader = dict(cfg.train_dataloader)
    kind = registry.DATASETS.get(loader["dataset"]["type"])
    if isinstance(kind, type) and issubclass(kind, CaseDataset):
        loader["dataset"] = {**loader["dataset"], "cache": False}
    built = build_loaders(Config({"train_dataloader": loader, "data_root": cfg.get("data_root")}))["train_dataloader"]
    return cast("CaseDataset", built.dataset).layout, len(built), []


def _assumed(cfg: Config) -> tuple[Layout, int, list[str]]:
    network, kind = cfg.model.get("network"), registry.MODELS.get(cfg.model.type)
    channels, classes = kind.stated_sizes(network if isinstance(network, Mapping) else {})
    layout = Layout(
        path=Path(cfg.train_dataloader.dataset["data_root"]),
        task=kind.task,
        cases=(),
        channels=_numbered(channels or ASSUMED_CHANNELS),
        classes=_numbered(classes or ASSUMED_CLASSES),
    )
    layout = kind.assumed_layout(layout, cfg.train_dataloader.dataset)
    found = ((layout.channels, "channel", channels), (layout.classes, "class", classes))
    told = [f"{counted(len(names), noun)} ({'from the config' if said else 'assumed'})" for names, noun, said in found]
    steps, notes = _assumed_steps(cfg)
    return layout, steps, [f"data_root {layout.path} is not there: {', '.join(told)}", *notes]


def _assumed_steps(cfg: Config) -> tuple[int, list[str]]:
    steps = policies.stated_epoch(cfg.train_dataloader)
    if steps:
        return steps, []
    return ASSUMED_STEPS, [f"the number of training cases is not known: an epoch is taken for {ASSUMED_STEPS} steps"]


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(count))


def _beside(cfg: Config, plan: FineTuning | None) -> list[str]:
    """What a reader of the table has to know."""
    source = (cfg.get("transfer") or {}).get("source")
    is_lost = isinstance(source, str) and not Path(source).exists()
    l2sp, ema = (plan.l2sp, plan.ema) if plan else (None, None)
    held = plan.l2sp_parts if plan else []
    held = held if isinstance(held, str) else ", ".join(held)
    notes = {
        f"transfer.source {source} is not there; what trains does not depend on it": is_lost,
        "learning rates are the highest of the schedule": cfg.get("param_scheduler"),
        "auto_scale_lr changes the learning rates with the number of processes": _scales(cfg),
        f"{held}: drawn to the source weights (l2sp={l2sp}) in place of weight decay": l2sp,
        f"a moving average of the weights (ema={ema}) is validated and saved": ema,
    }
    return [note for note, applies in notes.items() if applies]


def _scales(cfg: Config) -> bool:
    return bool((cfg.get("auto_scale_lr") or {}).get("enable"))
