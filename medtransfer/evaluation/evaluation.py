"""What an evaluation found, for its user: the rows, the means, a summary, and the files it becomes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..files import refuse_existing, refuse_unusable_folder, write_json
from ..reporting.spreadsheet import quoted, write_table
from ..version import __version__
from .findings import Findings, Model
from .wording import summary_text

FILES = ("evaluation.csv", "evaluation.json", "evaluation.html")


@dataclass(frozen=True)
class Evaluation(Findings):
    """Scores of one model, or of two on the same cases; ``str()`` of it is a summary for people.

    Attributes:
        models, references, settings, differences: See :class:`~medtransfer.evaluation.findings.Findings`.
        table: One dict a case and class (classification: a case); with two models, ``model`` tells which.
        summary: Means with intervals by class, and over the classes, of each model by name.
    """

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
            ResourceError: the disk is full or the folder cannot be written.
        """
        home = refuse_outputs(folder, overwrite)
        home.mkdir(parents=True, exist_ok=True)
        # matplotlib takes a while to be read
        from .page import write_evaluation_page

        pictures = write_evaluation_page(self, home, overwrite)
        write_json(home / FILES[1], self.to_dict(), overwrite)
        write_csv(self.table, home / FILES[0], overwrite)
        return [*(home / name for name in FILES), *pictures]

    def __str__(self) -> str:
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
    header = list(dict.fromkeys(name for row in rows for name in row))
    write_table(path, header, ([_cell(row.get(name)) for name in header] for row in rows), overwrite)


def _cell(value: Any) -> Any:
    """Nothing for NaN; text that a spreadsheet would run as a formula, quoted."""
    if isinstance(value, str):
        return quoted(value)
    return "" if value != value else value
