"""Two models on the same cases: the difference with its interval, a test, and in words whether it can be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..scoring.classification import CASE_SCORES, mean_defined
from ..scoring.ratios import ratio
from .classified import Classified
from .detected import DETECTION_SCORES, Detected
from .regressed import REGRESSION_SCORES, Regressed
from .resampling import draw_weights, interval, weighted_means
from .scores import ABSENT, COMPARED, LOW_IS_GOOD
from .segmented import Segmented
from .summary import Drawn

Floats = npt.NDArray[np.float64]
#: with fewer patients that differ, a two-sided Wilcoxon test cannot fall below 0.05
LEAST_PATIENTS = 6
CHANCE = 0.05
MEAN = "mean over the classes"
ALL = "all cases"


@dataclass(frozen=True)
class Difference:
    """A score of the first model less that of the second, over the same cases.

    Args:
        of: A class, or the mean over the classes, or all cases of a classification.
        score: Its name.
        first: Of the first model.
        second: Of the second.
        low: Lower end of the 95 % interval of the difference; both models have the same draws of patients.
        high: Upper end.
        wins: Cases where the first is better.
        ties: Cases where both are equal.
        losses: Cases where the second is better.
        patients: With a difference to test.
        p: Of the test, for a single class corrected by Holm over the classes; None where nothing was tested.
        verdict: ``first``, ``second``, or why it cannot be told.
    """

    of: str
    score: str
    first: float
    second: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int
    patients: int
    p: float | None
    verdict: str = ""

    @property
    def value(self) -> float:
        """The difference."""
        return self.first - self.second


FIRST, SECOND, OPEN, TOO_FEW = "first better", "second better", "cannot be told", "too few cases to tell"


def compare(first: Drawn, second: Drawn) -> list[Difference]:
    """All differences of two models that were scored on the same cases in the same order.

    Segmentation: the mean over the classes and each class. The difference of the means has a paired bootstrap interval;
    single cases are tested by Wilcoxon's signed-rank test over the patients (Wilcoxon 1945), corrected over the classes
    of a score (Holm 1979). Classification: all scores with intervals; the accuracy by McNemar's exact test (1947).
    Detection: the means over the classes and each class with intervals; wins are of the F1 of single cases, no p.
    Regression: each quantity with intervals; wins are smaller absolute errors, of whose mean Wilcoxon's test is.

    Distances are compared over the cases where both models have one; a structure that only one of them missed is a win
    of the other. A verdict needs both: an interval that leaves out zero, and p below 0.05.
    """
    if isinstance(first.results, Classified) and isinstance(second.results, Classified):
        found = [_classified(first, second, score) for score in CASE_SCORES]
    elif isinstance(first.results, Detected) and isinstance(second.results, Detected):
        found = [one for score in DETECTION_SCORES for one in _detected(first, second, score)]
    elif isinstance(first.results, Regressed) and isinstance(second.results, Regressed):
        found = [one for score in REGRESSION_SCORES if score != "bias" for one in _regressed(first, second, score)]
    else:
        found = [one for score in COMPARED for one in _segmented(first, second, score)]
    return [replace(one, verdict=_verdict(one)) for one in found]


def holm(values: Sequence[float]) -> list[float]:
    """P-values corrected for being several.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(values)
    steps = np.asarray(values, float)[order] * np.arange(len(values), 0, -1)
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1) if len(values) else steps
    return corrected.tolist()


def _verdict(one: Difference) -> str:
    if one.patients < LEAST_PATIENTS:
        return OPEN if one.wins == one.losses == 0 and one.ties >= LEAST_PATIENTS else TOO_FEW
    if not (one.low > 0 or one.high < 0) or (one.p is not None and one.p >= CHANCE):
        return OPEN
    return FIRST if (one.value > 0) != (one.score in LOW_IS_GOOD) else SECOND


def _segmented(first: Drawn, second: Drawn, score: str) -> list[Difference]:
    a, b = first.results, second.results
    assert isinstance(a, Segmented)
    assert isinstance(b, Segmented)
    place = a.overall_scores.index(score)
    raw = a.values[:, :, place], b.values[:, :, place]
    weights = draw_weights(a.patients, first.number, first.seed)
    # a distance that only one model has would compare the one's easy cases with all of the other's
    endless = np.isinf(raw[0]) | np.isinf(raw[1])
    draws = [weighted_means(np.where(endless, np.nan, one), weights) for one in raw]
    values = _oriented(a, raw[0], score), _oriented(b, raw[1], score)
    single = [
        _difference(name, score, (draws[0][:, n], draws[1][:, n]), (values[0][:, n], values[1][:, n]), a.patients)
        for n, name in enumerate(a.names.values())
    ]
    tested = [n for n, one in enumerate(single) if one.p is not None]
    for n, p in zip(tested, holm([single[n].p or 0.0 for n in tested]), strict=True):
        single[n] = replace(single[n], p=p)
    means = mean_defined(draws[0]), mean_defined(draws[1])
    return [_difference(MEAN, score, means, _means(*values), a.patients), *single]


