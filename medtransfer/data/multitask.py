"""Scans with several targets each: masks, classes and quantities, cropped and augmented together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from torch import Tensor

from ..volumes.prepare import prepare
from ..volumes.read import read_volume
from .cases import Case, refuse
from .dataset import CaseDataset
from .leaks import copied_labels
from .preparation import Look, prepared_mask, read_mask
from .preprocessing import Preprocessing
from .splits import Split, split_cases
from .targets import (
    Head,
    TargetCase,
    TargetLayout,
    check_targets,
    find_targets,
    read_targets,
    with_counted_classes,
    with_scales,
)
from .transforms import build_augmentation


class MultiTaskDataset(CaseDataset):
    """Cases of a table with several targets, of which a case may lack some.

    ``label`` of a sample is name -> ``dict(value=tensor, known=bool)``: of a segmentation (1, D, H, W) int64, of a
    classification a class number, of a regression (Q,) float32 in its own units; zeros where it is not known. A patch
    has the class and the quantities of its whole scan.

    Args:
        data_root: The table, see :func:`medtransfer.data.targets.find_targets`.
        targets: Name -> ``dict(task=..., column=..., classes=...)``, see :class:`medtransfer.data.targets.Target`.
        channels: Names of the channels; those of the columns by default.
        split: As :class:`CaseDataset`. Mean and deviation of quantities are those of the training cases.
        **arguments: As :class:`CaseDataset`. The share ``foreground`` of an augmentation is centred on voxels that any
            of the known masks labels.

    Raises:
        ConfigError, DatasetError: As :class:`CaseDataset`; or a target that no training case has.
    """

    layout: TargetLayout

    def __init__(
        self,
        data_root: str | Path,
        targets: Mapping[str, Any] | None = None,
        channels: Sequence[str] | None = None,
        split: Mapping[str, Any] | Split | None = None,
        **arguments: Any,
    ) -> None:
        found = find_targets(data_root, read_targets(targets), channels).checked()
        assert isinstance(found, TargetLayout)
        layout = with_counted_classes(found)
        super().__init__(with_scales(layout, split_cases(layout, split)[0]), split=split, **arguments)

    @property
    def segmented(self) -> list[Head]:
        """The heads that have masks, in the order of the channels of ``label`` while it is cut and augmented."""
        return [head for head in self.layout.heads if head.task == "segmentation"]

    @property
    def metainfo(self) -> dict[str, Any]:
        """As of every dataset, with ``heads``: name, task and classes of each."""
        heads = [{"name": head.name, "task": head.task, "classes": list(head.classes)} for head in self.layout.heads]
        return {**super().metainfo, "heads": heads}

    def _build_augmentation(self) -> Compose:
        return build_augmentation(self.augmentation, self.patch_size, bool(self.segmented), self.device)

    def _prepared(self, index: int, preprocessing: Preprocessing, look: Look | None = None) -> dict[str, Any]:
        case = self.cases[index]
        assert isinstance(case, TargetCase)
        volume = read_volume(case.source, channels=self.layout.channels)
        prepared = prepare(volume, preprocessing.orientation, preprocessing.spacing, preprocessing.intensity)
        refuse(copied_labels([case]), self.layout.path, hint="Give each case its own label")
        masks = {head: read_mask(path, volume, len(head.classes)) for head, path in self._masks_of(case).items()}
        if look is not None:
            look(volume, np.maximum.reduce(list(masks.values())) if masks else None)
        image = torch.from_numpy(prepared.array)
        unknown = torch.zeros(1, *image.shape[1:], dtype=torch.uint8)
        labels = [
            prepared_mask(masks[head], volume, preprocessing, len(head.classes)) if head in masks else unknown
            for head in self.segmented
        ]
        label = torch.cat(labels) if labels else None
        return {"image": image, "label": label, "case": case.id, "values": dict(case.values)}

    def _masks_of(self, case: TargetCase) -> dict[Head, Path]:
        values = {head: case.values.get(head.name) for head in self.segmented}
        return {head: path for head, path in values.items() if isinstance(path, Path)}

    def _occurrence_notes(self, val: Sequence[Case]) -> list[str]:
        found = {head.name: self._classes_of(head) for head in self.layout.heads if head.task != "regression"}
        return check_targets(self.layout, found, val)

    def _classes_of(self, head: Head) -> dict[str, set[int]]:
        """Training case -> the classes in its label, where it is known."""
        known = {sample["case"]: sample for sample in self._kept.values() if head.name in sample["values"]}
        if head.task == "classification":
            return {case: {sample["values"][head.name]} for case, sample in known.items()}
        number = self.segmented.index(head)
        return {case: set(sample["label"][number].unique().tolist()) for case, sample in known.items()}

    def _finished(self, sample: dict[str, Any]) -> dict[str, Any]:
        values, masks = sample["values"], iter(sample["label"] if self.segmented else ())
        label = {}
        for head in self.layout.heads:
            value = next(masks).long()[None] if head.task == "segmentation" else _tensor(head, values.get(head.name))
            label[head.name] = {"value": value, "known": head.name in values}
        return {"image": sample["image"], "label": label, "case": sample["case"]}


def _tensor(head: Head, value: Any) -> Tensor:
    """A class number, or quantities (Q,); zeros where they are not known."""
    if head.task == "classification":
        return torch.tensor(0 if value is None else value)
    return torch.tensor([0.0] * len(head.classes) if value is None else value, dtype=torch.float32)
