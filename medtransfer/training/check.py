"""A config checked word by word, before anything is built: names, types and numbers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ..data.preprocessing import read_plan
from ..data.splits import read_split
from ..errors import ConfigError
from ..finetune.plan import read_finetune
from ..version import __version__
from . import registry
from .compiling import read_compile
from .config import SECTION_KEYS, did_you_mean
from .stated import read_stated

# words of a config that are not mmengine's
OWN_KEYS = (
    *("transfer", "finetune", "compare", "data_root", "boxes", "targets", "split", "preprocessing", "patch_size"),
    *("best_metric", "calibrate", "card", "trackers", "medtransfer_version"),
)
PATH_KEYS = ("data_root", "source")
MMENGINE_KEYS = (
    *(name for name in inspect.signature(Runner.__init__).parameters if name not in ("self", "cfg")),
    *("model_wrapper_cfg", "sync_bn", "find_unused_parameters", "activation_checkpointing", "compile"),
    *("efficient_conv_bn_eval", "custom_imports"),
)
KNOWN_KEYS = (*OWN_KEYS, *MMENGINE_KEYS)
NEEDED_KEYS = ("model", "train_dataloader", "train_cfg", "optim_wrapper")
LOADER_KEYS = (
    *inspect.signature(DataLoader.__init__).parameters,
    *("dataset", "sampler", "batch_sampler", "collate_fn", "num_batch_per_epoch", "worker_init_fn"),
)
Found = tuple[str, Mapping[str, Any], Registry]


def check_config(cfg: Config, paths: bool = True) -> None:
    """Refuse what cannot be meant.

    Args:
        cfg: The config.
        paths: Paths of another machine are refused too.

    Raises:
        ConfigError: the first thing that is wrong, with its dotted name and, if there are any, close names.
    """
    try:
        _check_top_level(cfg)
        if paths:
            _check_paths(cfg._cfg_dict, "")
        _check_sections(cfg)
        for trail, part, home in _typed_parts(cfg):
            check_part(trail, part, home)
        for trail, value, test, wanted in _numbers(cfg):
            _check_number(trail, value, test, wanted)
    except ConfigError as error:
        raise with_path(error, cfg) from error


@contextmanager
def told_version(cfg: Config) -> Iterator[None]:
    """Let a refusal of a config say that it was written for another version; the config is then marked with this one.

    Raises:
        ConfigError: as it came, with both versions.
    """
    written, cfg.medtransfer_version = cfg.get("medtransfer_version"), __version__
    try:
        yield
    except ConfigError as error:
        if written in (None, __version__):
            raise
        reason = f"{error.reason} (the config was written for medtransfer {written}, this is {__version__})"
        raise ConfigError(reason, path=error.path, hint=error.hint) from error


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that would set a variable of the file: what was built from it is not built again.

    Raises:
        ConfigError: the first word of an option is no key that training knows.
    """
    for key in options:
        word = key.partition(".")[0]
        if word not in KNOWN_KEYS:
            raise ConfigError(f"--cfg-options {key}: there is no key {word!r}", hint=did_you_mean(word, KNOWN_KEYS))


def with_path(error: ConfigError, cfg: Config) -> ConfigError:
    """The same refusal, with the config's own file where it names none."""
    return ConfigError(error.reason, path=error.path or cfg.filename, hint=error.hint)


def _check_top_level(cfg: Config) -> None:
    missing = [key for key in NEEDED_KEYS if not cfg.get(key)]
    if missing:
        needed = ", ".join(NEEDED_KEYS)
        raise ConfigError(f"lacks {', '.join(missing)}", hint=f"A config needs {needed}; start from a shipped one")
    for key in cfg:
        near = did_you_mean(key, KNOWN_KEYS)
        # other names may be variables of the config's own
        if key not in KNOWN_KEYS and _is_close(key):
            raise ConfigError(f"there is no key {key!r}", hint=near)
    if cfg.get("load_from"):
        hint = "Use transfer=dict(source=...) for weights, or resume to go on with a run"
        raise ConfigError("load_from loads whatever happens to fit and says nothing", hint=hint)
    validates = "val_interval" in cfg.train_cfg or cfg.get("val_cfg") is not None
    if validates and not (cfg.get("val_dataloader") and cfg.get("val_evaluator")):
        hint = "Give both, or leave val_interval and val_cfg away"
        raise ConfigError("validation is asked for, but val_dataloader or val_evaluator is missing", hint=hint)


