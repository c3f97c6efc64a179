"""Datasets: prepared volumes kept in memory, random patches of them for training, whole ones for validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from monai.data import get_track_meta, set_track_meta
from monai.transforms import Compose
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import ConfigError, DatasetError, MedTransferError
from ..intensity import IntensityRange
from .cases import SHOWN, Case, Layout
from .class_names import with_classes
from .corruption import Corrupt, Corruption
from .fingerprint import Collector, Measured
from .framing import padded, with_positions
from .layouts import find_layout
from .leaks import refuse_unfit
from .occurrence import check_occurrence, classes_of_cases
from .on_device import AugmentOn, check_augment_on
from .preparation import Look, prepare_case, rescaled
from .preprocessing import Preprocessing, read_plan
from .sampler import Draw
from .scans import read_scans
from .splits import Split, split_cases
from .transforms import build_augmentation, read_augmentation

Part = Literal["train", "val"]


class CaseDataset(Dataset[dict[str, Any]]):
    """One side of the split of a layout.

    A :class:`Draw` gives a random patch, augmented from the draw's own seed; a plain index gives the whole prepared
    volume, padded to ``patch_size`` where it is smaller. Both are ``dict(image=(C, D, H, W) float32, label=(1, D, H, W)
    int64 or a class number, case=id)``. ``collate`` names the function that makes a batch of them.

    Args:
        layout: All cases.
        part: ``"train"`` or ``"val"``.
        split: See :class:`medtransfer.data.splits.Split`.
        preprocessing: See :class:`medtransfer.data.preprocessing.Plan`. What it leaves to be measured is measured from
            the training cases, also for ``"val"``.
        patch_size: Voxels along the axes of the prepared volume; smaller volumes are padded with 0. None: whole ones.
        augmentation: A preset or a dict, see :mod:`medtransfer.data.transforms`.
        cache: Keep prepared volumes in memory. They are then all read, and checked, at once.
        augment_on: ``"device"``: patches are augmented on the device that trains, see :meth:`use_device`.

    Raises:
        ConfigError: an argument is of the wrong kind.
        DatasetError: cases that cannot be read (all are named), a scan on both sides or in place of its label, or a
            class that no label holds.
    """

    collate = "default_collate"

    def __init__(
        self,
        layout: Layout,
        part: Part = "train",
        split: Mapping[str, Any] | Split | None = None,
        preprocessing: Mapping[str, Any] | Preprocessing | None = None,
        patch_size: Sequence[int] | None = None,
        augmentation: str | Mapping[str, Any] | None = None,
        cache: bool = True,
        augment_on: AugmentOn = "loader",
    ) -> None:
        if part not in ("train", "val"):
            raise ConfigError(f"part must be 'train' or 'val', got {part!r}")
        self.layout, self.part, self.cache = layout, part, cache
        self.augment_on = check_augment_on(augment_on)
        self.device: torch.device | None = None
        plan = read_plan(preprocessing)
        self.patch_size = _checked_patch(patch_size)
        train, val = split_cases(layout, split)
        refuse_unfit(layout, train, val)
        self.cases = train if part == "train" else val
        self.measured = Measured(plan, layout, train)
        self.augmentation = read_augmentation(augmentation)
        self.augment = self._build_augmentation()
        self._kept: dict[int, dict[str, Any]] = {}
        if cache:
            self._fill()
        if cache and part == "train" and layout.task != "restoration":
            self.layout = replace(layout, warnings=(*layout.warnings, *self._occurrence_notes(val)))

    def use_device(self, device: str | torch.device) -> None:
        """Move patches to that device when they are cut, and augment them there: image and masks of samples are there.

        Volumes in memory, and those that a plain index gives, stay where they are. In a config ``augment_on="device"``
        does so.
        """
        self.device = torch.device(device)
        self.augment = self._build_augmentation()

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to every scan, in numbers."""
        return self.measured.preprocessing

    @property
    def intensity_ranges(self) -> tuple[IntensityRange, ...]:
        """Raw intensities of the training cases, one entry a channel."""
        return self.measured.fingerprint.ranges

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
        return self._finished(self._sample(key))

    def _patch(self, draw: Draw) -> dict[str, Any]:
        sample = dict(self._sample(draw.case))
        self.augment.set_random_state(seed=draw.seed)
        with _without_metadata():
            augmented = self.augment(sample)
        # MONAI's cropping by labels gives a list of patches, here of one
        return self._finished(augmented[0] if isinstance(augmented, list) else augmented)

    def _build_augmentation(self) -> Compose:
        return build_augmentation(self.augmentation, self.patch_size, self.layout.task == "segmentation", self.device)

    def _occurrence_notes(self, val: Sequence[Case]) -> list[str]:
        """What should be known of the classes that the training cases, all of them kept, hold."""
        found = {case.id: self._classes_in(self._kept[index]) for index, case in enumerate(self.cases)}
        return check_occurrence(self.layout, found, lambda: classes_of_cases(list(val)))

    def _classes_in(self, sample: dict[str, Any]) -> set[int]:
        label = sample["label"]
        return set(label.unique().tolist()) if isinstance(label, Tensor) else {label}

    def _finished(self, sample: dict[str, Any]) -> dict[str, Any]:
        """What is given of a sample."""
        label = sample["label"]
        label = label.long() if isinstance(label, Tensor) else label
        return {"image": sample["image"], "label": label, "case": sample["case"]}

    def _sample(self, index: int) -> dict[str, Any]:
        if index in self._kept:
            return self._kept[index]
        sample = self._framed(self._prepared(index, self.preprocessing))
        if self.cache:
            self._kept[index] = sample
        return sample

    def _prepared(self, index: int, preprocessing: Preprocessing, look: Look | None = None) -> dict[str, Any]:
        return prepare_case(self.cases[index], self.layout, preprocessing, look)

    def _framed(self, sample: dict[str, Any]) -> dict[str, Any]:
        if self.patch_size is None:
            return sample
        # validation volumes too: a network that learnt with padding around small scans expects it, and the
        # predictor pads in the same way
        sample = padded(sample, self.patch_size)
        return with_positions(sample) if self.part == "train" else sample

    def _fill(self) -> None:
        """Read every case, once, so that all damaged ones are named before training starts.

        Training cases are measured on the way; where their scaling is measured, it waits until all have been read.
        """
        looked = Collector(self.layout, len(self.cases)) if self.part == "train" and self.cases else None
        waits = looked is not None and self.measured.plan.measures_intensity
        first = self.measured.before_intensity if waits else self.preprocessing
        refused = [error for index in range(len(self.cases)) if (error := self._refusal(index, first, looked))]
        if len(refused) == 1:
            raise refused[0]
        if refused:
            listed = "; ".join(str(error) for error in refused[:SHOWN])
            raise DatasetError(f"{len(refused)} of {len(self.cases)} cases: {listed}", path=self.layout.path)
        if looked is not None:
            self.measured.fingerprint = looked.fingerprint()
        for index, sample in self._kept.items():
            self._kept[index] = self._framed(rescaled(sample, self.preprocessing.intensity) if waits else sample)

    def _refusal(self, index: int, first: Preprocessing, looked: Collector | None) -> MedTransferError | None:
        try:
            self._kept[index] = self._prepared(index, first, looked.add if looked else None)
        except MedTransferError as error:
            return error
        return None


