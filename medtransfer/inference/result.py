"""What a prediction gives, and the files it becomes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..checkpoint.card import ModelCard
from ..errors import UsageError
from ..files import refuse_existing, write_json
from ..version import __version__
from ..volumes.prepare import Prepared
from ..volumes.read import Volume
from .findings import Finding, Segmentation, Several


@dataclass
class Prediction:
    """The result for one scan.

    Args:
        case: Name of the case, which the files take.
        card: The model's card; of an ensemble, its first.
        volume: The scan.
        prepared: The scan as the (first) network saw it.
        found: What was found: the result of the model's task.
        warnings: What the user should know.
        details: Device, precision, window and seconds, for the record.
        model_folders: Where the models came from, if from folders.
    """

    case: str
    card: ModelCard
    volume: Volume
    prepared: Prepared
    found: Finding
    warnings: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    model_folders: Sequence[Path] = ()

    @property
    def task(self) -> str:
        """``"segmentation"``, ``"classification"``, ``"regression"``, ``"detection"`` or ``"multitask"``."""
        return self.card.task

    @property
    def heads(self) -> dict[str, Finding]:
        """Of a multi-task model: the name of a head to its result, which has the attributes below; else empty."""
        return dict(self.found.found) if isinstance(self.found, Several) else {}

    @property
    def labels(self) -> nib.Nifti1Image:
        """Class numbers on the scan's own grid, affine equal bit for bit, of the smallest integer type.

        Raises:
            ModelError: the model gives no mask, or several.
        """
        return self.found.labels

    @property
    def logits(self) -> Tensor:
        """(K, I, J, K) on the scan's own grid, or (K,) of a classifier; of an ensemble, log mean probabilities.

        Those of a voxel are given less the largest of them, rounded to float16: softmax and argmax are the same.

        Raises:
            ModelError: the model gives none.
            ResourceError: they were not kept, since memory is too small.
        """
        return self.found.logits

    @property
    def probabilities(self) -> dict[str, float] | npt.NDArray[np.float32]:
        """Of a classifier: class name to probability. Of a segmenter: (K, I, J, K) float32 on the scan's own grid.

        Raises:
            ModelError: the model gives none.
            ResourceError: they were not kept, since memory is too small.
        """
        return self.found.probabilities

    @property
    def volumes_ml(self) -> dict[str, float]:
        """Millilitres of every class but the background, by name; empty where there is no mask."""
        return self.found.volumes_ml

    @property
    def boxes(self) -> list[dict[str, Any]]:
        """Of a detector, by descending score: ``class``, ``score``, ``box``, ``center_mm`` and ``size_mm``.

        A ``box`` has the lower and then the upper corner in voxels of the scan's own axes, counted from its outer
        corner; the centre is in the world (RAS+), the size along the scan's axes.

        Raises:
            ModelError: the model gives none.
        """
        return self.found.boxes

    @property
    def voxel_logits(self) -> npt.NDArray[np.floating] | None:
        """Of a segmenter, the logits (K, I, J, K) as they were kept, if they were; may be mapped from a file."""
        return self.found.voxel_logits if isinstance(self.found, Segmentation) else None

    def to_dict(self) -> dict[str, Any]:
        """What ``CASE.json`` holds: plain numbers and words."""
        return {
            "case": self.case,
            "task": self.task,
            "inputs": [os.fspath(path) for path in self.volume.paths],
            **self.found.to_dict(),
            "warnings": self.warnings,
            "model": {"architecture": self.card.architecture.name, "sha256": self.card.sha256},
            "run": self.details,
            "medtransfer": __version__,
        }

    def save(self, folder: str | os.PathLike[str], overwrite: bool = False, probabilities: bool = False) -> list[Path]:
        """Write the maps and, last, ``CASE.json``; returns their paths.

        A segmentation has ``CASE.nii.gz``, a detection ``CASE_boxes.nii.gz`` with the outlines of the boxes, and each
        segmenting head of a multi-task model ``CASE_NAME.nii.gz``.

        Args:
            folder: Made if it is missing.
            overwrite: Replace files that exist.
            probabilities: Of a segmentation, also write ``CASE_probabilities.nii.gz``: one volume a class, stored in 16
                bits. They come from logits in float16, so that a value may be off by 0.0005.

        Raises:
            OutputExistsError: one of them exists and ``overwrite`` is false; then none is written.
            UsageError: an output would be an input, or lie in a model's folder.
            ResourceError: the disk is full or the folder cannot be written, or probabilities that were not kept.
        """
        paths = self._outputs(Path(folder), overwrite, probabilities)
        self.found.write(Path(folder) / self.case, overwrite, probabilities)
        write_json(paths[-1], self.to_dict(), overwrite)
        return paths

    def _outputs(self, folder: Path, overwrite: bool, probabilities: bool) -> list[Path]:
        if folder.exists() and not folder.is_dir():
            raise UsageError("is a file, but a folder is to be written there", path=folder, hint="Name another output")
        maps = [ending for part in self.found.parts() for ending in part.head.maps(probabilities)]
        paths = [folder / f"{self.case}{ending}" for ending in [*maps, ".json"]]
        inputs = {path.resolve() for path in self.volume.paths}
        for path in paths:
            if path.resolve() in inputs:
                raise UsageError("would overwrite the scan itself", path=path, hint="Name another output folder")
            refuse_existing(path, overwrite)
        inside = {home.resolve() for home in self.model_folders} & {folder.resolve(), *folder.resolve().parents}
        if inside:
            raise UsageError(
                "is inside the model folder, which stays as it is", path=folder, hint="Name a folder elsewhere"
            )
        return paths