def _check_paths(part: Mapping[str, Any], trail: str) -> None:
    """Refuse an absolute path whose very folder is not there: most likely it is of another machine."""
    for key, value in part.items():
        if isinstance(value, Mapping):
            _check_paths(value, f"{trail}{key}.")
        elif key in PATH_KEYS and isinstance(value, str) and _is_elsewhere(Path(value)):
            hint = f"Set it for this machine, as in --cfg-options {trail}{key}=PATH"
            raise ConfigError(f"{trail}{key} is {value!r}, and this machine has no such path", hint=hint)


def _is_elsewhere(path: Path) -> bool:
    return path.is_absolute() and not path.exists() and not path.parent.exists()


def _is_close(key: str) -> bool:
    plain = key.lower().replace("_", "")
    return any(SequenceMatcher(None, plain, known.replace("_", "")).ratio() >= 0.8 for known in KNOWN_KEYS)


def _check_sections(cfg: Config) -> None:
    for section in ("transfer", "train_cfg", "randomness"):
        part = cfg.get(section)
        if part is not None:
            _check_words(section, part, SECTION_KEYS[section])
    if cfg.get("transfer") is not None and not cfg.transfer.get("source"):
        raise ConfigError("transfer.source is missing", hint="Name a weight file or a model folder")
    for loader in ("train_dataloader", "val_dataloader"):
        _check_words(loader, cfg.get(loader) or {}, LOADER_KEYS)
    if not isinstance(cfg.get("calibrate", False), bool):
        raise ConfigError(f"calibrate must be True or False, got {cfg.calibrate!r}")
    read_compile(cfg.get("compile"))
    read_finetune(cfg.get("finetune"))
    read_split(cfg.get("split"))
    read_plan(cfg.get("preprocessing"))
    read_stated(cfg.get("card"))


def _check_words(trail: str, part: Mapping[str, Any], known: Sequence[str]) -> None:
    if not isinstance(part, Mapping):
        raise ConfigError(f"{trail} must be a dict, got {part!r}")
    for word in part:
        if word not in known:
            raise ConfigError(f"{trail} has no key {word!r}", hint=did_you_mean(word, known))


def _typed_parts(cfg: Config) -> Iterator[Found]:
    """Every dict of the config that is built by its ``type``, with its dotted name and its registry."""
    single: tuple[tuple[str, Registry], ...] = (
        ("model", registry.MODELS),
        ("model.network", registry.MODELS),
        ("model.network.encoder", registry.MODELS),
        ("model.loss", registry.MODELS),
        ("train_dataloader.dataset", registry.DATASETS),
        ("train_dataloader.sampler", registry.DATA_SAMPLERS),
        ("val_dataloader.dataset", registry.DATASETS),
        ("val_dataloader.sampler", registry.DATA_SAMPLERS),
        ("optim_wrapper", registry.OPTIM_WRAPPERS),
        ("optim_wrapper.optimizer", registry.OPTIMIZERS),
        ("visualizer", registry.VISUALIZERS),
    )
    several = (
        ("param_scheduler", registry.PARAM_SCHEDULERS),
        ("val_evaluator", registry.METRICS),
        ("custom_hooks", registry.HOOKS),
        ("trackers", registry.TRACKERS),
    )
    for trail, home in single:
        yield from _present(trail, _lookup(cfg, trail), home)
    for trail, home in several:
        parts = cfg.get(trail) or []
        for number, part in enumerate(parts if isinstance(parts, list | tuple) else [parts]):
            yield from _present(f"{trail}[{number}]", part, home)
    losses = _lookup(cfg, "model.losses") or {}
    if not isinstance(losses, Mapping):
        raise ConfigError(f"model.losses must be a dict of heads and their losses, got {losses!r}")
    for name, part in losses.items():
        yield from _present(f"model.losses.{name}", part, registry.MODELS)
    for name, part in (cfg.get("default_hooks") or {}).items():
        yield from _present(f"default_hooks.{name}", part, registry.HOOKS)


