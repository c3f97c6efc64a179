"""The part of an evaluation's page that is of boxes: curves, precision by overlap, counts, and the worst cases."""

from __future__ import annotations

import math
from pathlib import Path

from ..reporting.page import Picture, Section, Table
from ..scoring.detection import IOUS
from .box_charts import box_curves_png
from .detected import Detected
from .findings import Findings, Model

MOST_CLASSES = 40  # in a picture
WORST = 15

_TABLE = """
Average precision by the least overlap (intersection over union) of a hit, whatever is a hit elsewhere on this page.
"""
_COUNTS = """
Counts over all cases. A box counts from the score {score:g} on. Best F1: from which score on F1 would have been
highest, chosen on these very cases, so somewhat too good.
"""


def box_sections(findings: Findings, folder: Path, overwrite: bool) -> list[Section]:
    """All sections between the scores and what is missing."""
    models = findings.models
    return [
        Section("Curves", "", (), _curves(findings, folder, overwrite)),
        Section("Average precision by overlap", _TABLE, [_precisions(model) for model in models]),
        Section("Boxes", _COUNTS.format(score=findings.settings["score"]), [_counts(model) for model in models]),
        Section("Where to look first", "", [_worst(model) for model in models]),
    ]


def box_rules(findings: Findings) -> str:
    """How boxes were counted, in words."""
    settings = findings.settings
    hit = {
        "iou": f"A box is right if it overlaps a reference box of its class by {settings['iou']:g} (intersection over "
        "union) that no box with a higher score has taken; a second box on the same reference box is wrong.",
        "center": "A box is right if its centre lies in the ellipsoid that fills a reference box of its class; a "
        "second box on the same reference box is neither right nor wrong.",
    }[settings["hit"]]
    return (
        f"{hit} AP is the mean precision over 101 recalls, as COCO counts; AP 0.1-0.5 its mean over the overlaps "
        "0.1, 0.15 ... 0.5. FROC is the mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives a scan; scans "
        "without a reference box count for the false positives. Means over the classes leave out classes without any. "
        f"The other scores are of boxes from the score {settings['score']:g} on."
    )


def _results(model: Model) -> Detected:
    assert isinstance(model.drawn.results, Detected)
    return model.drawn.results


def _curves(findings: Findings, folder: Path, overwrite: bool) -> list[Picture]:
    caption = "Left: sensitivity over false positives a scan (FROC). Right: precision over recall."
    pictures: list[Picture] = []
    for number, model in enumerate(findings.models, 1):
        shown = {name: one for name, one in _results(model).ranked().items() if one.matched.wanted.any()}
        classes = dict(list(shown.items())[:MOST_CLASSES])
        if classes:
            path = box_curves_png(classes, folder / f"curves_{number}.png", overwrite)
            pictures.append(Picture(path, f"FROC and precision-recall curves of {model.name}", caption))
    return pictures


def _precisions(model: Model) -> Table:
    rows = [
        [name, *(_number(value) for value in by_iou.values())] for name, by_iou in _results(model).precisions().items()
    ]
    return Table(["class", *(f"{iou:g}" for iou in IOUS)], rows, model.name)


def _counts(model: Model) -> Table:
    shown = ("reference_boxes", "all_found_boxes", "found_boxes", "hits", "false_positives", "best_f1", "best_f1_score")
    rows = [[name, *(_number(fact[key]) for key in shown)] for name, fact in _results(model).facts().items()]
    header = ["class", "in the reference", "found", "counted", "right", "wrong", "best F1", "from score"]
    return Table(header, rows, model.name)


def _worst(model: Model) -> Table:
    """The cases with the most errors, missed and invented boxes together."""
    rows = [row for row in _results(model).rows() if row["missed"] or row["false_positives"]]
    ordered = sorted(rows, key=lambda row: (-row["missed"] - row["false_positives"], -row["missed"]))[:WORST]
    shown = ("reference_boxes", "hits", "missed", "false_positives", "best_iou")
    cells = [[row["case"], row["class"], *(_number(row[key]) for key in shown)] for row in ordered]
    header = ["case", "class", "in the reference", "right", "missed", "wrong", "best overlap"]
    caption = f"{model.name}: the most errors." if cells else f"{model.name}: no box was missed, and none is wrong."
    return Table(header, cells, caption, sortable=True)


def _number(value: float | int) -> float | int | None:
    return value if math.isfinite(value) else None
