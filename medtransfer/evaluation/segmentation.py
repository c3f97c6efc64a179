"""One case: the masks are read, brought through the gate, and every class is scored on the reference's grid."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..errors import VolumeError, describe_error
from ..scoring.lesions import match_lesions
from ..scoring.overlap import overlap
from ..scoring.surface import surface_distances
from ..volumes.grid import Grid
from ..volumes.read import read_labels
from ..volumes.validate import check_grids
from .masks import Pair
from .names import Names
from .scores import BOTH, DISTANCES, INVENTED, MISSED
from .settings import Settings

Array = npt.NDArray[np.int32]
Box = tuple[slice, ...]
HIGHEST_LABEL = 65_535


@dataclass(frozen=True)
class ClassResult:
    """A structure in a case: its outcome, and its scores and facts by name (NaN: not defined)."""

    label: int
    outcome: str
    scores: dict[str, float]


@dataclass(frozen=True)
class CaseResult:
    """A case: its classes that are in one of the masks, or the error that refused it with its exit code."""

    case: str
    classes: tuple[ClassResult, ...] = ()
    missing: bool = False
    warnings: tuple[str, ...] = ()
    error: str = ""
    exit_code: int = 0


def try_case(pair: Pair, names: Names | None, allowed: Collection[int] | None, settings: Settings) -> CaseResult:
    """As :func:`score_case`; an error becomes part of the result, so that one bad file does not stop the others."""
    try:
        return score_case(pair, names, allowed, settings)
    except Exception as error:
        message, code = describe_error(error)
        return CaseResult(pair.case, error=message, exit_code=code)


def score_case(pair: Pair, names: Names | None, allowed: Collection[int] | None, settings: Settings) -> CaseResult:
    """Score a case; without a prediction, as if its mask were empty.

    Args:
        pair: The files.
        names: The classes to score; None: all that are found.
        allowed: The labels that may occur; None: any.
        settings: How.

    Raises:
        VolumeError: a mask was refused, lies on another grid, or holds a label that is no class.
    """
    reference = read_labels(pair.reference)
    warnings = list(reference.warnings)
    labels = np.zeros_like(reference.array)
    if pair.prediction is not None:
        prediction = read_labels(pair.prediction)
        shown = ("the reference", "the prediction")
        warnings += prediction.warnings + check_grids(reference.grid, prediction.grid, shown, pair.prediction)
        labels = prediction.array
    if settings.ignore_label is not None:
        ignored = reference.array == settings.ignore_label
        labels, wanted = (np.where(ignored, 0, array) for array in (labels, reference.array))
    else:
        wanted = reference.array
    boxes = [
        _checked_boxes(array, allowed, file) for array, file in ((wanted, pair.reference), (labels, pair.prediction))
    ]
    classes = tuple(_scores(labels, wanted, _joined(*boxes), reference.grid, names, settings))
    return CaseResult(pair.case, classes, pair.prediction is None, tuple(warnings))


def _scores(
    labels: Array, reference: Array, boxes: dict[int, Box], grid: Grid, names: Names | None, settings: Settings
) -> Iterator[ClassResult]:
    """Score the classes that are in one of two label arrays (I, J, K), each in the box that holds both its masks."""
    for label, box in boxes.items():
        if names is None or label in names:
            yield _score_class(label, labels[box] == label, reference[box] == label, grid, names, settings)


def _score_class(
    label: int,
    mask: npt.NDArray[np.bool_],
    reference: npt.NDArray[np.bool_],
    grid: Grid,
    names: Names | None,
    settings: Settings,
) -> ClassResult:
    spacing = grid.spacing
    if mask.flags.f_contiguous:  # as files are read; no score depends on the order of the axes, but the time does
        mask, reference, spacing = mask.T, reference.T, spacing[::-1]
    voxels, lesions = overlap(mask, reference), match_lesions(mask, reference, settings.lesion_iou)
    distances = surface_distances(mask, reference, spacing)
    outcome = MISSED if not voxels.found else INVENTED if not voxels.wanted else BOTH
    scores = {
        "dice": voxels.dice,
        "nsd": distances.nsd(settings.tolerance_of((names or {}).get(label, str(label)))),
        **{name: getattr(distances, name) for name in DISTANCES},
        "sensitivity": voxels.sensitivity,
        "precision": voxels.precision,
        "volume_error_ml": (voxels.found - voxels.wanted) * grid.voxel_ml,
        "volume_error_relative": voxels.relative_error,
        "lesion_sensitivity": lesions.sensitivity,
        "lesion_precision": lesions.precision,
        "lesion_f1": lesions.f1,
        "volume_ml": voxels.found * grid.voxel_ml,
        "reference_ml": voxels.wanted * grid.voxel_ml,
        "lesions": lesions.wanted,
        "lesions_detected": lesions.detected,
        "lesions_predicted": lesions.found,
        "lesions_right": lesions.right,
    }
    if outcome != BOTH and settings.penalty == "diagonal":
        scores.update(dict.fromkeys(DISTANCES, diagonal_mm(grid)))
    return ClassResult(label, outcome, scores)


def diagonal_mm(grid: Grid) -> float:
    """From one corner of the image to the opposite one.

    >>> diagonal_mm(Grid((3, 4, 1), np.diag([1.0, 1.0, 0.0001, 1.0])))
    5.000...
    """
    return math.hypot(*(size * step for size, step in zip(grid.shape, grid.spacing, strict=True)))


def _boxes(array: Array) -> dict[int, Box]:
    """By label, the smallest box that holds its voxels."""
    found = enumerate(ndimage.find_objects(array.T), 1)  # fast in the order in which files are read
    return {label: box[::-1] for label, box in found if box is not None}


def _joined(first: dict[int, Box], second: dict[int, Box]) -> dict[int, Box]:
    labels = sorted({*first, *second})
    either = {**second, **first}, {**first, **second}
    return {label: _union(either[0][label], either[1][label]) for label in labels}


def _union(a: Box, b: Box) -> Box:
    return tuple(slice(min(x.start, y.start), max(x.stop, y.stop)) for x, y in zip(a, b, strict=True))


def _checked_boxes(array: Array, allowed: Collection[int] | None, path: Path | None) -> dict[int, Box]:
    """The boxes of the labels, all of which must be the background or one of the allowed.

    Raises:
        VolumeError: lists the others with their counts of voxels.
    """
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low >= 0 and high <= HIGHEST_LABEL:
        boxes = _boxes(array)
        if allowed is None or set(boxes) <= set(allowed):
            return boxes
    values, counts = np.unique(array, return_counts=True)
    fine = range(HIGHEST_LABEL + 1) if allowed is None else {0, *allowed}
    wrong = [f"{value} ({count} voxels)" for value, count in zip(values, counts, strict=True) if value not in fine]
    reason = f"labels that are no class: {', '.join(wrong[:8])}{', ...' if len(wrong) > 8 else ''}"
    hint = "Name all classes (labels.json, --classes), remap the labels, or name an --ignore-label"
    raise VolumeError(reason, path=path, hint=hint)
