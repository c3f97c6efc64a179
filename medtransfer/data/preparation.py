"""One case from its files to tensors on the working grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from ..errors import DatasetError
from ..volumes.boxes import clip_boxes
from ..volumes.intensity import Given, normalise
from ..volumes.prepare import Prepared, prepare, prepare_labels
from ..volumes.read import Volume, read_labels, read_volume
from ..volumes.validate import check_not_scan
from .box_places import outside_text, place_boxes
from .box_targets import BoxTargets
from .cases import Case, Layout, ListedBoxes, refuse
from .leaks import copied_labels
from .preprocessing import Preprocessing

Look: TypeAlias = Callable[[Volume, npt.NDArray[np.int32] | None], None]


def prepare_case(case: Case, layout: Layout, preprocessing: Preprocessing, look: Look | None = None) -> dict[str, Any]:
    """Read and prepare a case.

    Args:
        case: The case.
        layout: The dataset.
        preprocessing: What is done to it.
        look: Is given the scan and its labels as read, so that no file is read twice to be measured.

    Returns:
        ``image`` (C, D, H, W) float32; ``label`` (1, D, H, W), uint8 or int32, or the class number, or the
        `medtransfer.data.box_targets.BoxTargets` of a list of boxes; ``case``, its id.

    Raises:
        VolumeError: a file was refused, or the label does not belong to the scan.
        DatasetError: the label is a copy of the scan, or a box lies outside of the scan.
    """
    volume = read_volume(case.source, channels=layout.channels)
    spacing = preprocessing.spacing
    prepared = prepare(volume, preprocessing.orientation, spacing, preprocessing.intensity)
    label: Any = case.label
    array = None
    if isinstance(label, Path):
        # a copied scan is named as what it is, before its fractions are
        refuse(copied_labels([case]), layout.path, hint="Give each case its own label")
        array = read_mask(label, volume, len(layout.classes))
        label = prepared_mask(array, volume, preprocessing, len(layout.classes))
    if isinstance(label, ListedBoxes):
        label = _prepared_boxes(case, label, prepared)
    if look is not None:
        look(volume, array)
    return {"image": torch.from_numpy(prepared.array), "label": label, "case": case.id}


def rescaled(sample: dict[str, Any], intensity: Given) -> dict[str, Any]:
    """A case that was prepared without scaling, scaled."""
    return {**sample, "image": torch.from_numpy(normalise(sample["image"].numpy(), intensity)[0])}


def _prepared_boxes(case: Case, listed: ListedBoxes, prepared: Prepared) -> BoxTargets:
    boxes, outside = place_boxes(listed, prepared.source_grid, prepared.grid)
    if outside:
        reason = f"case {case.id}: {outside_text(outside, len(boxes))}"
        raise DatasetError(reason, path=case.images[0], hint="Check box_mode and box_space of the list")
    return BoxTargets.whole(clip_boxes(boxes, prepared.grid.shape), listed.labels)


def read_mask(path: Path, volume: Volume, num_classes: int) -> npt.NDArray[np.int32]:
    """A label file of a scan, (I, J, K) as stored.

    Raises:
        VolumeError: the file was refused, or does not belong to the scan.
    """
    array = read_labels(path, volume.grid, num_classes=num_classes).array
    for channel in volume.array:
        check_not_scan(array, channel, path)
    return array


def prepared_mask(
    labels: npt.NDArray[np.int32], volume: Volume, preprocessing: Preprocessing, num_classes: int
) -> torch.Tensor:
    """Labels as stored on the working grid: (1, D, H, W), uint8 or int32."""
    # nearest keeps labels exact where the spacing stays; resampled ones are smoother by the share of each class
    method = "nearest" if preprocessing.spacing is None else "linear"
    array = prepare_labels(labels, volume.grid, preprocessing.orientation, preprocessing.spacing, method)  # type: ignore[arg-type]
    small = torch.uint8 if num_classes <= 256 else torch.int32
    return torch.from_numpy(array.copy()).to(small)[None]
