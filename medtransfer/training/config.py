"""Configs: found by name, read, and checked so that a wrong word is named before anything is built or written."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..checkpoint.card import STATED
from ..errors import ConfigError
from ..intensity import Intensity

PACKAGE = Path(__file__).parent.parent
# inside a wheel, and beside the package in a checkout
CONFIG_FOLDERS = (PACKAGE / "configs", PACKAGE.parent / "configs")
SUFFIX = ".py"
TEMPLATE = re.compile(r"\{\{\s*\$?[\w.]+(?:\s*:[^{}\"']*)?\s*\}\}")


def list_configs() -> list[str]:
    """Names of the configs that are shipped.

    >>> "resunet18_hippocampus" in list_configs()
    True
    """
    return sorted(name for name in _shipped())


def _shipped() -> dict[str, Path]:
    folder = next((folder for folder in CONFIG_FOLDERS if folder.is_dir()), None)
    files = folder.rglob(f"*{SUFFIX}") if folder else ()
    return {path.stem: path for path in files if "_base_" not in path.parts}


def find_config(name_or_path: str | Path) -> Path:
    """A config by its path, or one that is shipped by its name.

    Raises:
        ConfigError: there is none; close names are given.

    >>> find_config("resunet18_hippocampus").name
    'resunet18_hippocampus.py'
    """
    path, shipped = Path(name_or_path), _shipped()
    if path.is_file():
        return path
    if path.name == str(name_or_path) and path.name.removesuffix(SUFFIX) in shipped:
        return shipped[path.name.removesuffix(SUFFIX)]
    beside = [file.name for file in path.parent.glob(f"*{SUFFIX}")] if path.parent.is_dir() else []
    near = get_close_matches(path.stem, shipped, n=3) + get_close_matches(path.name, beside, n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Shipped configs: {', '.join(shipped)}"
    raise ConfigError("no such config", path=path, hint=hint)


def read_config(
    config: str | Path | Config | Mapping[str, Any], options: Mapping[str, Any] | Sequence[str] | None = None
) -> Config:
    """Read a config with its bases, and set ``options`` on top.

    Only Python files are configs: they are code and are run as such. Other formats can run code too while they look
    like data, so they are refused.

    Args:
        config: A path, a shipped name, or a config that was read already (which is left as it is).
        options: ``{"optim_wrapper.optimizer.lr": 1e-3}``, or ``["optim_wrapper.optimizer.lr=1e-3"]``.

    Raises:
        ConfigError: a file is missing, is no Python, or fails when it is run; an option names a key that is not there.
    """
    if isinstance(config, Mapping):
        config = Config(copy.deepcopy(dict(config)))
    cfg = copy.deepcopy(config) if isinstance(config, Config) else _read_file(find_config(config))
    set_options(cfg, parse_options(options))
    return cfg


def _read_file(path: Path) -> Config:
    for file in _files(path, ()):
        check_syntax(file)
    try:
        with _shipped_bases():
            return Config.fromfile(str(path), import_custom_modules=True)
    except ConfigError:
        raise
    except KeyError as error:
        raise ConfigError(f"cannot be run: {_without_quotes(error)}", path=path) from error
    except Exception as error:  # a config is code, and may raise anything
        raise ConfigError(f"fails when it is run: {type(error).__name__}: {error}", path=path) from error


def base_path(base: str, config: Path) -> Path:
    """A config's ``_base_``: the file beside it, or else a shipped one, so that configs stand in any folder.

    >>> base_path("_base_/models/resunet18.py", Path("my_project/mine.py")).is_file()
    True
    """
    beside = config.parent / base
    shipped = [folder / base for folder in CONFIG_FOLDERS if (folder / base).is_file()]
    return shipped[0] if shipped and not beside.is_file() else beside


@contextmanager
def _shipped_bases() -> Iterator[None]:
    """Inside, mmengine finds bases as :func:`base_path` does; by itself it looks beside the config alone."""
    own = Config._get_cfg_path

    def path_and_scope(base: str, config: str) -> tuple[str, str | None]:
        return own(base, config) if "::" in base else (str(base_path(base, Path(config))), None)

    Config._get_cfg_path = staticmethod(path_and_scope)
    try:
        yield
    finally:
        Config._get_cfg_path = staticmethod(own)


def _without_quotes(error: KeyError) -> str:
    return str(error.args[0]) if error.args else "a key is missing"


def _files(path: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """The config and all its bases.

    Raises:
        ConfigError: a base is missing, or is its own base.
    """
    if path.suffix != SUFFIX:
        raise ConfigError(f"{path.suffix or 'no suffix'}: configs are Python files ({SUFFIX})", path=path)
    if path.resolve() in above:
        raise ConfigError(f"is its own _base_, by way of {above[-1].name}", path=path)
    if not path.is_file():
        near = " or ".join(get_close_matches(path.stem, _shipped()))
        hint = f"Name a file beside the config, or a shipped one{near and ': '}{near}"
        raise ConfigError(f"the _base_ {path} does not exist", path=above[-1] if above else path, hint=hint)
    yield path
    for base in _bases(path):
        yield from _files(base_path(base, path), (*above, path.resolve()))


def _bases(path: Path) -> list[str]:
    for node in check_syntax(path).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "_base_" for t in node.targets):
            return _literal_names(node.value)
    return []


def _literal_names(node: ast.expr) -> list[str]:
    """The names in a list of strings; a list that is computed is left to mmengine."""
    try:
        names = ast.literal_eval(node)
    except ValueError:
        return []
    return [names] if isinstance(names, str) else list(names)


def check_syntax(path: Path) -> ast.Module:
    """Parse a config without running it.

    Raises:
        ConfigError: not UTF-8, or a syntax error; file, line and column are given.
    """
    try:
        # mmengine fills in its {{ predefined }} words before Python sees the file
        return ast.parse(TEMPLATE.sub("None", path.read_text(encoding="utf-8")), filename=str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 at byte {error.start}", path=path, hint="Save it as UTF-8") from error
    except SyntaxError as error:
        where = f"{path}:{error.lineno}"
        text = (error.text or "").strip()
        raise ConfigError(f"{error.msg} at column {error.offset}: {text!r}", path=where) from error


def parse_options(options: Mapping[str, Any] | Sequence[str] | None) -> dict[str, Any]:
    """``["a.b=1", "c=[1, 2]"]`` as a dict; values are Python literals, anything else is a word.

    Raises:
        ConfigError: a text has no ``=`` or no key.

    >>> parse_options(["train_cfg.max_epochs=3", "data_root=data/a b", "split.train=None"])
    {'train_cfg.max_epochs': 3, 'data_root': 'data/a b', 'split.train': None}
    """
    if options is None or isinstance(options, Mapping):
        return dict(options or {})
    parsed = {}
    for option in options:
        key, equals, text = option.partition("=")
        if not key or not equals:
            raise ConfigError(f"--cfg-options takes KEY=VALUE, got {option!r}")
        parsed[key] = _literal(text)
    return parsed


def _literal(text: str) -> Any:
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def set_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Set dotted keys. The dict that holds the last word of a key must be there; its own words are checked later.

    Raises:
        ConfigError: the key leads nowhere; close keys are given.
    """
    for key, value in options.items():
        parent, trail, words = cfg._cfg_dict, "", key.split(".")
        for word in words[:-1]:
            parent = _step(parent, word, trail, key)
            trail = f"{trail}{word}."
        _check_last(parent, words[-1], key)
        if isinstance(parent, list):
            parent[int(words[-1])] = value
        else:
            parent[words[-1]] = value


