"""The table, and where it is written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import markdown, put

from .facts import file_name
from .measure import ROOT, Row

MARKS = "speed"
PAGE, README = ROOT / "docs" / "speed.md", ROOT / "README.md"
RESULTS = Path(__file__).with_name("results")
COLUMNS = ("what", "ours", "beside", "theirs", "ratio", "of all rounds", "goal", "reached")
LAYER_COLUMNS = ("layer", "what it computes", "rate", "of the matrix product's", "of all rounds")
TITLES = {
    "predict": "Prediction beside MONAI's windows",
    "experts": "Quality on scans that experts labelled",
    "nnunet": "Prediction beside nnU-Net",
    "training": "A training step",
    "load": "Loading and transfer",
    "memory": "Peak memory",
    "machine": "The machine's own limits",
    "scaling": "Cost over size and classes",
}
Rows = Mapping[str, Sequence[Row]]


def report(found: Rows, facts: Mapping[str, Any]) -> str:
    """All sections as Markdown, the machine first."""
    parts = [machine_line(facts)]
    for section, rows in found.items():
        plain, layers = ([row for row in rows if row.detail == told] for told in (False, True))
        parts.append(f"**{TITLES[section]}**\n\n{table(plain)}")
        parts += [f"The slowest layers:\n\n{layer_table(layers)}"] if layers else []
    return "\n\n".join(parts)


def headline(found: Rows, facts: Mapping[str, Any]) -> str:
    """The rows that have a goal: for the README."""
    rows = [row for section in found.values() for row in section if row.target and not row.detail]
    return f"{table(rows)}\n\n{machine_line(facts)}"


def table(rows: Iterable[Row]) -> str:
    """Rows as Markdown.

    >>> print(table([Row("a step", 1.5, 3.0, 2.0, 1.9, 2.5, "s", "theirs", "≥ 1.3")]))
    | what | ours | beside | theirs | ratio | of all rounds | goal | reached |
    | --- | --- | --- | --- | --- | --- | --- | --- |
    | a step | 1.50 s | theirs | 3.00 s | **2.00** | 1.90 to 2.50 | ≥ 1.3 | yes |
    """
    return markdown([COLUMNS, *(cells(row) for row in rows)])


def layer_table(rows: Iterable[Row]) -> str:
    """The rows of layers as Markdown: the share of the matrix product's rate stands where others have the ratio."""
    lines = [[row.what, row.note, value(row.ours, row.unit), *cells(row)[4:6]] for row in rows]
    return markdown([LAYER_COLUMNS, *lines])


def cells(row: Row) -> list[str]:
    """What stands in the line of a row."""
    spread = "" if row.low is None or row.high is None or row.low == row.high else f"{row.low:.2f} to {row.high:.2f}"
    ratio = "" if row.ratio is None else f"**{row.ratio:.2f}**"
    what = f"{row.what} ({row.note})" if row.note else row.what
    return [
        what,
        value(row.ours, row.unit),
        row.beside,
        value(row.theirs, row.unit),
        ratio,
        spread,
        row.target,
        met(row),
    ]


def value(number: float | None, unit: str) -> str:
    """A number with its unit, three digits; Dice with four decimals.

    >>> value(0.01234, "s"), value(1234.5, "GFLOP/s"), value(0.99951, "Dice"), value(None, "s")
    ('12.3 ms', '1234 GFLOP/s', '0.9995', '')
    """
    if number is None:
        return ""
    if unit == "Dice":
        return f"{number:.4f}"
    if unit == "s" and number < 0.1:
        number, unit = number * 1000, "ms"
    digits = 0 if number >= 100 else 1 if number >= 10 else 2
    return f"{number:.{digits}f} {unit}".rstrip()


def met(row: Row) -> str:
    """Whether the goal is reached: of the ratio, or where there is none of ours, or of ours against theirs.

    >>> met(Row("mask", 0.9995, 0.98, None, None, None, "Dice", target="≥ 0.999"))
    'yes'
    >>> met(Row("peak", 5000, None, None, None, None, "MiB", target="< 4096"))
    'no'
    >>> met(Row("scores", 0.886, 0.887, None, None, None, "Dice", target="± 0.002"))
    'yes'
    """
    found = re.match(r"([≥<±]) ([\d.]+)", row.target)
    measured = row.ours if row.ratio is None else row.ratio
    if not found or measured is None:
        return ""
    sign, goal = found[1], float(found[2])
    if sign == "±":
        reached = row.theirs is not None and abs(measured - row.theirs) <= goal
    else:
        reached = measured >= goal if sign == "≥" else measured < goal
    return "yes" if reached else "no"


def machine_line(facts: Mapping[str, Any]) -> str:
    """On what it was measured, in a sentence."""
    limit = f", ONEDNN_MAX_CPU_ISA={facts['isa_limit']}" if facts["isa_limit"] else ""
    gpu = f"{facts['gpu']} (CUDA {facts['cuda']}), " if facts["gpu"] else ""
    wanted = ("torch", "onednn", "monai", "nnunetv2", "python")
    versions = ", ".join(f"{name} {facts[name]}" for name in wanted if facts[name])
    short = [flag for flag in facts["flags"] if "bf16" in flag] or ["no bf16"]
    return (
        f"{gpu}{facts['cpu']}, {facts['threads']} threads, {', '.join(short)}{limit}; {versions}; "
        f"{facts['date']}, commit {facts['commit']}{', quick' if facts.get('quick') else ''}."
    )


def write(found: Rows, facts: dict[str, Any]) -> list[Path]:
    """The results of this machine as JSON, and the tables into the pages that have room for them.

    Sections that were measured on it before and not now stay.
    """
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{file_name(facts)}.json"
    merged = {**read(file)[0], **found}
    found = {section: merged[section] for section in TITLES if section in merged}
    sections = {section: [row.to_dict() for row in rows] for section, rows in found.items()}
    file.write_text(json.dumps({"machine": facts, "sections": sections}, indent=1, ensure_ascii=False) + "\n", "utf-8")
    texts = {PAGE: report(found, facts), README: headline(found, facts)}
    return [file, *(page for page, text in texts.items() if put(page, MARKS, text))]


def read(file: Path) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    """The sections and the machine of an earlier run; nothing if there was none."""
    if not file.is_file():
        return {}, {}
    told = json.loads(file.read_text("utf-8"))
    return {name: [Row(**row) for row in rows] for name, rows in told["sections"].items()}, told["machine"]
