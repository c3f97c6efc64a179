"""The scores of a structure in a case, as a table: what they are called, their unit, and what is good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: what became of a structure in a case; scores of an absent one are not defined and count nowhere
BOTH, MISSED, INVENTED, ABSENT = "both", "missed", "invented", "absent"


@dataclass(frozen=True)
class Score:
    """A column of the results.

    Args:
        name: In tables and files.
        title: For readers, with the unit.
        better: Whether high or low values are good; an error is good near zero.
    """

    name: str
    title: str
    better: Literal["high", "low", "zero"]


SCORES = (
    Score("dice", "Dice", "high"),
    Score("nsd", "NSD", "high"),
    Score("hd95", "HD95 (mm)", "low"),
    Score("assd", "ASSD (mm)", "low"),
    Score("hd", "HD (mm)", "low"),
    Score("sensitivity", "sensitivity", "high"),
    Score("precision", "precision", "high"),
    Score("volume_error_ml", "volume error (ml)", "zero"),
    Score("volume_error_relative", "relative volume error", "zero"),
    Score("lesion_sensitivity", "lesion sensitivity", "high"),
    Score("lesion_precision", "lesion precision", "high"),
    Score("lesion_f1", "lesion F1", "high"),
)
SCORE_NAMES = tuple(score.name for score in SCORES)
DISTANCES = ("hd95", "assd", "hd")
#: facts beside the scores, which are not averaged
FACTS = ("volume_ml", "reference_ml", "lesions", "lesions_detected", "lesions_predicted", "lesions_right")
#: scores that two models are compared by
COMPARED = ("dice", "nsd", "hd95", "assd", "lesion_f1")
#: of these and of those of the other tasks, the ones of which low values are good
LOW_IS_GOOD = {
    *(score.name for score in SCORES if score.better == "low"),
    "brier",
    "ece",
    "center_error_mm",
    "mae",
    "rmse",
}
TITLES = {score.name: score.title for score in SCORES}
