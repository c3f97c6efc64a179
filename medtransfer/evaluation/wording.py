"""What was found, in words and in a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..reporting.tables import text_table
from ..reporting.words import counted, listed
from .findings import Findings, Model
from .paired import ALL, FIRST, MEAN, OPEN, SECOND, TOO_FEW, Difference
from .resampling import FEW
from .scores import TITLES
from .segmented import Segmented
from .summary import Drawn, defined_scores, interval_text

SHOWN_SCORES = ("dice", "nsd", "hd95", "assd", "volume_error_ml", "lesion_f1")
CLASS_TITLES = {"auroc": "AUROC", "auprc": "AUPRC", "f1": "F1", "ece": "ECE", "brier": "Brier"}
BOX_TITLES = {
    "ap": "AP",
    "ap_range": "AP 0.1-0.5",
    "froc": "FROC",
    "iou": "IoU",
    "center_error_mm": "centre off (mm)",
}
VALUE_TITLES = {"mae": "mean absolute error", "rmse": "RMSE", "r2": "R2", "pearson": "Pearson"}
#: scores of the first sentence, counts of the table of classes, and the score by which classes are compared, by task
LEADING = {
    "segmentation": ("dice", "nsd"),
    "classification": ("auroc", "accuracy"),
    "detection": ("ap", "froc"),
    "regression": ("mae", "r2"),
}
COUNTS = {
    "segmentation": ("both", "missed", "invented"),
    "classification": ("cases", "predicted"),
    "detection": ("reference_boxes", "hits", "false_positives"),
    "regression": ("cases", "mean", "lowest", "highest"),
}
COUNT_TITLES = {"reference_boxes": "boxes", "false_positives": "wrong", "mean": "true mean"}
BY_CLASS = {"segmentation": "dice", "detection": "ap", "regression": "mae"}
#: what a row of the table of classes is, and many of them
KINDS = {"regression": ("quantity", "quantities")}
CLASSES = ("class", "classes")


def summary_text(findings: Findings) -> str:
    """A table a model, what is missing, and the comparison."""
    parts = [part for model in findings.models for part in (_heading(model), *_tables(model.drawn))]
    if findings.differences:
        shown = [
            one for one in findings.differences if one.of in (MEAN, ALL) or one.score == BY_CLASS.get(findings.task)
        ]
        parts += ["", comparison_words(findings), text_table(*difference_table(shown))]
    return "\n".join(parts)


def title(score: str) -> str:
    """A score for readers.

    >>> title("hd95"), title("auroc"), title("balanced_accuracy")
    ('HD95 (mm)', 'AUROC', 'balanced accuracy')
    """
    known = TITLES | CLASS_TITLES | BOX_TITLES | VALUE_TITLES
    return known.get(score) or score.replace("_", " ")


def class_table(drawn: Drawn) -> tuple[list[str], list[list[object]]]:
    """A row a class with its scores, and counts of what was found, missed and invented."""
    results = drawn.results
    segmented = isinstance(results, Segmented)
    scores = defined_scores(drawn, SHOWN_SCORES if segmented else results.class_scores)
    facts, counts = results.facts(), COUNTS[results.task]
    rows: list[list[object]] = []
    for name in results.names.values():
        numbers = facts[name]["outcomes"] if segmented else facts[name]
        rows.append([name, *(_cell(drawn, name, score) for score in scores), *(numbers[key] for key in counts)])
    kind, _ = KINDS.get(results.task, CLASSES)
    return [kind, *map(title, scores), *(COUNT_TITLES.get(count, count) for count in counts)], rows


def mean_table(drawn: Drawn) -> tuple[list[str], list[list[object]]]:
    """A row a score: its mean over the classes with its interval, and the number of cases."""
    scores = SHOWN_SCORES if isinstance(drawn.results, Segmented) else drawn.results.overall_scores
    means = {score: drawn.mean(score) for score in scores}
    rows: list[list[object]] = [
        [title(score), interval_text(found), found.n] for score, found in means.items() if not math.isnan(found.value)
    ]
    return ["score", "mean (95 % interval)", "cases"], rows


def difference_table(differences: Sequence[Difference]) -> tuple[list[str], list[list[object]]]:
    """A row a difference that is defined."""
    header = ["of", "score", "first", "second", "difference", "95 % interval", "wins-ties-losses", "p", "verdict"]
    rows: list[list[object]] = [
        [
            *(one.of, title(one.score), one.first, one.second, f"{one.value:+.3f}"),
            f"{one.low:+.3f} to {one.high:+.3f}",
            f"{one.wins}-{one.ties}-{one.losses}",
            None if one.p is None else f"{one.p:.2g}",
            one.verdict,
        ]
        for one in differences
        if not math.isnan(one.value)
    ]
    return header, rows


def comparison_words(findings: Findings) -> str:
    """Which model is better, and whether that can be told, in a sentence or two."""
    first, second = (model.name for model in findings.models)
    main = _main(findings)
    figure = f"{title(main.score)} {main.first:.3f} against {main.second:.3f}"
    ends = f"difference {main.value:+.3f}, 95 % interval {main.low:+.3f} to {main.high:+.3f}"
    told = {
        FIRST: f"{first} is better than {second}: {figure} ({ends}).",
        SECOND: f"{second} is better than {first}: {figure} ({ends}).",
        OPEN: f"Which of {first} and {second} is better cannot be told: {figure} ({ends}).",
        TOO_FEW: f"Too few cases differ to tell which of {first} and {second} is better: {figure} ({ends}).",
    }[main.verdict]
    return f"{told}{_single_classes(findings, first, second)}"


def _main(findings: Findings) -> Difference:
    """AUROC, or accuracy where it is not defined; else the first score."""
    by_score = {one.score: one for one in findings.differences}
    if findings.task != "classification":
        return findings.differences[0]
    return by_score["accuracy"] if math.isnan(by_score["auroc"].value) else by_score["auroc"]


def _single_classes(findings: Findings, first: str, second: str) -> str:
    score = BY_CLASS.get(findings.task, "")
    single = [one for one in findings.differences if one.of not in (MEAN, ALL) and one.score == score]
    better = {
        name: [one.of for one in single if one.verdict == verdict]
        for verdict, name in ((FIRST, first), (SECOND, second))
    }
    told = [f"{name} is better for {listed(classes)}" for name, classes in better.items() if classes]
    _, kinds = KINDS.get(findings.task, CLASSES)
    corrected = f", corrected for {len(single)} {kinds}" if findings.task != "detection" else ""
    return f" By {title(score)}, {' and '.join(told)}{corrected}." if told and len(single) > 1 else ""


def lead(findings: Findings) -> str:
    """The sentence or two under the title."""
    if findings.differences:
        return comparison_words(findings)
    model = findings.models[0]
    drawn = model.drawn
    means = {score: drawn.mean(score) for score in LEADING[findings.task]}
    told = {score: mean for score, mean in means.items() if not math.isnan(mean.value)} or means
    figures = [f"{title(score)} {interval_text(mean)}" for score, mean in told.items()]
    return f"{' and '.join(figures)} over {_cases(drawn)}.{_caveats(model)}"


def _heading(model: Model) -> str:
    results = model.drawn.results
    one, many = KINDS.get(results.task, CLASSES)
    kinds = f"{len(results.names)} {one if len(results.names) == 1 else many}"
    return f"{model.name}: {_cases(model.drawn)}, {kinds}.{_caveats(model)}"


def _cases(drawn: Drawn) -> str:
    cases, patients = len(drawn.results.cases), drawn.num_patients
    of_patients = f" of {counted(patients, 'patient')}" if patients != cases else ""
    few = ", too few for a reliable interval" if patients < FEW else ""
    return f"{counted(cases, 'case')}{of_patients}{few}"


def _caveats(model: Model) -> str:
    told = [
        (model.missing, "without a prediction, scored as empty"),
        (model.left_out, "without a prediction, left out"),
        (tuple(one["case"] for one in model.failed), "refused"),
        (model.extra, "predictions without a reference, left out"),
    ]
    return "".join(f" {len(names)} {what}: {listed(names)}." for names, what in told if names)


def _tables(drawn: Drawn) -> list[str]:
    return [text_table(*mean_table(drawn)), "", text_table(*class_table(drawn))]


def _cell(drawn: Drawn, name: str, score: str) -> float | None:
    value = drawn.of_class(name, score).value
    return None if math.isnan(value) else value
