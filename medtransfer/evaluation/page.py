"""The page of an evaluation: what came out, of whom, and how it was counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from ..reporting.page import Section, Table, write_page
from .box_page import box_rules, box_sections
from .classified import Classified
from .findings import Findings, Model
from .paired import ALL, MEAN, Difference
from .pictures import curve_pictures, difference_picture, strip_pictures, volume_pictures
from .resampling import FEW
from .scores import ABSENT, BOTH
from .segmented import Segmented
from .value_page import value_rules, value_sections
from .wording import BY_CLASS, CLASSES, KINDS, class_table, difference_table, lead, mean_table, title

WORST = 15


def write_evaluation_page(findings: Findings, folder: Path, overwrite: bool) -> list[Path]:
    """Write ``evaluation.html`` and its pictures; returns the pictures' paths.

    Raises:
        OutputExistsError: one of them exists and ``overwrite`` is false.
        ResourceError: the disk is full or the folder cannot be written.
    """
    sections = [*_comparison(findings, folder, overwrite), *_scores(findings)]
    sections += _SECTIONS[findings.task](findings, folder, overwrite)
    sections += [*_missing(findings), Section("How it was counted", _method(findings))]
    write_page(folder / "evaluation.html", _title(findings), sections, lead=lead(findings), overwrite=overwrite)
    return [Path(picture.path) for section in sections for picture in section.pictures]


def _title(findings: Findings) -> str:
    return " against ".join(model.name for model in findings.models) + f": evaluation of a {findings.task}"


def _comparison(findings: Findings, folder: Path, overwrite: bool) -> list[Section]:
    if not findings.differences:
        return []
    first, second = (model.name for model in findings.models)
    means = [one for one in findings.differences if one.of in (MEAN, ALL)]
    by_class = [
        one for one in findings.differences if one.of not in (MEAN, ALL) and one.score == BY_CLASS.get(findings.task)
    ]
    caption = f"First: {first}. Second: {second}. Wins are cases where the first is better."
    kind, _ = KINDS.get(findings.task, CLASSES)
    shown = [(means, caption), (by_class, f"{caption} By {kind}. The other scores are in evaluation.json.")]
    if means and by_class:
        shown[1] = (by_class, f"By {kind}. The other scores are in evaluation.json.")
    tables = [_unbroken(*one) for one in shown if one[0]]
    picture = difference_picture(findings, folder, overwrite)
    return [Section("Which is better?", _COMPARED[findings.task], tables, [picture] if picture else [])]


def _unbroken(differences: Sequence[Difference], caption: str) -> Table:
    """Figures and verdicts without line breaks."""
    header, rows = difference_table(differences)
    return Table(header, [[*row[:2], *map(_unbroken_cell, row[2:])] for row in rows], caption)


def _unbroken_cell(cell: object) -> object:
    return cell.replace(" ", "\u00a0").replace("-", "\u2011") if isinstance(cell, str) else cell


_COMPARED = {
    "segmentation": """
Intervals are of the difference of the means; both models have the same redraws of patients. P is of Wilcoxon's
signed-rank test over the patients, corrected by Holm over the classes of a score. One is called better if the interval
leaves out zero and p is below 0.05. A structure that one model rightly leaves out and the other invents is a win.
Distances are compared over the cases where both models have one.
""",
    "classification": """
Intervals are of the difference; both models have the same redraws of patients. P is of McNemar's exact test of right
and wrong cases. One is called better if the interval leaves out zero, and p, where there is one, is below 0.05.
""",
    "detection": """
Intervals are of the difference; both models have the same redraws of patients. One is called better if the interval
leaves out zero. Wins are cases in which the F1 of the counted boxes is higher: average precision and FROC are of all
cases together, so that there is no p.
""",
    "regression": """
Intervals are of the difference; both models have the same redraws of patients. P is of Wilcoxon's signed-rank test of
the absolute errors over the patients, corrected by Holm over the quantities. One is called better if the interval
leaves out zero, and p, where there is one, is below 0.05. Wins are cases with the smaller absolute error.
""",
}


def _scores(findings: Findings) -> list[Section]:
    sections = []
    for model in findings.models:
        mean, by_class = (
            Table(*mean_table(model.drawn), f"Means over the {KINDS.get(findings.task, CLASSES)[1]}."),
            Table(*class_table(model.drawn), sortable=True),
        )
        sections.append(Section(f"Scores of {model.name}", _OUTCOMES[findings.task], [mean, by_class]))
    return sections


_OUTCOMES = {
    "segmentation": """
Means over the cases where a score is defined. Missed: in the reference, nothing predicted. Invented: predicted, not in
the reference. Both have Dice and NSD 0. A structure in neither counts nowhere.
""",
    "classification": "Each class against the rest. What is not defined, since no case is of the class, is left out.",
    "detection": """
