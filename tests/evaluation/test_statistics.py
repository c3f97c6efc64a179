"""Intervals, patients, and the comparison of two models."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import bootstrap, wilcoxon

from medtransfer.evaluation.classified import Classified
from medtransfer.evaluation.paired import FIRST, OPEN, SECOND, TOO_FEW, compare, holm
from medtransfer.evaluation.resampling import draw_weights, interval, weighted_means
from medtransfer.evaluation.scores import BOTH, FACTS, INVENTED, MISSED, SCORE_NAMES
from medtransfer.evaluation.segmentation import CaseResult, ClassResult
from medtransfer.evaluation.segmented import Segmented
from medtransfer.evaluation.summary import Drawn


def _results(dice: Sequence[float], patients: Sequence[str] | None = None, **others: Sequence[float]) -> Segmented:
    """One class; Dice None stands for a case without the structure."""
    cases = [f"case {number}" for number in range(len(dice))]
    results = [
        CaseResult(case, (_class(value, {name: values[n] for name, values in others.items()}),))
        for n, (case, value) in enumerate(zip(cases, dice, strict=True))
    ]
    return Segmented({1: "liver"}, tuple(results), tuple(patients or cases))


def _class(dice: float, others: dict[str, float]) -> ClassResult:
    scores = {**dict.fromkeys((*SCORE_NAMES, *FACTS), 1.0), "dice": dice, **others}
    return ClassResult(1, MISSED if math.isinf(scores["hd95"]) else BOTH, scores)


def test_intervals_are_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(0).beta(8, 2, 40)
    found = Drawn(_results(list(values)), 4000).mean("dice")
    expected = bootstrap((values,), np.mean, method="percentile", n_resamples=4000, random_state=1).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.004)
    assert found.n == 40


def test_the_same_seed_gives_the_same_interval_and_one_case_gives_none() -> None:
    results = _results([0.1, 0.5, 0.9])
    assert Drawn(results, 99, 1).mean("dice") == Drawn(results, 99, 1).mean("dice")
    assert Drawn(results, 99, 1).mean("dice").low <= 0.5
    assert math.isnan(Drawn(_results([0.5]), 99).mean("dice").low)


def test_patients_are_drawn_with_all_their_cases() -> None:
    weights = draw_weights(["a", "a", "b", "c"], draws=200)
    assert np.array_equal(weights[:, 0], weights[:, 1])
    assert (weights[0] == 1).all()
    assert {int(row[0] + row[2] + row[3]) for row in weights} == {3}
    dice = [0.9, 0.9, 0.9, 0.1, 0.1, 0.1]
    alone, grouped = (Drawn(_results(dice, patients), 500).mean("dice") for patients in (None, list("aaabbb")))
    assert grouped.high - grouped.low > alone.high - alone.low


def test_means_leave_out_what_is_not_finite() -> None:
    values = np.array([[1.0, np.nan], [np.inf, np.nan], [3.0, np.nan]])
    assert weighted_means(values, np.ones((1, 3))).tolist()[0] == pytest.approx([2.0, math.nan], nan_ok=True)
    assert interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)


def test_a_better_model_is_told_and_p_is_wilcoxons() -> None:
    generator = np.random.default_rng(0)
    good = generator.uniform(0.7, 0.9, 20)
    bad = good - generator.uniform(-0.02, 0.1, 20)
    ahead = compare(Drawn(_results(list(good)), 500), Drawn(_results(list(bad)), 500))
    behind = compare(Drawn(_results(list(bad)), 500), Drawn(_results(list(good)), 500))
    dice = next(one for one in ahead if (one.of, one.score) == ("liver", "dice"))
    assert dice.verdict == FIRST
    assert dice.p == pytest.approx(wilcoxon(good - bad).pvalue)
    assert dice.value == pytest.approx((good - bad).mean())
    assert 0 < dice.low < dice.value < dice.high
    assert (dice.wins, dice.losses) == (int((good > bad).sum()), int((good < bad).sum()))
    assert next(one for one in behind if one.score == "dice").verdict == SECOND


def test_what_cannot_be_told() -> None:
    one, other = [0.5, 0.6] * 10, [0.6, 0.5] * 10
    assert compare(Drawn(_results(one), 200), Drawn(_results(other), 200))[0].verdict == OPEN
    assert compare(Drawn(_results(one[:4]), 200), Drawn(_results(other[:4]), 200))[0].verdict == TOO_FEW
    same = compare(Drawn(_results(one), 200), Drawn(_results(one), 200))[0]
    assert (same.verdict, same.ties, same.p, same.value) == (OPEN, 20, None, 0)


def test_low_distances_are_good_and_missed_ones_are_losses_not_means() -> None:
    first, second = [1.0] * 8 + [20.0], [2.0] * 8 + [math.inf]
    dice = [0.5] * 9
    found = compare(Drawn(_results(dice, hd95=first), 300), Drawn(_results(dice, hd95=second), 300))
    hd95 = next(one for one in found if (one.of, one.score) == ("liver", "hd95"))
    assert (hd95.wins, hd95.losses, hd95.verdict) == (9, 0, FIRST)
    assert (hd95.first, hd95.second) == (1.0, 2.0)  # the case of 20 mm has no partner


def test_an_invented_structure_loses_against_one_rightly_left_out() -> None:
    nothing = Segmented({1: "liver"}, (CaseResult("a"),), ("a",))
    wrong = Segmented({1: "liver"}, (CaseResult("a", (_class(0.0, {}),)),), ("a",))
    assert wrong.results[0].classes[0].outcome in (BOTH, INVENTED)
    found = compare(Drawn(nothing, 9), Drawn(wrong, 9))
    assert [(one.wins, one.ties, one.losses) for one in found if (one.of, one.score) == ("liver", "dice")] == [
        (1, 0, 0)
    ]


def test_patients_not_cases_are_tested() -> None:
    first, second = np.full(12, 0.9), np.linspace(0.7, 0.8, 12)
    patients = list("aaabbbcccddd")
    found = compare(Drawn(_results(list(first), patients), 99), Drawn(_results(list(second), patients), 99))
    assert (found[0].patients, found[0].p, found[0].verdict) == (4, None, TOO_FEW)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.02, 0.03, 0.005]) == pytest.approx([0.03, 0.04, 0.04, 0.02])
    assert holm([]) == []


def test_two_classifiers() -> None:
    labels = np.array([0, 1] * 20)
    right = np.eye(2)[labels] * 0.8 + 0.1
    guess = np.random.default_rng(0).dirichlet([1, 1], 40)
    cases = tuple(map(str, range(40)))
    first, second = (Drawn(Classified({0: "a", 1: "b"}, cases, cases, p, labels), 100) for p in (right, guess))
    found = {one.score: one for one in compare(first, second)}
    assert (found["accuracy"].first, found["accuracy"].verdict, found["brier"].verdict) == (1.0, FIRST, FIRST)
    wins, losses = found["accuracy"].wins, found["accuracy"].losses
    assert (wins, losses) == (int((guess.argmax(1) != labels).sum()), 0)
    assert found["accuracy"].p == pytest.approx(2 * 0.5**wins)
