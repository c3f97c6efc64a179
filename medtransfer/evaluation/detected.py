"""The scores of all cases of a detection, as arrays and as rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..scoring.classification import mean_defined
from ..scoring.detection import IOUS, RANGE, Ranked
from ..scoring.matching import Matched, box_iou, match_cases
from ..scoring.ratios import ratio
from .box_cases import CaseBoxes
from .names import Names
from .settings import BoxSettings

Floats = npt.NDArray[np.float64]
#: of a class, and their means over the classes; the first three are of all boxes, the others of those that are counted
DETECTION_SCORES = ("ap", "ap_range", "froc", "sensitivity", "precision", "f1", "iou", "center_error_mm")
#: least overlaps that the table and the mean need
THRESHOLDS = tuple(sorted({*IOUS, *RANGE}))


@dataclass(frozen=True)
class Detected:
    """Found and reference boxes of N cases, of K classes.

    Args:
        names: The classes.
        results: One a case.
        patients: The patient of each case.
        settings: What is a hit.
    """

    names: Names
    results: tuple[CaseBoxes, ...]
    patients: tuple[str, ...]
    settings: BoxSettings

    task = "detection"
    overall_scores = DETECTION_SCORES
    class_scores = DETECTION_SCORES

    @property
    def cases(self) -> tuple[str, ...]:
        """Names of the cases."""
        return tuple(result.case for result in self.results)

    @cached_property
    def matched(self) -> tuple[Matched, ...]:
        """Of each class, with the rule of the settings."""
        return tuple(self._match((self.settings.iou,), by_setting=True))

    @cached_property
    def at_thresholds(self) -> tuple[Matched, ...]:
        """Of each class, by overlap, with a rule a threshold of `THRESHOLDS`."""
        return tuple(self._match(THRESHOLDS, by_setting=False))

    @cached_property
    def counts(self) -> Floats:
        """(N, K, 6): reference boxes, counted found boxes, hits, false positives, sum of the hits' overlaps, of their
        errors in mm; the last is NaN where a hit's is not known."""
        return np.stack([self._class_counts(one) for one in self.matched], axis=1)

    def draws(self, weights: Floats) -> tuple[Floats, Floats]:
        """Scores under whole-numbered weights (B, N) of the cases: (B, S) means over the classes, (B, K, S)."""
        by_class = np.stack([self._class_draws(place, weights) for place in range(len(self.names))], axis=1)
        return mean_defined(np.moveaxis(by_class, 1, 2)), by_class

    def counted(self) -> npt.NDArray[np.int64]:
        """(K, S): over how many cases each score is."""
        return np.full((len(self.names), len(DETECTION_SCORES)), len(self.cases))

    def counted_overall(self, score: str) -> int:
        """Over how many cases a score is."""
        return len(self.cases)

    def precisions(self) -> dict[str, dict[float, float]]:
        """Average precision by class and least overlap, of all cases; NaN without reference boxes."""
        once = np.ones((1, len(self.cases)))
        return {
            name: {iou: float(Ranked(one, THRESHOLDS.index(iou)).average_precision(once)[0]) for iou in IOUS}
            for name, one in zip(self.names.values(), self.at_thresholds, strict=True)
        }

    def ranked(self) -> dict[str, Ranked]:
        """The curves of each class."""
        return {name: Ranked(one) for name, one in zip(self.names.values(), self.matched, strict=True)}

    def rows(self) -> list[dict[str, Any]]:
        """One a case and class, in this order."""
        return [
            self._row(number, place, label)
            for number in range(len(self.cases))
            for place, label in enumerate(self.names)
        ]

    def facts(self) -> dict[str, dict[str, Any]]:
        """By class: boxes over all cases, the AP table, and from which score on F1 is best."""
        precisions, totals = self.precisions(), self.counts[..., :4].sum(axis=0).astype(int)
        return {
            name: {
                "label": label,
                **dict(zip(("reference_boxes", "found_boxes", "hits", "false_positives"), row.tolist(), strict=True)),
                "all_found_boxes": len(one.scores),
                "ap_by_iou": {f"{iou:g}": value for iou, value in precisions[name].items()},
                **_best_f1(Ranked(one)),
            }
            for (label, name), row, one in zip(self.names.items(), totals, self.matched, strict=True)
        }

    def case_f1(self) -> Floats:
        """(N, K) F1 of the counted boxes of each case; NaN where there is neither a found nor a reference box."""
        wanted, _, hits, wrong = np.moveaxis(self.counts[..., :4], -1, 0)
        return ratio(2 * hits, wanted + hits + wrong)

    def _match(self, thresholds: tuple[float, ...], by_setting: bool) -> list[Matched]:
        found, wanted = [one.found for one in self.results], [one.wanted for one in self.results]
        hit = self.settings.hit if by_setting else "iou"
        return [match_cases(found, wanted, label, thresholds, hit) for label in self.names]

    def _class_counts(self, one: Matched) -> Floats:
        """(N, 6) see `counts`."""
        shown = one.scores >= self.settings.score
        right, wrong = one.hits[0] & shown, one.wrong[0] & shown
        sums = [np.bincount(one.cases, values, len(self.cases)) for values in (shown, right, wrong)]
        overlap = np.bincount(one.cases, np.where(right, one.overlaps[0], 0), len(self.cases))
        errors = np.bincount(one.cases, np.where(right, self._errors(one), 0), len(self.cases))
        return np.stack([one.wanted, *sums, overlap, errors], axis=-1).astype(float)

    def _errors(self, one: Matched) -> Floats:
        """(M,) mm from the centre of each hit to that of the box that it finds; NaN where not known, or no hit."""
        errors = np.full(len(one.scores), np.nan)
        for place in np.flatnonzero(one.hits[0]):
            result = self.results[one.cases[place]]
            box = result.found.boxes[one.numbers[place]]
            reference = result.wanted.boxes[result.wanted.labels == one.label][one.partners[0, place]]
            if result.to_mm is not None:
                step = (box[:3] + box[3:] - reference[:3] - reference[3:]) / 2
                errors[place] = np.linalg.norm(result.to_mm @ step)
        return errors

    def _class_draws(self, place: int, weights: Floats) -> Floats:
        """(B, S)"""
        main = Ranked(self.matched[place])
        table = self.at_thresholds[place]
        mean = np.mean([Ranked(table, THRESHOLDS.index(iou)).average_precision(weights) for iou in RANGE], axis=0)
        counts = self.counts[:, place]
        wanted, _, hits, wrong, overlap, error = (weights @ np.nan_to_num(counts)).T
        located = weights @ np.where(np.isnan(counts[:, 5]), 0, counts[:, 2])
        scores = {
            "ap": main.average_precision(weights),
            "ap_range": mean,
            "froc": main.sensitivities(weights).mean(axis=1),
            "sensitivity": ratio(hits, wanted),
            "precision": ratio(hits, hits + wrong),
            "f1": ratio(2 * hits, wanted + hits + wrong),
            "iou": ratio(overlap, hits),
            "center_error_mm": ratio(error, located),
        }
        return np.stack([scores[name] for name in DETECTION_SCORES], axis=-1)

    def _row(self, number: int, place: int, label: int) -> dict[str, Any]:
        result = self.results[number]
        wanted, found, hits, wrong, overlap, error = self.counts[number, place].tolist()
        boxes = result.found.boxes[(result.found.labels == label) & (result.found.scores >= self.settings.score)]
        best = box_iou(boxes, result.wanted.boxes[result.wanted.labels == label])
        return {
            "case": result.case,
            "patient": self.patients[number],
            "label": label,
            "class": self.names[label],
            "reference_boxes": int(wanted),
            "found_boxes": int(found),
            "hits": int(hits),
            "missed": int(wanted - hits),
            "false_positives": int(wrong),
            "best_iou": float(best.max()) if best.size else float("nan"),
            "iou": overlap / hits if hits else float("nan"),
            "center_error_mm": error / hits if hits else float("nan"),
            "all_found_boxes": int((result.found.labels == label).sum()),
        }


def _best_f1(ranked: Ranked) -> dict[str, float]:
    """The score from which on F1 is best, chosen on these very cases; NaN without a hit."""
    right, wrong = ranked.right.sum(axis=0), ranked.wrong.sum(axis=0)
    f1 = ratio(2 * right, ranked.matched.wanted.sum() + right + wrong)
    if not len(f1):
        return {"best_f1": float("nan"), "best_f1_score": float("nan")}
    return {"best_f1": float(f1.max()), "best_f1_score": float(ranked.steps[f1.argmax()])}