AP, AP 0.1-0.5 and FROC are of all found boxes; the others of those that are counted, as are hits and wrong boxes. IoU
and the distance of the centres are means over the hits.
""",
    "regression": "Errors are in the unit of each quantity.",
}


def _segmentation(findings: Findings, folder: Path, overwrite: bool) -> list[Section]:
    return [
        Section("All cases", "", (), strip_pictures(findings, folder, overwrite)),
        Section("Volumes", "", (), volume_pictures(findings, folder, overwrite)),
        Section("Lesions", _LESIONS, [_lesion_table(model) for model in findings.models]),
        Section("Where to look first", "", [_worst(model) for model in findings.models]),
    ]


_LESIONS = """
A lesion is a connected part of a structure; voxels that share a corner are connected. Counts are over all cases.
"""


def _lesion_table(model: Model) -> Table:
    facts = model.drawn.results.facts()
    rows = [[name, *one["lesions"].values()] for name, one in facts.items()]
    return Table(["class", "in the reference", "detected", "predicted", "right"], rows, model.name)


def _worst(model: Model) -> Table:
    """The structures with the lowest Dice, in a case that has them in a mask at least."""
    rows = [row for row in model.drawn.results.rows() if row["outcome"] != ABSENT]
    ordered = sorted(rows, key=lambda row: (row["dice"], -row["reference_ml"]))[:WORST]
    columns = ("dice", "nsd", "hd95", "reference_ml", "volume_ml")
    cells = [
        [
            row["case"],
            row["class"],
            "" if row["outcome"] == BOTH else row["outcome"],
            *map(_number, map(row.get, columns)),
        ]
        for row in ordered
    ]
    header = ["case", "class", "", title("dice"), title("nsd"), title("hd95"), "true ml", "predicted ml"]
    return Table(header, cells, f"{model.name}: the lowest Dice.", sortable=True)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _classification(findings: Findings, folder: Path, overwrite: bool) -> list[Section]:
    tables = []
    for model in findings.models:
        names = list(model.drawn.results.names.values())
        rows = [[name, *one["predicted_as"].values()] for name, one in model.drawn.results.facts().items()]
        tables.append(Table(["true class", *names], rows, f"{model.name}: cases by true (row) and predicted class."))
    curves = Section("Curves", "", (), curve_pictures(findings, folder, overwrite))
    return [curves, Section("What was taken for what", "", tables)]


_SECTIONS: dict[str, Callable[[Findings, Path, bool], list[Section]]] = {
    "segmentation": _segmentation,
    "classification": _classification,
    "detection": box_sections,
    "regression": value_sections,
}


def _missing(findings: Findings) -> list[Section]:
    tables = []
    for model in findings.models:
        rows = [
            *([one["case"], "refused", one["error"]] for one in model.failed),
            *([case, "no prediction", "scored as empty"] for case in model.missing),
            *([case, "no prediction", "left out"] for case in model.left_out),
            *([case, "no reference", "left out"] for case in model.extra),
            *(["", "warning", text] for text in model.warnings),
        ]
        if rows:
            tables.append(Table(["case", "what", ""], rows, model.name))
    return [Section("Missing, refused, warned of", "", tables)] if tables else []


def _method(findings: Findings) -> str:
    drawn = findings.models[0].drawn
    cases, patients = len(drawn.results.cases), drawn.num_patients
    few = f" With fewer than {FEW} patients they are somewhat too narrow." if patients < FEW else ""
    parts = [
        f"{cases} cases of {patients} patients; references: {findings.references}. Intervals hold 95 % of "
        f"{drawn.number} redraws of the patients (percentile bootstrap, seed {drawn.seed}).{few} They say where a mean "
        "would lie with other patients of this kind, and nothing about other hospitals or scanners.",
        _rules(findings),
    ]
    return "\n\n".join(parts)


def _rules(findings: Findings) -> str:
    results = findings.models[0].drawn.results
    rules = {"detection": box_rules, "regression": value_rules}.get(findings.task)
    if rules:
        return rules(findings)
    if isinstance(results, Classified):
        return (
            f"AUROC, AUPRC and F1 are means over the classes. ECE has {results.bins} bins of the highest probability."
        )
    assert isinstance(results, Segmented)
    settings = findings.settings
    special = "".join(f", {name} {mm:g} mm" for name, mm in settings["tolerances"].items())
    detected = (
        f"an intersection over union of {settings['lesion_iou']:g}" if settings["lesion_iou"] else "a common voxel"
    )
    distances = (
        "are the diagonal of the image and in the means"
        if settings["penalty"] == "diagonal"
        else "are infinite and not in the means: read them beside the number of missed structures"
    )
    return (
        f"NSD has a tolerance of {settings['tolerance']:g} mm{special}. A lesion is detected by {detected}. Distances "
        f"run between voxels of the surfaces, in mm. Those of a missed or invented structure {distances}."
    )