class LayoutDataset(CaseDataset):
    """Labelled cases of any layout, which is told by its content.

    Args:
        data_root: See :func:`medtransfer.data.layouts.find_layout`.
        channels: Names of the channels; for BIDS those that are wanted. The dataset's own by default.
        classes: Names of the classes in order; the dataset's own by default, or their numbers where it names none.
        select: Entities that files of a BIDS folder must have, as ``dict(run=1)``.
        **arguments: As :class:`CaseDataset`.
    """

    kind = ""  # the one layout that is taken; any, if it is empty

    def __init__(
        self,
        data_root: str | Path,
        channels: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        select: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> None:
        found = find_layout(data_root, channels, classes, select)
        if self.kind and found.kind and found.kind != self.kind:
            reason = f"is of the layout {found.kind!r}, not {self.kind!r}"
            raise DatasetError(reason, path=found.path, hint="Set dataset.type='Cases', which takes any layout")
        if found.kind == "boxes":
            raise DatasetError("is a list of boxes", path=found.path, hint="Set dataset.type='Boxes'")
        super().__init__(with_classes(found.checked()), **arguments)


class DecathlonDataset(LayoutDataset):
    """Cases of a Decathlon folder; arguments as :class:`LayoutDataset`."""

    kind = "decathlon"


class TableDataset(LayoutDataset):
    """Cases of a CSV table; arguments as :class:`LayoutDataset`."""

    kind = "table"


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
        if arguments.get("augment_on", "loader") != "loader":
            raise ConfigError("augment_on must be 'loader': scans are damaged on the CPU", hint="Leave augment_on away")
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


@contextmanager
def _without_metadata() -> Iterator[None]:
    # MONAI would wrap every tensor to keep a history of transforms that nothing here reads
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)