def _present(trail: str, part: Any, home: Registry) -> Iterator[Found]:
    if isinstance(part, Mapping):
        yield trail, part, home


def _lookup(cfg: Config, trail: str) -> Any:
    part: Any = cfg
    for word in trail.split("."):
        part = part.get(word) if isinstance(part, Mapping | Config) else None
    return part


def check_part(trail: str, part: Mapping[str, Any], home: Registry) -> None:
    """Check the type of one dict, and its words against what that type takes.

    Raises:
        ConfigError: an unknown type or word.
    """
    kind = part.get("type")
    if kind is None:
        raise ConfigError(f"{trail} lacks 'type'", hint=f"Known: {', '.join(sorted(_names(home))[:24])}")
    known_names = _names(home)
    if isinstance(kind, str) and kind not in known_names:
        raise ConfigError(f"{trail}: there is no type {kind!r}", hint=did_you_mean(kind, list(known_names)))
    words = accepted_words(known_names[kind] if isinstance(kind, str) else kind)
    if words is not None:
        _check_words(trail, {key: None for key in part if key not in ("type", "_scope_", "priority")}, words)


def _names(home: Registry) -> dict[str, Callable[..., Any]]:
    """Everything that a registry can build, its parent's included."""
    inherited = _names(home.parent) if home.parent is not None else {}
    return {**inherited, **home.module_dict}


def accepted_words(kind: Callable[..., Any]) -> list[str] | None:
    """The keyword arguments that a class or function takes; None if that cannot be told.

    >>> from medtransfer.training.tasks import Segmenter
    >>> accepted_words(Segmenter)[:3]
    ['network', 'window', 'overlap']
    """
    if isinstance(kind, partial):
        return None  # the catalog's builders name unknown arguments themselves
    words: list[str] = []
    for owner in kind.__mro__ if inspect.isclass(kind) else (kind,):
        function = owner.__dict__.get("__init__") if inspect.isclass(owner) else owner
        if function is None:
            continue
        parameters = list(inspect.signature(function).parameters.values())
        words += [
            p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"
        ]
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            return list(dict.fromkeys(words))
    return None if not inspect.isclass(kind) else words


def _numbers(cfg: Config) -> Iterator[tuple[str, Any, Callable[[float], bool], str]]:
    """Numbers with their dotted names, what they must be, and how to say it."""
    whole, positive = "a whole number above 0", "a number, 0 or above"
    for trail in ("train_cfg.max_epochs", "train_cfg.max_iters", "train_cfg.val_interval"):
        yield trail, _lookup(cfg, trail), lambda value: value > 0 and value == int(value), whole
    for trail in (
        "train_dataloader.batch_size",
        "val_dataloader.batch_size",
        "train_dataloader.sampler.samples_per_epoch",
    ):
        yield trail, _lookup(cfg, trail), lambda value: value > 0 and value == int(value), whole
    for trail in ("optim_wrapper.optimizer.lr", "optim_wrapper.optimizer.weight_decay"):
        yield trail, _lookup(cfg, trail), lambda value: 0 <= value < math.inf, positive
    keep = _lookup(cfg, "default_hooks.checkpoint.max_keep_ckpts")
    yield "default_hooks.checkpoint.max_keep_ckpts", keep, lambda value: value >= 2 or value == -1, "2 or more, or -1"
    schedulers = cfg.get("param_scheduler") or []
    for number, part in enumerate(schedulers if isinstance(schedulers, list | tuple) else [schedulers]):
        name = f"param_scheduler[{number}].eta_max"
        yield name, part.get("eta_max"), lambda value: 0 <= value < math.inf, positive


def _check_number(trail: str, value: Any, test: Callable[[float], bool], wanted: str) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    if value is not None and not (is_number and abs(value) < math.inf and test(value)):
        raise ConfigError(f"{trail} must be {wanted}, got {value!r}")
