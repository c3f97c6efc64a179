"""The pictures of an evaluation's page: what is drawn of whom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..reporting.page import Picture
from ..scoring.classification import calibration_bins
from ..scoring.ranking_curves import precision_recall_curve, roc_curve
from .charts import Bar, Curve, bland_altman_png, curves_png, differences_png, strips_png
from .classified import Classified
from .findings import Findings, Model
from .scores import SCORE_NAMES
from .segmented import Segmented
from .wording import BY_CLASS, title

Floats = npt.NDArray[np.float64]
_DRAWN = {"dice": True, "nsd": True, "hd95": False}
MOST_CLASSES = 40  # in a picture of a classification, or of differences


def strip_pictures(findings: Findings, folder: Path, overwrite: bool) -> list[Picture]:
    """Dice, NSD and HD95 of all cases by class."""
    caption = (
        "Boxes reach from the lower to the upper quartile, the line is the median, whiskers run to 1.5 box lengths, "
        "each point is a case. What is not defined, or infinite, is not drawn: see the counts of missed structures."
    )
    pictures: list[Picture] = []
    for score, unit_range in _DRAWN.items():
        values = {model.name: _by_class(_segmented(model), score) for model in findings.models}
        if any(np.isfinite(column).any() for by_class in values.values() for column in by_class.values()):
            path = strips_png(values, folder / f"{score}.png", title(score), unit_range, overwrite)
            pictures.append(Picture(path, f"{title(score)} of all cases by class", caption if not pictures else ""))
    return pictures


def volume_pictures(findings: Findings, folder: Path, overwrite: bool) -> list[Picture]:
    """Bland and Altman of the volumes, one picture a model."""
    caption = "Full line: mean error. Dashed: mean ± 1.96 standard deviations, which hold 95 % of normal errors."
    pictures: list[Picture] = []
    for number, model in enumerate(findings.models, 1):
        volumes = {name: pair for name, pair in _volumes(_segmented(model)).items() if len(pair[0])}
        if volumes:
            path = bland_altman_png(volumes, folder / f"volumes_{number}.png", model.name, overwrite)
            pictures.append(Picture(path, f"Volume errors of {model.name} over the volumes", caption))
    return pictures


def curve_pictures(findings: Findings, folder: Path, overwrite: bool) -> list[Picture]:
    """ROC, precision-recall and reliability curves, one picture a model."""
    caption = (
        "Left: ROC. Middle: precision over recall. Right: accuracy over confidence, on the grey line if calibrated."
    )
    pictures: list[Picture] = []
    for number, model in enumerate(findings.models, 1):
        results = model.drawn.results
        assert isinstance(results, Classified)
        path = curves_png(_curves(results), folder / f"curves_{number}.png", overwrite)
        pictures.append(Picture(path, f"ROC, precision-recall and reliability curves of {model.name}", caption))
    return pictures


def difference_picture(findings: Findings, folder: Path, overwrite: bool) -> Picture | None:
    """Differences with their intervals: of the classes by Dice or AP, or of the scores of a classification."""
    score = BY_CLASS.get(findings.task)
    shown = [one for one in findings.differences if np.isfinite(one.value) and one.score == (score or one.score)]
    if not shown:
        return None
    first, second = (model.name for model in findings.models)
    what = title(score) if score else "score"
    bars = [Bar(one.of if score else title(one.score), one.value, one.low, one.high) for one in shown]
    path = differences_png(bars, folder / "differences.png", f"{what} of {first} less that of {second}", overwrite)
    return Picture(path, f"Differences of {first} to {second} with 95 % intervals", "Bars are 95 % intervals.")


def _segmented(model: Model) -> Segmented:
    results = model.drawn.results
    assert isinstance(results, Segmented)
    return results


def _by_class(results: Segmented, score: str) -> dict[str, Floats]:
    place = SCORE_NAMES.index(score)
    return {name: results.values[:, number, place] for number, name in enumerate(results.names.values())}


def _volumes(results: Segmented) -> dict[str, tuple[Floats, Floats]]:
    found = {}
    for label, name in results.names.items():
        both = results.column("volume_ml", label), results.column("reference_ml", label)
        there = (both[0] > 0) | (both[1] > 0)
        found[name] = (both[0][there], both[1][there])
    return found


def _curves(results: Classified) -> dict[str, dict[str, Curve]]:
    defined = {
        name: (results.probabilities[:, number], results.labels == number)
        for number, name in results.names.items()
        if 0 < (results.labels == number).sum() < len(results.labels)
    }
    shown = dict(list(defined.items())[:MOST_CLASSES])
    share, mean, accuracy = calibration_bins(results.probabilities, results.labels, results.bins)
    filled = share > 0
    return {
        "false positive rate | true positive rate": {name: roc_curve(*pair) for name, pair in shown.items()},
        "recall | precision": {name: precision_recall_curve(*pair) for name, pair in shown.items()},
        "confidence | accuracy": {"all cases": (mean[filled], accuracy[filled])},
    }
