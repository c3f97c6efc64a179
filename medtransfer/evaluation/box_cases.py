"""One case: its found and its reference boxes on one grid, with the numbers of their classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.box_places import place_boxes
from ..data.cases import Case, ListedBoxes
from ..errors import DatasetError, VolumeError, describe_error
from ..reporting.words import listed
from ..scoring.matching import Boxes
from ..volumes.boxes import boxes_to_world
from ..volumes.grid import Grid
from ..volumes.header_grid import read_grid
from ..volumes.read import read_labels
from ..volumes.structures import boxes_of_labels
from .box_files import BoxDocument, BoxSource, FoundBox, read_document
from .names import Names
from .settings import BoxSettings

Floats = npt.NDArray[np.float64]
NEAR_VOXELS, SAME_VOXELS = 0.5, 0.05  # as of masks on two grids
BEYOND_VOXELS = 1.0
NO_BOXES = Boxes(np.zeros((0, 6)), np.zeros(0, np.int64), np.zeros(0))


@dataclass(frozen=True)
class CaseBoxes:
    """A case, or the error that refused it with its exit code.

    Args:
        case: Its name.
        found: Found boxes, in voxels.
        wanted: Reference boxes, in voxels of the same grid.
        to_mm: (3, 3) takes steps in voxels to steps in mm; None if nothing says how large a voxel is.
        missing: There was no prediction.
        foreign: Classes of found boxes that the references do not have, once a box.
        warnings: What should be known.
        error: Why it was refused.
        exit_code: Of the error.
    """

    case: str
    found: Boxes = NO_BOXES
    wanted: Boxes = NO_BOXES
    to_mm: Floats | None = None
    missing: bool = False
    foreign: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    error: str = ""
    exit_code: int = 0


@dataclass(frozen=True)
class _Side:
    """Boxes (N, 6), the classes and scores of each, and what is known of the scan."""

    boxes: Floats
    classes: Sequence[str | int]
    scores: Floats
    grid: Grid | None = None
    to_mm: Floats | None = None
    centers_mm: Floats | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CaseReader:
    """Reads the cases of one model and the references.

    Args:
        found: The predictions.
        wanted: The references.
        names: The classes that are scored, by number.
        known: Numbers of all classes by what they may be called; those that are not scored are left out in silence.
        settings: How reference boxes are made of masks.
    """

    found: BoxSource
    wanted: BoxSource
    names: Names
    known: Mapping[str, int]
    settings: BoxSettings

    def try_read(self, case: str, prediction: str | None) -> CaseBoxes:
        """As :meth:`read`; an error becomes part of the result."""
        try:
            return self.read(case, prediction)
        except Exception as error:
            message, code = describe_error(error)
            return CaseBoxes(case, error=message, exit_code=code)

    def read(self, case: str, prediction: str | None) -> CaseBoxes:
        """A case; without a prediction, as if no box was found.

        Raises:
            DatasetError: a document is wrong, or a reference box has no volume.
            VolumeError: the mask or scan was refused, or the boxes lie on another grid than the reference.
        """
        wanted = _side(self.wanted, case, self.settings)
        found = (
            _side(self.found, prediction, self.settings)
            if prediction is not None
            else _Side(_array([], 6), (), np.zeros(0))
        )
        if not (wanted.boxes[:, 3:] > wanted.boxes[:, :3]).all():
            reason = f"case {case}: a reference box has no volume: its upper corner must lie above its lower one"
            raise DatasetError(reason, path=self.wanted.path)
        _refuse_outside(wanted, case, self.wanted.path)
        place = self.found.path / f"{prediction}.json" if self.found.path.is_dir() else self.found.path
        warnings = [*wanted.warnings, *_off_grid(found, wanted.grid, place), *_beyond(found, wanted)]
        numbers, foreign = self._numbers(found.classes)
        labels, unknown = self._numbers(wanted.classes)
        if unknown:
            reason = f"case {case}: the reference has boxes of {listed(sorted(set(unknown)))}, which is no class"
            hint = "Name all classes (--classes), or correct the reference"
            raise DatasetError(reason, path=self.wanted.path, hint=hint)
        to_mm = next((one for one in (wanted.to_mm, found.to_mm) if one is not None), None)
        return CaseBoxes(
            case,
            Boxes(found.boxes, numbers, found.scores),
            Boxes(wanted.boxes, labels),
            to_mm,
            prediction is None,
            tuple(foreign),
            tuple(warnings),
        )

    def _numbers(self, classes: Sequence[str | int]) -> tuple[npt.NDArray[np.int64], list[str]]:
        """Class numbers, 0 for what is not scored; and the names that are no class, once a box."""
        called = self.known
        numbers = [called.get(str(name)) or called.get(str(name).lower(), 0) for name in classes]
        foreign = [str(name) for name, number in zip(classes, numbers, strict=True) if not number]
        return np.array([number if number in self.names else 0 for number in numbers], np.int64), foreign


def class_numbers(known: Names) -> dict[str, int]:
    """Numbers by what a class may be called: its name, its name in small letters, or its number."""
    small = {name.lower(): number for number, name in known.items()}
    return {str(number): number for number in known} | small | {name: number for number, name in known.items()}


def found_names(wanted: BoxSource, settings: BoxSettings) -> Names:
    """Where nothing names the classes: those of the reference boxes, or the numbers in the reference masks.

    Raises:
        VolumeError: a mask was refused.
    """
    told = {
        str(box.get("class"))
        for source in wanted.sources.values()
        if isinstance(source, Mapping)
        for box in source.get("boxes", ())
        if isinstance(box, Mapping)
    }
    masks = [source for source in wanted.sources.values() if isinstance(source, Path)]
    numbers = {int(label) for path in masks for label in _masked(path, settings).classes}
    return {label: str(label) for label in sorted(numbers)} | dict(enumerate(sorted(told), 1))


def _side(boxes: BoxSource, case: str, settings: BoxSettings) -> _Side:
    source = boxes.sources[case]
    if isinstance(source, Case):
        return _listed(source)
    return _masked(source, settings) if isinstance(source, Path) else _told(source, boxes.path)


def _listed(case: Case) -> _Side:
    """Boxes of a list, moved to the grid of the scan if they are in mm."""
    assert isinstance(case.label, ListedBoxes)
    grid = read_grid(case.images[0])
    corners, _ = place_boxes(case.label, grid, grid)
    return _Side(corners, case.label.labels, np.ones(len(corners)), grid, grid.affine[:3, :3])


def _masked(path: Path, settings: BoxSettings) -> _Side:
    labels = read_labels(path)
    array = labels.array
    if settings.ignore_label is not None:
        array = np.where(array == settings.ignore_label, 0, array)
    boxes, numbers = boxes_of_labels(array, settings.boxes)
    scores = np.ones(len(boxes))
    return _Side(boxes, numbers.tolist(), scores, labels.grid, labels.grid.affine[:3, :3], warnings=labels.warnings)


def _told(document: Mapping[str, Any], path: Path) -> _Side:
    told: BoxDocument = read_document(document, path)
    boxes = _array([one.box for one in told.boxes], 6)
    if not (np.isfinite(boxes).all() and np.isfinite([one.score for one in told.boxes]).all()):
        raise DatasetError(f"case {told.case}: a number of a box is not finite", path=path)
    if not (boxes[:, 3:] >= boxes[:, :3]).all():
        reason = f"case {told.case}: a box has its upper corner below its lower one"
        raise DatasetError(reason, path=path, hint="Write i0 j0 k0 i1 j1 k1")
    centers = [one.center_mm for one in told.boxes if one.center_mm is not None]
    return _Side(
        boxes,
        [one.name for one in told.boxes],
        np.array([one.score for one in told.boxes], float),
        to_mm=_voxel_size(told.boxes),
        centers_mm=_array(centers, 3) if len(centers) == len(boxes) else None,
    )


def _voxel_size(boxes: Sequence[FoundBox]) -> Floats | None:
    """From the first box whose size is known in mm too."""
    for one in boxes:
        extent = np.subtract(one.box[3:], one.box[:3])
        if one.size_mm is not None and (extent > 0).all():
            return np.diag(np.asarray(one.size_mm, float) / extent)
    return None


def _off_grid(found: _Side, grid: Grid | None, path: Path) -> Iterator[str]:
    """Raise if the voxels that are meant are not those of the reference's grid."""
    if grid is None or found.centers_mm is None or not len(found.boxes):
        return
    apart = np.linalg.solve(grid.affine[:3, :3], (boxes_to_world(found.boxes, grid)[0] - found.centers_mm).T)
    off = float(np.abs(apart).max())
    if off > NEAR_VOXELS:
        reason = f"the boxes lie up to {off:.3g} voxels off the reference's grid ({grid})"
        raise VolumeError(reason, path=path, hint="Predict the scans that the references belong to")
    if off > SAME_VOXELS:
        yield f"the boxes lie up to {off:.2g} voxels off the reference's grid"


