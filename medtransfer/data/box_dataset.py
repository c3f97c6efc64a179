"""Detection: boxes around the structures of masks, or boxes of a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..errors import ConfigError, DatasetError
from ..volumes.padding import centred_margins
from ..volumes.structures import BoxOf, boxes_of_labels
from .box_list import BoxFormat
from .box_targets import BoxTargets, mask_targets
from .box_transforms import build_box_augmentation
from .class_names import with_classes
from .dataset import CaseDataset
from .framing import padded
from .layouts import find_layout


class BoxDataset(CaseDataset):
    """Scans and the boxes in them, from the masks of a segmentation dataset in any layout, or from a list of boxes.

    A :class:`medtransfer.data.sampler.Draw` gives a random patch, or the whole scan where ``patch_size`` is None,
    augmented from the draw's own seed; a plain index gives the whole prepared scan. Both are ``dict(image=(C, D, H, W)
    float32, label=dict(boxes=(N, 6) float32, labels=(N,) int64), case=id)``, boxes as in `medtransfer.volumes.boxes`; N
    may be 0. Images differ in size, so a batch is lists of them: ``collate`` names training's function that makes them.

    Boxes of masks are taken from the mask after the augmentation, so that they fit exactly; those of a list are moved,
    see :meth:`medtransfer.data.box_targets.BoxTargets.warped`.

    Args:
        data_root: See :func:`medtransfer.data.layouts.find_layout`.
        boxes: Of masks: one box for each ``class``, or for each ``component`` of a class.
        min_voxels: Of masks: structures of fewer voxels of the prepared scan have no box.
        smallest_share: A box of which less lies in a patch is left out of it.
        channels: As :class:`medtransfer.data.dataset.LayoutDataset`.
        classes: Names of the classes, background first.
        select: As :class:`medtransfer.data.dataset.LayoutDataset`.
        box_mode: Of a list: see :class:`medtransfer.data.box_list.BoxFormat`, as the three that follow.
        box_space: Of a list.
        first_label: Of a list.
        image_root: Of a list.
        **arguments: As :class:`medtransfer.data.dataset.CaseDataset`.

    Raises:
        ConfigError: an argument is of the wrong kind.
        DatasetError: neither masks nor boxes, a box outside of its scan, or as :class:`CaseDataset`.
    """

    collate = "list_collate"

    def __init__(
        self,
        data_root: str | Path,
        boxes: BoxOf = "class",
        min_voxels: int = 1,
        smallest_share: float = 0.5,
        channels: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        select: Mapping[str, Any] | None = None,
        box_mode: str | None = None,
        box_space: str | None = None,
        first_label: int | None = None,
        image_root: str | None = None,
        **arguments: Any,
    ) -> None:
        if boxes not in ("class", "component"):
            raise ConfigError(f"boxes must be 'class' or 'component', got {boxes!r}")
        if not isinstance(smallest_share, int | float) or not 0 < smallest_share <= 1:
            raise ConfigError(f"smallest_share must be above 0 and at most 1, got {smallest_share!r}")
        if type(min_voxels) is not int or min_voxels < 1:
            raise ConfigError(f"min_voxels must be a whole number above 0, got {min_voxels!r}")
        self.boxes, self.min_voxels, self.smallest_share = boxes, min_voxels, smallest_share
        stated = {"box_mode": box_mode, "box_space": box_space, "first_label": first_label, "image_root": image_root}
        layout = with_classes(find_layout(data_root, channels, classes, select, _box_format(stated)).checked())
        if layout.task not in ("segmentation", "detection"):
            hint = "Give masks, or a list with boxes"
            raise DatasetError(f"is for {layout.task}: boxes come of masks or of a list", path=layout.path, hint=hint)
        super().__init__(replace(layout, task="detection"), **arguments)

    @property
    def box_sizes(self) -> npt.NDArray[np.float64]:
        """Voxels (N, 3) along the axes of all boxes of all cases of this side, prepared, for anchors that fit them.

        Reads all scans that are not in memory.
        """
        found = [self._sample(index)["boxes"].boxes for index in range(len(self))]
        boxes = np.concatenate([np.zeros((0, 6)), *found])
        return cast("npt.NDArray[np.float64]", boxes[:, 3:] - boxes[:, :3])

    def _build_augmentation(self) -> Any:
        return build_box_augmentation(self.augmentation, self.patch_size, self.device)

    def _framed(self, sample: dict[str, Any]) -> dict[str, Any]:
        label = sample["label"]
        framed = {"image": sample["image"], "case": sample["case"], "boxes": label}
        if isinstance(label, Tensor):
            framed["label"], framed["boxes"] = mask_targets(label, self.boxes, self.min_voxels)
        if self.patch_size is None:
            return framed
        margins = centred_margins(framed["image"].shape[1:], self.patch_size)
        filled = padded(framed, self.patch_size)
        start = [-before for before, _ in margins]
        return {**filled, "boxes": framed["boxes"].cropped(start, filled["image"].shape[1:])}

    def _finished(self, sample: dict[str, Any]) -> dict[str, Any]:
        targets = _of_mask(sample["label"], sample["boxes"]) if "label" in sample else sample["boxes"]
        kept = targets.kept(self.smallest_share)
        # batches are lists, so nothing else copies what is kept in memory
        return {"image": sample["image"].clone(), "label": kept.to_dict(), "case": sample["case"]}

    def _classes_in(self, sample: dict[str, Any]) -> set[int]:
        return set(sample["boxes"].labels.tolist())


def _of_mask(numbered: Tensor, targets: BoxTargets) -> BoxTargets:
    """The boxes around what is left of the structures; their numbers are the order of the targets."""
    boxes, numbers = boxes_of_labels(numbered[0].cpu().numpy())
    return replace(targets[numbers - 1], boxes=boxes)


def _box_format(stated: Mapping[str, Any]) -> BoxFormat:
    given = {key: value for key, value in stated.items() if value is not None}
    try:
        return msgspec.convert(given, BoxFormat)
    except msgspec.ValidationError as error:
        raise ConfigError(f"dataset: {error}", hint="The fields of medtransfer.data.box_list.BoxFormat") from error
