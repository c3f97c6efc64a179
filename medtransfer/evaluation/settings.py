"""What a user may set of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from ..errors import UsageError
from ..scoring.matching import Hit
from ..volumes.structures import BoxOf

TOLERANCE_MM = 2.0
IOU = 0.5
SCORE = 0.5


@dataclass(frozen=True)
class Settings:
    """How structures are scored.

    Args:
        tolerance: Of NSD, in mm.
        tolerances: Of single classes, by name.
        lesion_iou: 0: one common voxel detects a lesion; above 0: the intersection over union that a pair needs.
        ignore_label: Voxels that have it in the reference count for nothing, in the prediction neither.
        penalty: What the distances of a missed or invented structure are: ``"none"`` leaves them infinite and out of
            the means, ``"diagonal"`` puts the diagonal of the image.

    Raises:
        UsageError: a value out of its range.
    """

    tolerance: float = TOLERANCE_MM
    tolerances: Mapping[str, float] = field(default_factory=dict)
    lesion_iou: float = 0.0
    ignore_label: int | None = None
    penalty: Literal["none", "diagonal"] = "none"

    def __post_init__(self) -> None:
        wrong = [value for value in (self.tolerance, *self.tolerances.values()) if not 0 <= value < math.inf]
        if wrong:
            raise UsageError(f"tolerance must be a number of millimetres of at least 0, got {wrong[0]}")
        if not 0 <= self.lesion_iou <= 1:
            raise UsageError(f"lesion_iou must be from 0 to 1, got {self.lesion_iou}")
        if self.penalty not in ("none", "diagonal"):
            raise UsageError(f"penalty must be 'none' or 'diagonal', got {self.penalty!r}")
        if self.ignore_label == 0:
            raise UsageError("ignore_label 0 is the background, which is no class to ignore")

    def tolerance_of(self, name: str) -> float:
        """Of a class, in mm.

        >>> Settings(tolerances={"liver": 3.0}).tolerance_of("liver"), Settings().tolerance_of("liver")
        (3.0, 2.0)
        """
        return self.tolerances.get(name, self.tolerance)


@dataclass(frozen=True)
class BoxSettings:
    """How boxes are scored.

    Args:
        iou: Least intersection over union of a hit.
        hit: Whether a box is right by its overlap, or by its centre.
        boxes: What of a reference mask has a box: each class, or each connected component of a class.
        score: Boxes from this score on are counted, and have sensitivity and precision; curves are of all boxes.
        ignore_label: Voxels of a reference mask that belong to no box.

    Raises:
        UsageError: a value out of its range.
    """

    iou: float = IOU
    hit: Hit = "iou"
    boxes: BoxOf = "class"
    score: float = SCORE
    ignore_label: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.iou <= 1:
            raise UsageError(f"iou must be above 0 and at most 1, got {self.iou}")
        if math.isnan(self.score):
            raise UsageError("score must be a number, got nan")
        for name, kinds in (("hit", Hit), ("boxes", BoxOf)):
            if getattr(self, name) not in get_args(kinds):
                raise UsageError(f"{name} must be one of {', '.join(get_args(kinds))}, got {getattr(self, name)!r}")
