"""What a ranking says: scores in order, how sure they are, what to do, and where the evidence is thin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..reporting.tables import text_table

#: below this many patients, a ranking is a hint
FEW = 10
#: a share of replicates from which on one score counts as better than another
SURE = 0.95

Interval = tuple[float, float]


@dataclass(frozen=True)
class Rated:
    """A source, or the untrained networks of its kind, with its scores.

    Attributes:
        name: As the source was called.
        format: Container, wrapper and dialect in words; ``dialect`` is the last of them, None for untrained networks.
        network: Name in the zoo.
        score: LogME, log evidence a sample and class; higher is better. Of untrained networks the mean.
        interval: Where 95 % of the scores of other cases are to be expected; None with too few cases.
        h_score, h_score_interval: The shrunk H-score.
        probability_best: Share of the replicates in which no source has a higher score.
        probability_better_than_untrained: Share of the replicates in which the same network with random weights scores
            less.
        coverage: Share of the encoder's parameters that came from the source.
        preprocessing: How scans were prepared, ``preprocessing_from`` where that is known from.
        notes: What may make the score worth less.
    """

    name: str
    network: str
    score: float
    interval: Interval | None
    h_score: float
    h_score_interval: Interval | None
    probability_best: float | None = None
    probability_better_than_untrained: float | None = None
    path: str | None = None
    format: str | None = None
    dialect: str | None = None
    coverage: float | None = None
    preprocessing: dict[str, Any] | None = None
    preprocessing_from: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def row(self) -> list[object]:
        """The cells of the table."""
        return [self.name, self.dialect, self.network, self.score, _range(self.interval), self.h_score,
                _percent(self.probability_best), _percent(self.probability_better_than_untrained)]  # fmt: skip


@dataclass(frozen=True)
class Ranking:
    """Sources by their score, best first.

    Attributes:
        data: The dataset.
        task: ``segmentation`` or ``classification``.
        classes: Names of the classes, with the number of cases that have samples of each.
        cases, patients: How many were looked at; ``samples`` are voxels of them, or the cases.
        stages: ``all`` or ``deepest``: what the features are of.
        seed: Of the choice of cases, voxels and halves.
        halves: Random halves of the patients that say how sure the scores are.
        sources: Best first.
        untrained: The same networks with random weights.
        advice: What to do, in a sentence or two.
        cautions: Where the evidence is thin.
    """

    data: str
    task: str
    classes: dict[str, int]
    cases: int
    patients: int
    samples: int
    stages: str
    seed: int
    halves: int
    sources: list[Rated]
    untrained: list[Rated]
    advice: str = ""
    cautions: list[str] = field(default_factory=list)

    HEADER = ("source", "format", "network", "LogME", "95 % of cases", "H-score", "best", "above untrained")

    @property
    def best(self) -> Rated:
        """The source with the highest score."""
        return self.sources[0]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        samples = "cases" if self.task == "classification" else f"voxels of {self.cases} cases"
        lines = [
            f"{self.data}: {self.task}, {self.samples} {samples} ({', '.join(self.classes)})",
            "",
            text_table(self.HEADER, [rated.row for rated in (*self.sources, *self.untrained)]),
            "",
            *(line for rated in self.sources for line in _details(rated)),
            "",
            self.advice,
            *(f"Caution: {caution}" for caution in self.cautions),
        ]
        return "\n".join(lines)


def advise(sources: Sequence[Rated]) -> str:
    """What to do with sources that are in order."""
    best = sources[0]
    equal = [rated.name for rated in sources[1:] if not _is_behind(rated, best)]
    trial = "Frozen features are no fine-tuning: `medtransfer compare` measures that."
    if not _is_sure(best.probability_better_than_untrained):
        return (
            f"No source is surely better than the same network with random weights, {best.name} neither: compare "
            f"training from it with training from scratch. {trial}"
        )
    if equal:
        return f"Take {best.name}, or {' or '.join(equal)}: these cases do not tell which is better. {trial}"
    return f"Take {best.name}: its frozen features tell the classes apart best. {trial}"


def cautions_of(ranking: Ranking) -> Iterator[str]:
    """Where the evidence is thin, one sentence each."""
    best, others = ranking.best, ranking.sources[1:]
    if best.interval is None:
        yield "the cases are of too few patients to say how sure these scores are"
    if ranking.patients < FEW:
        yield f"{ranking.patients} patients only, fewer than {FEW}: scores change from case to case"
    for name, count in ranking.classes.items():
        if count < min(3, ranking.patients):
            yield f"the class {name!r} has samples in {count} {'case' if count == 1 else 'cases'} only"
    overlapping = [rated.name for rated in others if not _apart(rated.interval, best.interval)]
    if overlapping and best.interval is not None:
        yield f"the intervals of {best.name} and {', '.join(overlapping)} overlap"
    hardly = [rated.name for rated in ranking.sources if not _is_sure(rated.probability_better_than_untrained)]
    if hardly and best.interval is not None:
        yield f"hardly better than random weights in the same network: {', '.join(hardly)}"
    partial = [f"{rated.name} {rated.coverage:.0%}" for rated in ranking.sources if (rated.coverage or 0) < 1]
    if partial:
        yield f"parts of the encoder have random weights, since the source fills less than all: {', '.join(partial)}"
    yield from _below_untrained(ranking)
    by_h_score = max(ranking.sources, key=lambda rated: rated.h_score)
    if by_h_score is not best:
        yield f"the H-score puts {by_h_score.name} first; with wide networks and few samples it is the weaker measure"


def _below_untrained(ranking: Ranking) -> Iterator[str]:
    top = ranking.untrained[0]
    own = [rated for rated in ranking.sources if _is_sure(rated.probability_better_than_untrained)]
    below = [rated.name for rated in own if rated.score < top.score]
    if below:
        yield f"below a {top.network} with random weights, whose width alone says more: {', '.join(below)}"


def _is_behind(rated: Rated, best: Rated) -> bool:
    """Whether a source is the best in hardly any replicate."""
    return (rated.probability_best or 0) <= 1 - SURE and best.probability_best is not None


def _is_sure(probability: float | None) -> bool:
    return probability is not None and probability >= SURE


def _apart(lower: Interval | None, upper: Interval | None) -> bool:
    return lower is not None and upper is not None and lower[1] < upper[0]


def _details(rated: Rated) -> Iterator[str]:
    settings = rated.preprocessing or {}
    spacing = settings.get("spacing")
    grid = "as scanned" if spacing is None else f"{'x'.join(f'{size:g}' for size in spacing)} mm"
    intensity = settings.get("intensity", {})
    parts = intensity if isinstance(intensity, list) else [intensity]
    scheme = ", ".join(part.get("scheme", "zscore") for part in parts)
    orientation = settings.get("orientation", "RAS")
    yield f"{rated.name}: {rated.format}; prepared by {rated.preprocessing_from} ({orientation}, {grid}, {scheme})"
    yield from (f"{rated.name}: {note}" for note in rated.notes)


def _range(interval: Interval | None) -> str | None:
    return None if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.0%}"
