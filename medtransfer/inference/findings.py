"""What was found in one scan, of each task: what it says, its part of ``CASE.json``, and the files it becomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import ModelError, ResourceError
from ..volumes.boxes import Boxes, boxes_to_world, draw_boxes
from ..volumes.read import Volume
from ..volumes.shares import write_shares
from ..volumes.write import labels_image, write_labels
from .kinds import Head

Mask = npt.NDArray[Any]


@dataclass
class Finding:
    """The result of one task for one scan.

    Args:
        head: The task, and the names of its classes.
        volume: The scan.

    Raises:
        ModelError: an attribute that a task does not have is read; it says what there is instead.
    """

    head: Head
    volume: Volume
    gives: ClassVar[tuple[str, str]]
    """What a network of this task does, and where its result is to be read."""

    @property
    def task(self) -> str:
        """Such as ``"segmentation"``."""
        return self.head.task

    @property
    def classes(self) -> list[str]:
        """Names of the classes, or of the quantities of a regression."""
        return list(self.head.classes)

    @property
    def labels(self) -> nib.Nifti1Image:
        """Class numbers on the scan's own grid."""
        raise self._lacks("mask")

    @property
    def logits(self) -> Tensor:
        """What the network gave."""
        raise self._lacks("logits")

    @property
    def probabilities(self) -> Any:
        """Shares of the classes."""
        raise self._lacks("probabilities")

    @property
    def boxes(self) -> list[dict[str, Any]]:
        """Boxes by descending score."""
        raise self._lacks("boxes")

    @property
    def values(self) -> dict[str, float]:
        """Quantities by name."""
        raise self._lacks("values")

    @property
    def volumes_ml(self) -> dict[str, float]:
        """Millilitres by class; empty where there is no mask."""
        return {}

    @property
    def mask(self) -> Mask | None:
        """Class numbers (I, J, K) that a viewer can show, or None."""
        return None

    def parts(self) -> Iterator[Finding]:
        """The results of the heads, each with its own files."""
        yield self

    def to_dict(self) -> dict[str, Any]:
        """The result in plain numbers and words."""
        return {"classes": self.classes}

    def write(self, path: Path, overwrite: bool = False, probabilities: bool = False) -> None:
        """Write the files whose endings the head tells; ``path`` is that of the case, without an ending."""

    def _lacks(self, what: str) -> ModelError:
        does, instead = self.gives
        given = "no mask" if what == "mask" else f"no {what}"
        return ModelError(f"the model {does}, it gives {given}", hint=f"Read {instead}")


