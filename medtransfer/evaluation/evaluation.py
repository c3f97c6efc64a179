"""What an evaluation found: the rows, the means, what is missing, and the files it becomes."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DatasetError
from ..files import atomic_file, refuse_existing, refuse_unusable_folder, write_json
from ..version import __version__
from .paired import Difference
from .summary import Drawn

# a spreadsheet runs a cell that begins with one of these
_RUNS = ("=", "+", "-", "@", "\t", "\r", "'")
FILES = ("evaluation.csv", "evaluation.json", "evaluation.html")


@dataclass(frozen=True)
class Model:
    """One model's predictions against the references.

    Args:
        name: What it is called.
        drawn: Its results.
        missing: References without a prediction; they were scored as if empty.
        failed: Cases that were refused, with ``case``, ``error`` and ``exit_code``.
        extra: Predictions without a reference.
        warnings: What should be known.
        left_out: References without a prediction that were not scored, as was asked for.
    """

    name: str
    drawn: Drawn
    missing: tuple[str, ...] = ()
    failed: tuple[dict[str, Any], ...] = ()
    extra: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """Scores of one model, or of two on the same cases.

    Args:
        models: One or two.
        references: Where the references came from.
        settings: What was set.
        differences: The first model less the second; empty for one model.

    Attributes:
        table: One dict a case and class (classification: a case); with two models, ``model`` tells which.
        summary: Means with intervals by class, and over the classes, of each model by name.
    """

    models: tuple[Model, ...]
    references: str
    settings: dict[str, Any] = field(default_factory=dict)
    differences: tuple[Difference, ...] = ()

    @property
    def task(self) -> str:
        """``segmentation`` or ``classification``."""
        return self.models[0].drawn.results.task

    @property
    def failed(self) -> list[str]:
        """Cases that were refused, in any of the models."""
        return sorted({one["case"] for model in self.models for one in model.failed})

    @property
    def table(self) -> list[dict[str, Any]]:
        """The rows of all models."""
        return [{"model": model.name, **row} for model in self.models for row in model.drawn.results.rows()]

    @property
    def summary(self) -> dict[str, Any]:
        """By model."""
        return {model.name: model.drawn.to_dict() for model in self.models}

    def to_dict(self) -> dict[str, Any]:
        """What ``evaluation.json`` holds; NaN and infinity become null there."""
        return {
            "medtransfer": __version__,
            "task": self.task,
            "references": self.references,
            "settings": self.settings,
            "models": {model.name: _model(model) for model in self.models},
            "differences": [{**asdict(one), "value": one.value} for one in self.differences],
            "table": self.table,
        }

    def save(self, folder: str | os.PathLike[str], overwrite: bool = False) -> list[Path]:
        """Write ``evaluation.csv``, ``evaluation.json`` and ``evaluation.html`` with its pictures; returns their paths.

        Raises:
            OutputExistsError: one of them exists and ``overwrite`` is false; then none is written.
            UsageError: ``folder`` is a file or cannot be written.
            ResourceError: the disk is full.
        """
        from .page import write_evaluation_page  # matplotlib

        home = refuse_outputs(folder, overwrite)
        home.mkdir(parents=True, exist_ok=True)
        pictures = write_evaluation_page(self, home, overwrite)
        write_json(home / FILES[1], self.to_dict(), overwrite)
        write_csv(self.table, home / FILES[0], overwrite)
        return [*(home / name for name in FILES), *pictures]

    def __str__(self) -> str:
        from .wording import summary_text

        return summary_text(self)


def refuse_outputs(folder: str | os.PathLike[str], overwrite: bool) -> Path:
    """Raise if the results cannot be written, before any work is done.

    Raises:
        OutputExistsError: one of them exists and ``overwrite`` is false.
        UsageError: ``folder`` is a file or cannot be written.
    """
    home = Path(folder)
    refuse_unusable_folder(home)
    for name in FILES:
        refuse_existing(home / name, overwrite)
    return home


def common_cases(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Cases that both have.

    Raises:
        DatasetError: there is none.
    """
    others = set(second)
    both = [case for case in first if case in others]
    if not both:
        raise DatasetError("the two models have no case in common", hint="Compare predictions of the same scans")
    return both


def _model(model: Model) -> dict[str, Any]:
    return {
        "summary": model.drawn.to_dict(),
        "failed": list(model.failed),
        "missing": list(model.missing),
        "left_out": list(model.left_out),
        "extra": list(model.extra),
        "warnings": list(model.warnings),
    }


def write_csv(rows: Sequence[dict[str, Any]], path: Path, overwrite: bool) -> None:
    """A row a line; a score that is not defined is an empty cell, an infinite distance is ``inf``."""
    with atomic_file(path, overwrite) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _cell(value) for key, value in row.items()})


def _cell(value: Any) -> Any:
    """Nothing for NaN; text that a spreadsheet would run as a formula, quoted."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_RUNS) else value
    return "" if value != value else value
