"""Preprocessing that a run measures: once, from its training cases, for all its parts and for as long as it goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from mmengine.config import Config
from mmengine.dist import is_main_process

from ..data.preprocessing import Preprocessing, read_plan, read_preprocessing
from ..files import write_json

NAME = "preprocessing.json"
KEY = "preprocessing"


def recall_numbers(cfg: Config, checkpoint: Path | None) -> None:
    """Give a run that is resumed the numbers that it began with, whatever its data are now.

    They lie beside the checkpoint. A file that is missing or damaged is no reason to stop: the same scans give the same
    numbers again.
    """
    path = None if checkpoint is None else checkpoint.with_name(NAME)
    if path is None or not path.is_file():
        return
    try:
        numbers = msgspec.json.decode(path.read_bytes(), type=Preprocessing)
    except (OSError, ValueError):  # msgspec's errors are one
        return
    _settle(cfg, numbers)


def with_numbers(words: Mapping[str, Any], trained: Any) -> Mapping[str, Any]:
    """The words of a validation loader, with what it leaves to be measured as measured for training.

    Args:
        words: Of the loader.
        trained: The training dataset, or None.
    """
    dataset, numbers = words.get("dataset"), getattr(trained, KEY, None) if _is_open(words.get("dataset")) else None
    if not isinstance(dataset, Mapping) or not isinstance(numbers, Preprocessing):
        return words
    return {**words, "dataset": {**dataset, KEY: _plain(numbers)}}


def record_numbers(cfg: Config, dataset: Any) -> None:
    """Keep measured numbers: in the config, as it will be written down, and in a file for when the run goes on."""
    if not any(map(_is_open, _parts(cfg))):
        return
    _settle(cfg, dataset.preprocessing)
    if is_main_process():
        write_json(Path(cfg.work_dir) / NAME, _plain(dataset.preprocessing))


def prepared_by(dataset: Any) -> dict[str, Any]:
    """Preprocessing in numbers and the raw intensities of the training scans, plain; None where not known."""
    ranges = getattr(dataset, "intensity_ranges", None)
    numbers = _plain(read_preprocessing(dataset.preprocessing))
    return {KEY: numbers, "intensity_ranges": None if ranges is None else _plain(ranges)}


def _settle(cfg: Config, numbers: Preprocessing) -> None:
    for part in _parts(cfg):
        if _is_open(part):
            part[KEY] = _plain(numbers)


def _plain(found: Any) -> Any:
    """As JSON has it."""
    return msgspec.json.decode(msgspec.json.encode(found))


def _parts(cfg: Config) -> Iterator[Any]:
    yield cfg._cfg_dict
    yield from ((cfg.get(loader) or {}).get("dataset") for loader in ("train_dataloader", "val_dataloader"))


def _is_open(part: Any) -> bool:
    return isinstance(part, Mapping) and read_plan(part.get(KEY)).is_open