def _oriented(results: Segmented, values: Floats, score: str) -> Floats:
    """(N, K) scores of which high ones are good; rightly left out is better than anything."""
    return np.where(results.outcomes == ABSENT, np.inf, -values if score in LOW_IS_GOOD else values)


def _means(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """(N,) means over the classes that both models have a finite score of."""
    both = np.isfinite(a) & np.isfinite(b)
    count = both.sum(axis=1)
    first, second = (ratio(np.where(both, one, 0).sum(axis=1), count) for one in (a, b))
    return first, second


def _difference(
    of: str, score: str, draws: tuple[Floats, Floats], values: tuple[Floats, Floats], patients: Sequence[str]
) -> Difference:
    a, b = values
    counted = ~(np.isnan(a) | np.isnan(b)) & ~(np.isposinf(a) & np.isposinf(b))
    wins, losses = int((a[counted] > b[counted]).sum()), int((a[counted] < b[counted]).sum())
    ties = int(counted.sum()) - wins - losses
    finite = np.isfinite(a) & np.isfinite(b)
    by_patient = _by_patient((a[finite] - b[finite]), np.asarray(patients)[finite])
    differing = by_patient[by_patient != 0]
    p = _wilcoxon(differing) if len(differing) >= LEAST_PATIENTS else None
    low, high = interval((draws[0] - draws[1])[1:])
    ends = (float(draws[0][0]), float(draws[1][0]), low, high)
    return Difference(of, score, *ends, wins, ties, losses, len(differing), p)


def _wilcoxon(differences: Floats) -> float:
    # read when it is needed: it takes longer than scoring a mask
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences).pvalue)


def _mcnemar(wins: int, losses: int) -> float:
    """The exact test of cases that only one of two models has right."""
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses).pvalue)


def _by_patient(values: Floats, patients: npt.NDArray[np.str_]) -> Floats:
    """Mean of each patient: their cases are no independent trials."""
    _, number = np.unique(patients, return_inverse=True)
    return np.asarray(np.bincount(number, values) / np.bincount(number)) if len(values) else values


def _classified(first: Drawn, second: Drawn, score: str) -> Difference:
    a, b = first.results, second.results
    assert isinstance(a, Classified)
    assert isinstance(b, Classified)
    place = a.overall_scores.index(score)
    draws = first.overall[:, place], second.overall[:, place]
    right = a.predicted == a.labels, b.predicted == b.labels
    wins, losses = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    # of cases of one patient, McNemar's test would take each for a trial of its own
    independent = len(set(a.patients)) == len(a.patients)
    tested = score == "accuracy" and independent and wins + losses > 0
    p = _mcnemar(wins, losses) if tested else None
    low, high = interval((draws[0] - draws[1])[1:])
    ends = (float(draws[0][0]), float(draws[1][0]), low, high)
    count = len(set(a.patients))
    return Difference(ALL, score, *ends, wins, len(a.labels) - wins - losses, losses, count, p)


def _detected(first: Drawn, second: Drawn, score: str) -> list[Difference]:
    a, b = first.results, second.results
    assert isinstance(a, Detected)
    assert isinstance(b, Detected)
    place, names = DETECTION_SCORES.index(score), list(a.names.values())
    by_class = [(first.by_class[:, n, place], second.by_class[:, n, place]) for n in range(len(names))]
    draws = [(first.overall[:, place], second.overall[:, place]), *by_class]
    cases = [_means(a.case_f1(), b.case_f1()), *zip(a.case_f1().T, b.case_f1().T, strict=True)]
    count = len(set(a.patients))
    # average precision is of no single case, so that nothing can be tested case by case
    return [
        replace(_difference(name, score, pair, values, a.patients), patients=count, p=None)
        for name, pair, values in zip([MEAN, *names], draws, cases, strict=True)
    ]


def _regressed(first: Drawn, second: Drawn, score: str) -> list[Difference]:
    a, b = first.results, second.results
    assert isinstance(a, Regressed)
    assert isinstance(b, Regressed)
    place, names = REGRESSION_SCORES.index(score), list(a.names.values())
    errors = [-np.abs(one.found - one.wanted) for one in (a, b)]
    single = [
        _difference(
            name,
            score,
            (first.by_class[:, n, place], second.by_class[:, n, place]),
            (errors[0][:, n], errors[1][:, n]),
            a.patients,
        )
        for n, name in enumerate(names)
    ]
    tested = [n for n, one in enumerate(single) if one.p is not None and score == "mae"]
    corrected = dict(zip(tested, holm([single[n].p or 0.0 for n in tested]), strict=True))
    return [replace(one, p=corrected.get(n)) for n, one in enumerate(single)]
