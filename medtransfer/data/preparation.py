"""One case from its files to tensors on the working grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..volumes.prepare import prepare, prepare_labels
from ..volumes.read import Volume, read_labels, read_volume
from .cases import Case, Layout
from .preprocessing import Preprocessing


def prepare_case(case: Case, layout: Layout, preprocessing: Preprocessing) -> dict[str, Any]:
    """Read and prepare a case.

    Returns:
        ``image`` (C, D, H, W) float32; ``label`` (1, D, H, W), uint8 or int32, or the class number; ``case``, its id.

    Raises:
        VolumeError: a file was refused, or the label does not belong to the scan.
    """
    volume = read_volume(case.source, channels=layout.channels)
    spacing = preprocessing.spacing
    prepared = prepare(volume, preprocessing.orientation, spacing, preprocessing.intensity)
    label: Any = case.label
    if isinstance(label, Path):
        label = _prepared_label(label, volume, layout, preprocessing)
    return {"image": torch.from_numpy(prepared.array), "label": label, "case": case.id}


def _prepared_label(path: Path, volume: Volume, layout: Layout, preprocessing: Preprocessing) -> torch.Tensor:
    labels = read_labels(path, volume.grid, num_classes=len(layout.classes))
    # nearest keeps labels exact where the spacing stays; resampled ones are smoother by the share of each class
    method = "nearest" if preprocessing.spacing is None else "linear"
    array = prepare_labels(labels.array, volume.grid, preprocessing.orientation, preprocessing.spacing, method)  # type: ignore[arg-type]
    small = torch.uint8 if len(layout.classes) <= 256 else torch.int32
    return torch.from_numpy(array.copy()).to(small)[None]
