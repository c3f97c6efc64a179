"""Datasets: prepared volumes kept in memory, random patches of them for training, whole ones for validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.data import get_track_meta, set_track_meta
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import ConfigError, DatasetError, MedTransferError
from .cases import SHOWN, Case, Layout
from .corruption import Corrupt, Corruption
from .decathlon import read_decathlon
from .preparation import prepare_case
from .preprocessing import Preprocessing, read_preprocessing
from .sampler import Draw
from .scans import read_scans
from .splits import Split, split_cases
from .table import read_table
from .transforms import build_augmentation

MAX_POSITIONS = 20_000  # of labelled (and of other) voxels kept per case as centres of patches
Part = Literal["train", "val"]


class CaseDataset(Dataset[dict[str, Any]]):
    """One side of the split of a layout.

    A :class:`Draw` gives a random patch, augmented from the draw's own seed; a plain index gives the whole prepared
    volume, padded to ``patch_size`` where it is smaller. Both are ``dict(image=(C, D, H, W) float32, label=(1, D, H, W)
    int64 or a class number, case=id)``.

    Args:
        layout: All cases.
        part: ``"train"`` or ``"val"``.
        split: See :class:`medtransfer.data.splits.Split`.
        preprocessing: See :class:`medtransfer.data.preprocessing.Preprocessing`.
        patch_size: Voxels along the axes of the prepared volume; smaller volumes are padded with 0. None: whole ones.
        augmentation: A preset or a dict, see :mod:`medtransfer.data.transforms`.
        cache: Keep prepared volumes in memory. They are then all read, and checked, at once.

    Raises:
        ConfigError: an argument is of the wrong kind.
        DatasetError: cases that cannot be read (all are named), or a class that no training label holds.
    """

    def __init__(
        self,
        layout: Layout,
        part: Part = "train",
        split: Mapping[str, Any] | Split | None = None,
        preprocessing: Mapping[str, Any] | Preprocessing | None = None,
        patch_size: Sequence[int] | None = None,
        augmentation: str | Mapping[str, Any] | None = None,
        cache: bool = True,
    ) -> None:
        if part not in ("train", "val"):
            raise ConfigError(f"part must be 'train' or 'val', got {part!r}")
        self.layout, self.part, self.cache = layout, part, cache
        self.preprocessing = read_preprocessing(preprocessing)
        self.patch_size = _checked_patch(patch_size)
        train, val = split_cases(layout, split)
        self.cases = train if part == "train" else val
        labelled = layout.task == "segmentation"
        self.augment = build_augmentation(augmentation, self.patch_size, labelled)
        self._kept: dict[int, dict[str, Any]] = {}
        if cache:
            self._fill()

    @property
    def metainfo(self) -> dict[str, Any]:
        """What tasks, metrics and the model's card need to know, as plain lists and words."""
        return {
            "task": self.layout.task,
            "channels": list(self.layout.channels),
            "classes": list(self.layout.classes),
            "cases": [case.id for case in self.cases],
        }

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, key: int | Draw) -> dict[str, Any]:
        if isinstance(key, Draw):
            return self._patch(key)
        return _finished(self._sample(key))

    def _patch(self, draw: Draw) -> dict[str, Any]:
        sample = dict(self._sample(draw.case))
        self.augment.set_random_state(seed=draw.seed)
        with _without_metadata():
            augmented = self.augment(sample)
        # MONAI's cropping by labels gives a list of patches, here of one
        return _finished(augmented[0] if isinstance(augmented, list) else augmented)

    def _sample(self, index: int) -> dict[str, Any]:
        if index in self._kept:
            return self._kept[index]
        sample = prepare_case(self.cases[index], self.layout, self.preprocessing)
        if self.patch_size is not None:
            # validation volumes too: a network that learnt with padding around small scans expects it, and the
            # predictor pads in the same way
            sample = _padded(sample, self.patch_size)
            sample = _with_positions(sample) if self.part == "train" else sample
        if self.cache:
            self._kept[index] = sample
        return sample

    def _fill(self) -> None:
        """Read every case, so that all damaged ones are named before training starts."""
        refused = [error for index in range(len(self.cases)) if (error := self._refusal(index))]
        if len(refused) == 1:
            raise refused[0]
        if refused:
            listed = "; ".join(str(error) for error in refused[:SHOWN])
            raise DatasetError(f"{len(refused)} of {len(self.cases)} cases: {listed}", path=self.layout.path)
        if self.part == "train" and self.layout.task != "restoration":
            self._refuse_absent_classes()

    def _refusal(self, index: int) -> MedTransferError | None:
        try:
            self._sample(index)
        except MedTransferError as error:
            return error
        return None

    def _refuse_absent_classes(self) -> None:
        found = set().union(*(_classes_of(self._kept[index]["label"]) for index in range(len(self.cases))))
        absent = [name for number, name in enumerate(self.layout.classes) if number and number not in found]
        if absent:
            reason = f"no training case has the class {', '.join(absent)}"
            raise DatasetError(reason, path=self.layout.path, hint="Take more training cases or another seed")


