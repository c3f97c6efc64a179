"""What a prediction gives, and the files it becomes."""

from __future__ import annotations

import os
from collections.abc import Sequence
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
from ..errors import ModelError, ResourceError, UsageError
from ..files import refuse_existing, write_json
from ..version import __version__
from ..volumes.prepare import Prepared
from ..volumes.read import Volume
from ..volumes.shares import write_shares
from ..volumes.write import labels_image, write_labels


@dataclass
class Prediction:
    """The result for one scan.

    Args:
        case: Name of the case, which the files take.
        card: The model's card; of an ensemble, its first.
        volume: The scan.
        prepared: The scan as the (first) network saw it.
        mask: Of a segmenter, class numbers (I, J, K).
        voxel_logits: Of a segmenter, (K, I, J, K) on the scan's own grid if they were kept; may be mapped from a file.
        class_logits: Of a classifier, (K,).
        warnings: What the user should know.
        details: Device, precision, window and seconds, for the record.
        model_folders: Where the models came from, if from folders.
    """

    case: str
    card: ModelCard
    volume: Volume
    prepared: Prepared
    mask: npt.NDArray[Any] | None = None
    voxel_logits: npt.NDArray[np.floating] | None = None
    class_logits: Tensor | None = None
    warnings: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    model_folders: Sequence[Path] = ()

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
        if self.mask is None:
            raise ModelError("the model classifies scans, it gives no mask", hint="Read .probabilities")
        return labels_image(self.mask, self.volume)

    @property
    def logits(self) -> Tensor:
        """(K, I, J, K) on the scan's own grid, or (K,) of a classifier; of an ensemble, log mean probabilities.

        Raises:
            ResourceError: they were not kept, since memory is too small.
        """
        if self.class_logits is not None:
            return self.class_logits
        return torch.from_numpy(np.ascontiguousarray(self._kept())).float()

    @cached_property
    def probabilities(self) -> dict[str, float] | npt.NDArray[np.float32]:
        """Of a classifier: class name to probability. Of a segmenter: (K, I, J, K) float32 on the scan's own grid.

        Raises:
            ResourceError: they were not kept, since memory is too small.
        """
        shares = self.logits.double().softmax(0) if self.mask is None else self.logits.softmax(0)
        return shares.numpy() if self.mask is not None else dict(zip(self.card.classes, shares.tolist(), strict=True))

    @cached_property
    def volumes_ml(self) -> dict[str, float]:
        """Millilitres of every class but the background, by name; empty for a classifier."""
        if self.mask is None:
            return {}
        counts = np.sum([np.bincount(p.ravel(), minlength=len(self.card.classes)) for p in self.mask], axis=0)
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

    def save(self, folder: str | os.PathLike[str], overwrite: bool = False, probabilities: bool = False) -> list[Path]:
        """Write ``CASE.nii.gz`` (segmentation) and, last, ``CASE.json``; returns their paths.

        Args:
            folder: Made if it is missing.
            overwrite: Replace files that exist.
            probabilities: Of a segmentation, also write ``CASE_probabilities.nii.gz``: one volume a class, stored in 16
                bits, so that a value is off by at most 0.00001.

        Raises:
            OutputExistsError: one of them exists and ``overwrite`` is false; then none is written.
            UsageError: an output would be an input, or lie in a model's folder.
            ResourceError: disk full or folder not writable, or probabilities that were not kept.
        """
        paths = self._outputs(Path(folder), overwrite, probabilities)
        if self.mask is not None:
            write_labels(self.mask, self.volume, paths[0], overwrite)
        if self.mask is not None and probabilities:
            write_shares(self._kept(), self.volume, paths[1], overwrite)
        write_json(paths[-1], self.to_dict(), overwrite)
        return paths

    def _kept(self) -> npt.NDArray[np.floating]:
        if self.voxel_logits is None:
            reason = f"the probabilities of {len(self.card.classes)} classes were not kept: memory is too small"
            raise ResourceError(reason, hint="Predict with probabilities=True to keep them in a temporary file")
        return self.voxel_logits

    def _outputs(self, folder: Path, overwrite: bool, probabilities: bool) -> list[Path]:
        if folder.exists() and not folder.is_dir():
            raise UsageError("is a file, but a folder is to be written there", path=folder, hint="Name another output")
        maps = [".nii.gz", *(["_probabilities.nii.gz"] if probabilities else [])]
        endings = [*(maps if self.task == "segmentation" else []), ".json"]
        paths = [folder / f"{self.case}{ending}" for ending in endings]
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
