"""The page of a batch of predictions: what failed, what to look at, every case's figures, and pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .batch_figures import UNITS, Case, by_class, figure_sections, figures
from .outliers import UNUSUAL, robust_z
from .page import PNG_MAGIC, Picture, Section, Table, write_page
from .tables import volume_text
from .words import counted

#: pictures on one page, and the bytes of their files, so that the page stays under 30 MB
MOST_PICTURES, MOST_PICTURE_BYTES = 60, 18 << 20
_MOST_CELLS, _MOST_ROWS, _MOST_NAMED = 100_000, 1000, 5
_NUMBERS = re.compile(r"(?<!\w)'[^']*'|\"[^\"]*\"|[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Unusual:
    """A volume far from those of the other cases: ``z`` robust standard deviations from the median."""

    case: str
    name: str
    ml: float
    median: float
    z: float


def write_batch_page(report: Mapping[str, Any], folder: str | Path, overwrite: bool = False) -> Path:
    """Write ``report.html`` into ``folder``: self-contained, for 1 to 10 000 cases, of any task.

    Failed cases come first, then warnings, volumes far from those of the other cases, pictures, and the figures of
    every case in a table that a click sorts. What would make the page too large is left out, and it says so.

    Args:
        report: The document of ``report.json``.
        folder: The prediction folder; pictures in it are inlined, at most `MOST_PICTURES`, cases to look at first.
        overwrite: Replace an existing page.

    Raises:
        OutputExistsError: the page exists and ``overwrite`` is false.
        ResourceError: the disk is full or the folder cannot be written.

    >>> import tempfile
    >>> cases = [{"case": "a", "status": "done", "volumes_ml": {"liver": 1500.0}, "warnings": []}]
    >>> write_batch_page({"cases": cases, "failed": []}, tempfile.mkdtemp()).name
    'report.html'
    """
    folder, cases = Path(folder), list(report["cases"])
    unusual = find_unusual(cases)
    sections = [
        _failures(cases),
        _warnings(cases),
        _unusual(unusual),
        *figure_sections(cases),
        _pictures(cases, unusual, folder),
        _all_cases(cases, unusual),
        _origin(report),
    ]
    title = f"medtransfer predict: {cases[0]['case'] if len(cases) == 1 else f'{len(cases)} cases'}"
    shown = [section for section in sections if section]
    return write_page(folder / "report.html", title, shown, lead=_lead(cases, unusual), overwrite=overwrite)


def find_unusual(cases: Sequence[Case]) -> list[Unusual]:
    """The volumes whose robust z is beyond `UNUSUAL`, farthest first.

    >>> volumes = {"a": 9, "b": 10, "c": 11, "d": 9, "e": 10, "f": 11, "g": 10, "x": 0}
    >>> cases = [{"case": name, "volumes_ml": {"liver": ml}} for name, ml in volumes.items()]
    >>> [one.case for one in find_unusual(cases)]
    ['x']
    """
    found = []
    for name, volumes in by_class(cases, "volumes_ml").items():
        median = float(np.median(list(volumes.values())))
        zs = robust_z(list(volumes.values()))
        found += [
            Unusual(case, name, ml, median, z)
            for (case, ml), z in zip(volumes.items(), zs, strict=True)
            if abs(z) > UNUSUAL
        ]
    return sorted(found, key=lambda one: -abs(one.z))


def review_order(cases: Sequence[Case], unusual: Sequence[Unusual] = ()) -> list[str]:
    """Names of the cases that were written, those to look at first: unusual volumes, then warnings, then the others.

    >>> done = [{"case": name, "status": "done", "warnings": []} for name in "ab"]
    >>> review_order([*done, {"case": "c", "status": "done", "warnings": ["odd"]}])
    ['c', 'a', 'b']
    """
    written = {case["case"]: len(case.get("warnings", ())) for case in cases if case["status"] != "failed"}
    first = [one.case for one in unusual if one.case in written]
    warned = sorted((name for name, count in written.items() if count), key=lambda name: -written[name])
    return list(dict.fromkeys([*first, *warned, *written]))


def warning_kind(text: str) -> str:
    """A warning without what differs from case to case: its numbers and quoted words.

    >>> warning_kind("spacing 1.25 mm is not the model's, 1 mm, in 'a.nii'")
    "spacing N mm is not the model's, N mm, in N"
    """
    return _NUMBERS.sub("N", text)


def _lead(cases: Sequence[Case], unusual: Sequence[Unusual]) -> str:
    failed = sum(case["status"] == "failed" for case in cases)
    kept = sum(case["status"] == "kept" for case in cases)
    warned = sum(bool(case.get("warnings")) for case in cases)
    odd = len({one.case for one in unusual})
    parts = [
        f"{len(cases) - failed} of {counted(len(cases), 'case')} written"
        + (f" ({kept} kept from before)" if kept else "")
    ]
    counts = {"failed": failed, "with warnings": warned, "with unusual volumes": odd}
    return ", ".join([*parts, *(f"{count} {what}" for what, count in counts.items() if count)]) + ". Not for diagnosis."


def _failures(cases: Sequence[Case]) -> Section | None:
    failed = [case for case in cases if case["status"] == "failed"]
    if not failed:
        return None
    rows = [[case["case"], case.get("error", ""), case.get("exit_code")] for case in failed[:_MOST_ROWS]]
    return Section("Failed cases", tables=[Table(["case", "what was wrong", "exit code"], rows, _cut(rows, failed))])


def _warnings(cases: Sequence[Case]) -> Section | None:
    kinds: dict[str, list[tuple[str, str]]] = {}
    for case in cases:
        for text in case.get("warnings", ()):
            kinds.setdefault(warning_kind(text), []).append((case["case"], text))
    if not kinds:
        return None
    ordered = sorted(kinds.values(), key=len, reverse=True)
    rows = [[found[0][1], len({case for case, _ in found}), _some([case for case, _ in found])] for found in ordered]
    text = "Alike but for their numbers, warnings are counted together; the first one stands for its kind."
    return Section(
        "Warnings", text, [Table(["warning", "cases", "in"], rows[:_MOST_ROWS], _cut(rows[:_MOST_ROWS], rows))]
    )


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more.

    >>> _some(["a", "b"]), _some("abcdefg")
    ('a, b', 'a, b, c, d, e and 2 more')
    """
    unique = list(dict.fromkeys(names))
    more = len(unique) - _MOST_NAMED
    return ", ".join(unique[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _cut(shown: Sequence[object], found: Sequence[object]) -> str:
    return f"The first {len(shown)} of {len(found)}; report.json has all." if len(shown) < len(found) else ""


_UNUSUAL = f"""
Volumes more than {UNUSUAL} robust standard deviations from the median of this batch. That is no error by itself: a
patient can be unusual, and a batch of ill patients can make the healthy one stand out. Look at these masks first.
"""


def _unusual(unusual: Sequence[Unusual]) -> Section | None:
    if not unusual:
        return None
    rows = [[one.case, one.name, one.ml, one.median, f"{one.z:+.1f}"] for one in unusual[:_MOST_ROWS]]
    header = ["case", "class", "ml", "median ml", "robust z"]
    return Section("Unusual volumes", _UNUSUAL, [Table(header, rows, _cut(rows, unusual), sortable=True)])


def _pictures(cases: Sequence[Case], unusual: Sequence[Unusual], folder: Path) -> Section | None:
    by_name = {case["case"]: case for case in cases}
    files = {name: _picture_file(by_name[name], folder) for name in review_order(cases, unusual)}
    drawn = {name: file for name, file in files.items() if file}
    pictures: list[Picture] = []
    size = 0
    for name, file in drawn.items():
        size += file.stat().st_size
        if len(pictures) == MOST_PICTURES or size > MOST_PICTURE_BYTES:
            break
        reasons = [*(f"{one.name} {volume_text(one.ml)} is unusual" for one in unusual if one.case == name)]
        caption = "; ".join([name, *reasons, *by_name[name].get("warnings", ())])
        pictures.append(Picture(file, f"Three planes of {name} with its mask", caption))
    more = f"{len(pictures)} of {len(drawn)} pictures, cases to look at first; the others lie beside this page."
    return Section("Pictures", more if len(pictures) < len(drawn) else "", pictures=pictures) if drawn else None


def _picture_file(case: Case, folder: Path) -> Path | None:
    """The case's picture, if there is one and it can be shown."""
    name = next((output for output in case.get("outputs", ()) if output.endswith(".png")), f"{case['case']}.png")
    try:
        with open(folder / name, "rb") as file:
            return folder / name if file.read(len(PNG_MAGIC)) == PNG_MAGIC else None
    except OSError:
        return None


def _all_cases(cases: Sequence[Case], unusual: Sequence[Unusual]) -> Section:
    """One row a case; where the table would get too large, its first columns, then its first rows."""
    names = [(what, name) for what in UNITS for name in by_class(cases, what)]
    columns = names[: max(1, _MOST_CELLS // max(1, len(cases)) - 5)]
    odd: dict[str, list[str]] = {}
    for one in unusual:
        odd.setdefault(one.case, []).append(one.name)
    is_class = any("class" in case for case in cases)
    header = ["case", "status", *(["class"] if is_class else []), *(f"{name}{UNITS[what]}" for what, name in columns)]
    header += ["unusual"] * bool(odd) + ["warnings", "seconds"]
    rows = [
        [case["case"], case["status"], *([case.get("class")] if is_class else [])]
        + [flat[what].get(name) for what, name in columns]
        + [", ".join(odd.get(case["case"], ())) or None] * bool(odd)
        + [len(case.get("warnings", ())), case.get("seconds")]
        for case in sorted(cases, key=lambda case: _natural(str(case["case"])))
        for flat in [{what: figures(case, what) for what in UNITS}]
    ]
    left_out = f"{len(columns)} of {len(names)} classes; report.json has all. " if len(columns) < len(names) else ""
    return Section("All cases", tables=[Table(header, rows, f"{left_out}A click on a name sorts.", sortable=True)])


def _origin(report: Mapping[str, Any]) -> Section | None:
    models = report.get("models") or [report.get("model") or {}]
    rows: list[list[object]] = []
    for number, model in enumerate(models, 1):
        which = f" of model {number}" if len(models) > 1 else ""
        rows += [
            [f"{key}{which}", value if isinstance(value, (str, int)) else str(value)] for key, value in model.items()
        ]
    rows += [["medtransfer", report["medtransfer"]]] if "medtransfer" in report else []
    rows += [["seconds in all", f"{report['seconds']:.1f}"]] if "seconds" in report else []
    return Section("How it was done", tables=[Table(["", ""], rows)]) if rows else None


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which 2 comes before 10.

    >>> sorted(["case10", "case2", "a"], key=_natural)
    ['a', 'case2', 'case10']
    """
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