def _step(parent: Any, word: str, trail: str, key: str) -> Any:
    if isinstance(parent, list) and word.isdigit() and int(word) < len(parent):
        return parent[int(word)]
    if isinstance(parent, Mapping) and word in parent:
        inner = parent[word]
        if isinstance(inner, Mapping | list):
            return inner
        raise ConfigError(f"--cfg-options {key}: {trail}{word} is {inner!r}, which holds no keys")
    known = list(parent) if isinstance(parent, Mapping) else [str(i) for i in range(len(parent))]
    raise ConfigError(f"--cfg-options {key}: there is no {trail}{word}", hint=did_you_mean(word, known))


def _check_last(parent: Any, word: str, key: str) -> None:
    if isinstance(parent, list):
        if not (word.isdigit() and int(word) < len(parent)):
            raise ConfigError(f"--cfg-options {key}: the list has {len(parent)} entries")
    elif "type" not in parent and word not in parent and "." in key and parent:
        # dicts with a type are checked against what that type takes; so are the sections that have a schema
        known = [*parent, *SECTION_KEYS.get(key.rpartition(".")[0], ())]
        if word not in known:
            raise ConfigError(f"--cfg-options {key}: there is no such key", hint=did_you_mean(word, known))


_LOADER = (
    *("batch_size", "num_workers", "dataset", "sampler", "drop_last"),
    *("timeout", "persistent_workers", "prefetch_factor", "pin_memory"),
)
SECTION_KEYS: dict[str, tuple[str, ...]] = {
    "card": STATED,
    "split": ("train", "val", "seed", "folds", "fold"),
    "preprocessing": ("orientation", "spacing", "intensity"),
    "preprocessing.intensity": Intensity.__struct_fields__,
    "transfer": (
        "source",
        "input_channels",
        "head",
        "min_coverage",
        "dialect",
        "inflation",
        "inflation_axis",
        "kernels",
    ),
    "finetune": (
        *("policy", "share", "every", "rank", "alpha", "pattern", "freeze", "freeze_except"),
        *("layer_decay", "head_lr_mult", "no_decay_norms", "l2sp", "l2sp_parts", "ema"),
    ),
    "compare": ("sources", "policies", "cases", "seeds", "transfer"),
    "train_cfg": ("type", "by_epoch", "max_epochs", "max_iters", "val_begin", "val_interval", "dynamic_intervals"),
    "train_dataloader": _LOADER,
    "val_dataloader": _LOADER,
    "randomness": ("seed", "diff_rank_seed", "deterministic"),
}


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A hint with the known words that are close, or all of them.

    >>> did_you_mean("trian", ["train", "val"])
    'Did you mean train?'
    """
    near = get_close_matches(word, known, n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(sorted(map(str, known))[:24])}"
