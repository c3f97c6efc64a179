"""A checkup as one page: what is wrong, how the cases look, how they spread, and all of them in a table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from itertools import groupby, zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory

from ..reporting.page import Picture, Section, Table, write_page
from ..reporting.words import counted, listed
from . import outliers
from .across import class_names, class_voxels
from .boxes import summarised
from .checkup import Checkup
from .facts import CaseFacts, Problem
from .measure import PERCENTILE_VOXELS
from .pictures import spread_pictures
from .rules import RULES
from .summary import ranges, said, verdict
from .thumbnails import Shown, thumbnails_png

MOST_LINES, MOST_CASES, THUMBNAILS = 20, 1000, 24


def write_report(checkup: Checkup, path: Path, workers: int = 1) -> Path:
    """Write the page; an older one is replaced.

    Args:
        checkup: What was found.
        path: The HTML file.
        workers: Cases that are read at the same time for their pictures.

    Raises:
        ResourceError: the disk is full or the folder cannot be written.
    """
    with TemporaryDirectory() as scratch:
        sections = [
            _problems(checkup, "error", "Errors"),
            _problems(checkup, "warning", "Warnings"),
            _looks(checkup, Path(scratch), workers),
            _spread(checkup, Path(scratch)),
            _classes(checkup),
            _cases(checkup),
            Section("How it was checked", _METHOD),
        ]
        title = f"Check of {checkup.data.resolve().name or checkup.data}"
        shown = [section for section in sections if section]
        return write_page(path, title, shown, lead=_lead(checkup), overwrite=True)


def _lead(checkup: Checkup) -> str:
    found = verdict(checkup.problems).capitalize()
    if not checkup.task:
        return f"{found}. No dataset could be read."
    channels = f"channel{'s' * (len(checkup.channels) > 1)} {listed(checkup.channels, 12)}"
    seen = "".join(f" {line}." for line in ranges(checkup.cases))
    return f"{found}. {counted(len(checkup.cases), 'case')} for {checkup.task}, {channels}.{seen}"


def _problems(checkup: Checkup, severity: str, title: str) -> Section | None:
    found = [problem for problem in checkup.problems if problem.severity == severity]
    notes = "" if severity == "error" else "\n\n".join(f"Note: {note}." for note in checkup.notes)
    if not found and not notes:
        return None
    tables = [_rule_table(word, list(group)) for word, group in groupby(found, key=lambda problem: problem.rule)]
    return Section(title if found else "Notes", notes, tables)


def _rule_table(word: str, problems: Sequence[Problem]) -> Table:
    lines = said(problems)
    rest = [("...", f"{len(lines) - MOST_LINES} more, in check.json")] if len(lines) > MOST_LINES else []
    rule = RULES[word]
    rows = [[subject or "the dataset", text] for subject, text in [*lines[:MOST_LINES], *rest]]
    return Table([f"{word}", rule.title], rows, rule.advice)


def _looks(checkup: Checkup, scratch: Path, workers: int) -> Section | None:
    shown = _chosen(checkup)
    if not shown:
        return None
    outlines = " Outlines are the labels', where they lie in the patient." if checkup.task == "segmentation" else ""
    first = ", those with problems first" if any(one.why for one in shown) else ""
    text = f"""
    {len(shown)} of {counted(len(checkup.cases), "case")}{first}. Axial, coronal and sagittal planes
    of the first channel, through the label's centre or else the scan's, the patient's right on the left.{outlines}
    """
    names = ", ".join(one.facts.case for one in shown)
    picture = Picture(thumbnails_png(shown, scratch / "cases.png", workers), f"Three planes of each of {names}")
    return Section("How the cases look", text, pictures=[picture])


def _chosen(checkup: Checkup) -> list[Shown]:
    """Cases with problems, of every kind in turn, then others evenly from the list."""
    by_name = {facts.case: facts for facts in checkup.cases}
    why: dict[str, str] = {}
    for problem in checkup.problems:
        why.setdefault(problem.case, problem.rule)
    kinds = [[name for name in by_name if why.get(name) == word] for word in dict.fromkeys(why.values())]
    turns = [name for turn in zip_longest(*kinds) for name in turn if name is not None]
    others = [name for name in by_name if name not in why]
    step = max(1, len(others) // max(1, THUMBNAILS - len(turns)))
    return [Shown(by_name[name], why.get(name, "")) for name in [*turns, *others[::step]][:THUMBNAILS]]


def _spread(checkup: Checkup, scratch: Path) -> Section | None:
    pictures = spread_pictures(checkup, scratch)
    text = "What is far from the other cases is orange, and among the warnings."
    return Section("How the cases spread", text, pictures=pictures) if pictures else None


def _classes(checkup: Checkup) -> Section | None:
    shown = _CLASSES.get(checkup.task)
    return None if shown is None else shown(checkup)


def _case_classes(checkup: Checkup) -> Section | None:
    names = class_names(checkup.task, checkup.classes, checkup.cases)
    rows: list[list[object]] = [[name, _having(checkup, name)] for name in names]
    return Section("Classes", "", [Table(["class", "cases"], rows, sortable=True)]) if names else None


def _mask_classes(checkup: Checkup) -> Section | None:
    return _mask_table(checkup, class_names(checkup.task, checkup.classes, checkup.cases))


def _masks_of_targets(checkup: Checkup) -> Section | None:
    """Of several targets the classes of all masks, as ``TARGET: CLASS``."""
    return _mask_table(checkup, list(dict.fromkeys(name for facts in checkup.cases for name in facts.labels or ())))


def _mask_table(checkup: Checkup, names: Sequence[str]) -> Section | None:
    if not names:
        return None
    rows = [[name, _having(checkup, name), *_range_ml(checkup.cases, name)] for name in names]
    header = ["class", "cases", "smallest, ml", "median, ml", "largest, ml"]
    return Section("Classes", "", [Table(header, rows, "Over the cases that have the class.", sortable=True)])


def _box_classes(checkup: Checkup) -> Section:
    known = [facts.boxes for facts in checkup.cases if facts.boxes is not None]
    rows = [[name, *(summarised(known, name) or (0, 0, "", "", ""))] for name in checkup.classes[1:]]
    header = ["class", "cases", "boxes", "smallest, mm", "median, mm", "largest, mm"]
    return Section("Classes", "", [Table(header, rows, "Along each axis by itself.", sortable=True)])


#: task -> how its classes are shown; of others there are none
_CLASSES: dict[str, Callable[[Checkup], Section | None]] = {
    "segmentation": _mask_classes,
    "classification": _case_classes,
    "detection": _box_classes,
    "multitask": _masks_of_targets,
}


def _having(checkup: Checkup, name: str) -> int:
    return sum(class_voxels(facts, name) > 0 for facts in checkup.cases)


def _range_ml(cases: Sequence[CaseFacts], name: str) -> list[float | None]:
    values = [facts.labels[name].ml for facts in cases if facts.labels and class_voxels(facts, name)]
    return [min(values), statistics.median(values), max(values)] if values else [None] * 3


def _cases(checkup: Checkup) -> Section | None:
    if not checkup.cases:
        return None
    many = len(checkup.cases) > MOST_CASES
    text = f"The first {MOST_CASES} of {len(checkup.cases)}; check.json has all." if many else ""
    channel = checkup.channels[0] if checkup.channels else ""
    rows = [_row(checkup, facts, channel) for facts in checkup.cases[:MOST_CASES]]
    header = ["case", "patient", "part", "voxels", "mm", "axes", "0.5 %", "median", "99.5 %", "class", "ml", "MB",
              "problems"]  # fmt: skip
    used = [number for number in range(len(header)) if any(row[number] not in (None, "") for row in rows)]
    shown = [[row[number] for number in used] for row in rows]
    caption = f"Intensities are of channel {channel}; ml is of all classes together. Hashes and more: check.json."
    return Section("All cases", text, [Table([header[number] for number in used], shown, caption, sortable=True)])


def _row(checkup: Checkup, facts: CaseFacts, channel: str) -> list[object]:
    grid, measured = facts.grid, facts.intensities.get(channel)
    words = dict.fromkeys(problem.rule for problem in checkup.problems if problem.case == facts.case)
    return [
        facts.case,
        facts.patient,
        facts.part,
        grid and "x".join(map(str, grid.shape)),
        grid and " x ".join(f"{size:.3g}" for size in grid.spacing),
        grid and grid.orientation,
        *([_figure(value) for value in (measured.low, measured.median, measured.high)] if measured else [None] * 3),
        facts.target,
        sum(size.ml for size in facts.labels.values()) if facts.labels else None,
        round(facts.bytes / 1e6, 2),
        ", ".join(words),
    ]


def _figure(value: float) -> float:
    """Three digits after the point where they matter.

    >>> _figure(1234.5678), _figure(0.12345)
    (1235, 0.12345)
    """
    return round(value) if abs(value) >= 100 else value


_METHOD = f"""
Every file was read whole, through the same gate as for training and prediction; docs/volumes.md lists what it repairs,
warns of and refuses. Distances between grids are the largest move of a corner of the volume, in voxels.

The same scan is known by a hash of its voxels' values, whatever the file's name, packing and order of axes. Percentiles
of volumes of more than {PERCENTILE_VOXELS:,} voxels are taken from so many of them, evenly spread.

A case stands out when its spacing is {outliers.SPACING_FACTOR:g} times the median along an axis, its voxels are
{outliers.SIZE_FACTOR:g} times as many, its intensities {outliers.INTENSITY_FACTOR:g} times as wide or shifted by
{outliers.INTENSITY_SHIFT:.0%} of their width, or a class is {outliers.VOLUME_FACTOR:g} times as large; or the inverse.
Where intensities or volumes vary anyway, they must also be {outliers.SPREADS:g} robust standard deviations off, among
at least {outliers.FEWEST} cases.

A check sees what can be measured. Whether the labels are right is seen by looking at them.
"""