class DecathlonDataset(CaseDataset):
    """Cases of a Decathlon folder; arguments as :class:`CaseDataset`, after the folder."""

    def __init__(self, data_root: str | Path, **arguments: Any) -> None:
        super().__init__(read_decathlon(data_root), **arguments)


class TableDataset(CaseDataset):
    """Cases of a CSV table for classification; arguments as :class:`CaseDataset`, after the file."""

    def __init__(self, data_root: str | Path, **arguments: Any) -> None:
        super().__init__(read_table(data_root), **arguments)


class ScanDataset(CaseDataset):
    """Scans without labels: ``image`` is a damaged patch, ``label`` the patch as it was, both (C, D, H, W).

    A plain index gives the case's one fixed patch, damaged in one fixed way, so that validations can be compared.

    Args:
        data_root: See :func:`medtransfer.data.scans.read_scans`.
        corruption: See :class:`medtransfer.data.corruption.Corruption`.
        channels: Names of the channels; those of the dataset by default.
        **arguments: As :class:`CaseDataset`.
    """

    def __init__(
        self,
        data_root: str | Path,
        corruption: Mapping[str, Any] | Corruption | None = None,
        channels: Sequence[str] | None = None,
        **arguments: Any,
    ) -> None:
        self.corrupt = Corrupt(corruption)
        super().__init__(read_scans(data_root, channels), **arguments)

    def __getitem__(self, key: int | Draw) -> dict[str, Any]:
        return self._patch(key if isinstance(key, Draw) else Draw(key, seed=key))

    def _patch(self, draw: Draw) -> dict[str, Any]:
        sample = super()._patch(draw)
        with _without_metadata():
            damaged = self.corrupt(sample["image"], draw.seed)
        return {**sample, "image": damaged, "label": sample["image"]}


def _checked_patch(patch_size: Sequence[int] | None) -> tuple[int, ...] | None:
    if patch_size is None:
        return None
    if len(patch_size) != 3 or not all(isinstance(size, int) and size > 0 for size in patch_size):
        raise ConfigError(f"patch_size must be three whole numbers above 0, got {patch_size}")
    return tuple(patch_size)


def _padded(sample: dict[str, Any], patch_size: Sequence[int]) -> dict[str, Any]:
    """Pad image and label on both sides with 0 where they are smaller than a patch."""
    margins: list[int] = []
    for size, wanted in zip(reversed(sample["image"].shape[1:]), reversed(patch_size), strict=True):
        missing = max(wanted - size, 0)
        margins += [missing // 2, missing - missing // 2]
    pad = {key: torch.nn.functional.pad(value, margins) for key, value in sample.items() if isinstance(value, Tensor)}
    return {**sample, **pad}


def _with_positions(sample: dict[str, Any]) -> dict[str, Any]:
    """Add the flat positions that patches may be centred on, evenly thinned."""
    if not isinstance(sample["label"], Tensor):
        return sample
    labels = sample["label"].numpy().ravel()
    background = _thinned(np.flatnonzero(labels == 0))
    foreground = _thinned(np.flatnonzero(labels))
    either = foreground if len(foreground) else background
    return {**sample, "fg_indices": either, "bg_indices": background if len(background) else either}


def _thinned(positions: np.ndarray) -> np.ndarray:
    return positions[:: max(1, len(positions) // MAX_POSITIONS)]


def _finished(sample: dict[str, Any]) -> dict[str, Any]:
    label = sample["label"]
    label = label.long() if isinstance(label, Tensor) else label
    return {"image": sample["image"], "label": label, "case": sample["case"]}


def _classes_of(label: Tensor | int) -> set[int]:
    return set(label.unique().tolist()) if isinstance(label, Tensor) else {label}


@contextmanager
def _without_metadata() -> Iterator[None]:
    # MONAI would wrap every tensor to keep a history of transforms that nothing here reads
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)


__all__ = ["Case", "CaseDataset", "DecathlonDataset", "ScanDataset", "TableDataset"]