def _refuse_outside(wanted: _Side, case: str, path: Path) -> None:
    """Raise if the centre of a reference box is not in its scan, as training does: nothing could hit it."""
    if wanted.grid is None:
        return
    centres = (wanted.boxes[:, :3] + wanted.boxes[:, 3:]) / 2
    outside = ((centres < 0) | (centres > wanted.grid.shape)).any(axis=1)
    if outside.any():
        reason = f"case {case}: {int(outside.sum())} of {len(centres)} reference boxes lie outside of the scan"
        raise DatasetError(reason, path=path, hint="Check box_mode and box_space; medtransfer check says more")


def _beyond(found: _Side, wanted: _Side) -> Iterator[str]:
    if wanted.grid is None:
        return
    shape = np.array(wanted.grid.shape)
    for what, boxes in (("found", found.boxes), ("reference", wanted.boxes)):
        reach = np.maximum(-boxes[:, :3], boxes[:, 3:] - shape).max(axis=1) if len(boxes) else np.zeros(0)
        count = int((reach > BEYOND_VOXELS).sum())
        if count:
            shown = f"1 {what} box reaches" if count == 1 else f"{count} {what} boxes reach"
            yield f"{shown} up to {reach.max():.3g} voxels beyond the scan"


def _array(rows: Sequence[Sequence[float]], columns: int) -> Floats:
    return np.array(rows, float).reshape(-1, columns)
