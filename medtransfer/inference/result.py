"""What a prediction gives, and the files it becomes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..checkpoint.card import ModelCard
from ..errors import ModelError, UsageError
from ..files import refuse_existing, write_json
from ..version import __version__
from ..volumes.prepare import Prepared
from ..volumes.read import Volume
from ..volumes.write import labels_image, write_labels


@dataclass
class Prediction:
    """The result for one scan; what is costly is computed when it is asked for.

    Args:
        case: Name of the case, which the files take.
        card: The model's card.
        volume: The scan.
        prepared: The scan as the network saw it.
        logits: (K, D, H, W) on the working grid, or (K,) of a classifier; float32, on the CPU.
        warnings: What the user should know.
        details: Device, precision, window and seconds, for the record.
        model_folder: Where the model came from, if from a folder.
    """

    case: str
    card: ModelCard
    volume: Volume
    prepared: Prepared
    logits: Tensor
    warnings: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    model_folder: Path | None = None

    @property
    def task(self) -> str:
        """``"segmentation"`` or ``"classification"``."""
        return self.card.task

    @cached_property
    def labels(self) -> nib.Nifti1Image:
        """Class numbers on the scan's own grid, affine equal bit for bit, of the smallest integer type.

        Raises:
            ModelError: the model classifies.
        """
        if self.task != "segmentation":
            raise ModelError("the model classifies scans, it gives no mask", hint="Read .probabilities")
        return labels_image(self.prepared.restore_argmax(self.logits), self.volume)

    @cached_property
    def probabilities(self) -> dict[str, float] | npt.NDArray[np.float32]:
        """Of a classifier: class name to probability. Of a segmenter: (K, I, J, K) float32 on the scan's own grid."""
        if self.task == "classification":
            shares = self.logits.double().softmax(0).tolist()
            return dict(zip(self.card.classes, shares, strict=True))
        restored = torch.from_numpy(self.prepared.restore_logits(self.logits))
        return restored.softmax(0).numpy()

    @cached_property
    def volumes_ml(self) -> dict[str, float]:
        """Millilitres of every class but the background, by name; empty for a classifier."""
        if self.task != "segmentation":
            return {}
        counts = np.bincount(np.asanyarray(self.labels.dataobj).ravel(), minlength=len(self.card.classes))
        voxel = self.volume.grid.voxel_ml
        return {name: float(count * voxel) for name, count in zip(self.card.classes[1:], counts[1:], strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """What ``CASE.json`` holds: plain numbers and words."""
        found: dict[str, Any] = {"classes": list(self.card.classes)}
        if self.task == "segmentation":
            found["volumes_ml"] = self.volumes_ml
        else:
            found["probabilities"] = self.probabilities
            found["class"] = self.card.classes[int(self.logits.argmax())]
        return {
            "case": self.case,
            "task": self.task,
            "inputs": [os.fspath(path) for path in self.volume.paths],
            **found,
            "warnings": self.warnings,
            "model": {"architecture": self.card.architecture.name, "sha256": self.card.sha256},
            "run": self.details,
            "medtransfer": __version__,
        }

    def save(self, folder: str | os.PathLike[str], overwrite: bool = False) -> list[Path]:
        """Write ``CASE.nii.gz`` (segmentation) and ``CASE.json``; returns their paths.

        Raises:
            OutputExistsError: one of them exists and ``overwrite`` is false; then neither is written.
            UsageError: an output would be an input, or lie in the model's folder.
            ResourceError: disk full or folder not writable.
        """
        paths = self._outputs(Path(folder), overwrite)
        if self.task == "segmentation":
            write_labels(np.asanyarray(self.labels.dataobj), self.volume, paths[0], overwrite)
        write_json(paths[-1], self.to_dict(), overwrite)
        return paths

    def _outputs(self, folder: Path, overwrite: bool) -> list[Path]:
        if folder.exists() and not folder.is_dir():
            raise UsageError("is a file, but a folder is to be written there", path=folder, hint="Name another output")
        endings = [".nii.gz", ".json"] if self.task == "segmentation" else [".json"]
        paths = [folder / f"{self.case}{ending}" for ending in endings]
        inputs = {path.resolve() for path in self.volume.paths}
        for path in paths:
            if path.resolve() in inputs:
                raise UsageError("would overwrite the scan itself", path=path, hint="Name another output folder")
            refuse_existing(path, overwrite)
        home = self.model_folder.resolve() if self.model_folder else None
        if home and home in (folder.resolve(), *folder.resolve().parents):
            raise UsageError(
                "is inside the model folder, which stays as it is", path=folder, hint="Name a folder elsewhere"
            )
        return paths
