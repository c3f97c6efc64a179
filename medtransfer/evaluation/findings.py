"""What an evaluation found, as data: the results of each model, what is missing, and the differences of two."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .paired import Difference
from .summary import Drawn


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
class Findings:
    """Results of one model, or of two on the same cases.

    Args:
        models: One or two.
        references: Where the references came from.
        settings: What was set.
        differences: The first model less the second; empty for one model.
    """

    models: tuple[Model, ...]
    references: str
    settings: dict[str, Any] = field(default_factory=dict)
    differences: tuple[Difference, ...] = ()

    @property
    def task(self) -> str:
        """``segmentation``, ``classification``, ``detection`` or ``regression``."""
        return self.models[0].drawn.results.task