@dataclass
class Segmentation(Finding):
    """Class numbers (I, J, K) of every voxel; logits (K, I, J, K) if they were kept, maybe mapped from a file."""

    found: Mask
    voxel_logits: npt.NDArray[np.floating] | None = None
    gives = ("segments scans", ".labels")

    @property
    def mask(self) -> Mask:
        """Class numbers (I, J, K)."""
        return self.found

    @cached_property
    def labels(self) -> nib.Nifti1Image:
        """Class numbers on the scan's own grid, affine equal bit for bit, of the smallest integer type."""
        return labels_image(self.found, self.volume)

    @property
    def logits(self) -> Tensor:
        """(K, I, J, K) on the scan's own grid, of each voxel less the largest; of an ensemble, log mean probabilities.

        Raises:
            ResourceError: they were not kept, since memory is too small.
        """
        return torch.from_numpy(np.ascontiguousarray(self._kept())).float()

    @cached_property
    def probabilities(self) -> npt.NDArray[np.float32]:
        """(K, I, J, K) float32 on the scan's own grid; errors as of :attr:`logits`."""
        kept = self._kept()
        shares = np.empty(kept.shape, np.float32)
        for index in range(kept.shape[1]):  # plane by plane: all logits in float32 would be as much again
            part = torch.from_numpy(np.ascontiguousarray(kept[:, index])).float()
            shares[:, index] = part.softmax(0).numpy()
        return shares

    @cached_property
    def volumes_ml(self) -> dict[str, float]:
        """Millilitres of every class but the background, by name."""
        counts = np.sum([np.bincount(p.ravel(), minlength=len(self.classes)) for p in self.found], axis=0)
        voxel = self.volume.grid.voxel_ml
        return {name: float(count * voxel) for name, count in zip(self.classes[1:], counts[1:], strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """Classes and their volumes."""
        return {**super().to_dict(), "volumes_ml": self.volumes_ml}

    def write(self, path: Path, overwrite: bool = False, probabilities: bool = False) -> None:
        """The mask, and the probabilities in 16 bits.

        Raises:
            OutputExistsError: one of them exists and ``overwrite`` is false.
            ResourceError: the disk is full or the folder cannot be written, or probabilities that were not kept.
        """
        files = [path.with_name(f"{path.name}{ending}") for ending in self.head.maps(probabilities)]
        write_labels(self.found, self.volume, files[0], overwrite)
        if probabilities:
            write_shares(self._kept(), self.volume, files[1], overwrite)

    def _kept(self) -> npt.NDArray[np.floating]:
        if self.voxel_logits is None:
            reason = f"the probabilities of {len(self.classes)} classes were not kept: memory is too small"
            raise ResourceError(reason, hint="Predict with probabilities=True to keep them in a temporary file")
        return self.voxel_logits


@dataclass
class Classification(Finding):
    """The logits (K,) of the classes."""

    found: Tensor
    gives = ("classifies scans", ".probabilities")

    @property
    def logits(self) -> Tensor:
        """(K,); of an ensemble, log mean probabilities."""
        return self.found

    @cached_property
    def probabilities(self) -> dict[str, float]:
        """Class name to probability."""
        return dict(zip(self.classes, self.found.double().softmax(0).tolist(), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Probabilities, and the most probable class."""
        chosen = self.classes[int(self.found.argmax())]
        return {**super().to_dict(), "probabilities": self.probabilities, "class": chosen}


@dataclass
class Regression(Finding):
    """Quantities (Q,) in their own units."""

    found: Tensor
    gives = ("estimates quantities", ".values")

    @cached_property
    def values(self) -> dict[str, float]:
        """Name to value."""
        return dict(zip(self.classes, self.found.tolist(), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """The values by name."""
        return {**super().to_dict(), "values": self.values}


@dataclass
class Detection(Finding):
    """Boxes (N, 6) in voxels of the scan's own axes, by descending score; class numbers (N,) and scores (N,)."""

    found: Boxes
    numbers: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    gives = ("finds boxes", ".boxes")

    @cached_property
    def boxes(self) -> list[dict[str, Any]]:
        """``class``, ``score``, ``box`` in voxels of the scan, ``center_mm`` (RAS), ``size_mm`` along its axes."""
        places = [np.round(array, 4).tolist() for array in (self.found, *boxes_to_world(self.found, self.volume.grid))]
        named = [self.classes[number] for number in self.numbers]
        rows = zip(named, np.round(self.scores, 6).tolist(), *places, strict=True)
        return [dict(zip(("class", "score", "box", "center_mm", "size_mm"), row, strict=True)) for row in rows]

    @cached_property
    def mask(self) -> Mask:
        """The outlines of the boxes, by class number."""
        return draw_boxes(self.volume.grid.shape, self.found, self.numbers)

    def to_dict(self) -> dict[str, Any]:
        """Classes and boxes."""
        return {**super().to_dict(), "boxes": self.boxes}

    def write(self, path: Path, overwrite: bool = False, probabilities: bool = False) -> None:
        """The outlines, as class numbers; errors as of a segmentation."""
        (ending,) = self.head.maps()
        write_labels(self.mask, self.volume, path.with_name(f"{path.name}{ending}"), overwrite)


@dataclass
class Several(Finding):
    """The results of a network's heads, by name."""

    found: Mapping[str, Finding]
    gives = ("has several heads", ".heads[name], each with a result of its own")

    def parts(self) -> Iterator[Finding]:
        """The results of the heads."""
        yield from self.found.values()

    def to_dict(self) -> dict[str, Any]:
        """The results by head."""
        heads = {name: {"task": one.task, **one.to_dict()} for name, one in self.found.items()}
        return {**super().to_dict(), "heads": heads}

    def write(self, path: Path, overwrite: bool = False, probabilities: bool = False) -> None:
        """The files of all heads."""
        for one in self.found.values():
            one.write(path, overwrite, probabilities)
