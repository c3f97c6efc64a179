"""What a user asked of a predictor, checked: sizes, memory, and options that fit the model's task."""

from __future__ import annotations

from collections.abc import Sequence

from ..checkpoint.card import ModelCard
from ..errors import UsageError
from .postprocess import Choice, Cleaning
from .windows import plan_windows

#: what may be done to the results of a task, all parts or classes of which have names
_CLEANING = {"segmentation": ("classes", "largest_component", "fill_holes"), "detection": ("classes",)}


def checked_tile(tile: str | int | Sequence[int], overlap: float | None) -> str | tuple[int, ...]:
    """``auto``, ``whole``, or the sizes of a window.

    Raises:
        UsageError: anything else, or an overlap that cannot be.
    """
    if isinstance(tile, str) and tile not in ("auto", "whole"):
        raise UsageError(f"tile must be auto, whole, or one or three sizes in voxels, got {tile!r}")
    if isinstance(tile, int):
        tile = (tile,) * 3
    if not isinstance(tile, str):
        plan_windows((1, 1, 1), tile, overlap or 0.0)
        return tuple(tile)
    plan_windows((1, 1, 1), (1, 1, 1), overlap or 0.0)
    return tile


def checked_memory(memory: str | float) -> str | float:
    """``auto``, or GiB.

    Raises:
        UsageError: anything else.
    """
    if memory != "auto" and (isinstance(memory, str) or not memory > 0):
        raise UsageError(f"memory must be auto or a number of GiB above 0, got {memory!r}")
    return memory


def checked_cleaning(
    card: ModelCard, classes: Sequence[str] | None, largest_component: Choice, fill_holes: Choice
) -> Cleaning:
    """What is done to masks; of a detector, which classes are kept.

    Raises:
        UsageError: a name that is no class, or a model that gives no mask.
    """
    given = {"classes": classes is not None, "largest_component": largest_component, "fill_holes": fill_holes}
    if any(wanted and name not in _CLEANING.get(card.task, ()) for name, wanted in given.items()):
        names = (
            "largest_component and fill_holes"
            if card.task in _CLEANING
            else "classes, largest_component and fill_holes"
        )
        raise UsageError(f"{names} change masks, the model is made for {card.task}", hint="Leave them out")
    return Cleaning.build(card.classes, classes, largest_component, fill_holes)


def checked_score(score: float | None) -> float | None:
    """The smallest score of a box, or None.

    Raises:
        UsageError: it is no share.
    """
    if score is not None and not 0 <= score <= 1:
        raise UsageError(f"score must be between 0 and 1, got {score}")
    return score
