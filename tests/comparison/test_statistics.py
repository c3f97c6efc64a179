"""Scores, differences and worth: by hand, by other means, and by simulation with a known truth."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from monai.metrics import compute_roc_auc
from scipy.optimize import isotonic_regression

from medtransfer.comparison.gathered import gather
from medtransfer.comparison.measures import MEASURES, case_dice, class_dice
from medtransfer.comparison.resampling import draw_resampling, interval
from medtransfer.comparison.statistics import HELPS, HURTS, TOO_FEW_SEEDS, analyse, verdict
from medtransfer.comparison.worth import cases_for, rising
from medtransfer.errors import DatasetError, UsageError
from tests.comparison.synthetic import crossed, made_run

DICE, (AUROC, ACCURACY) = MEASURES["segmentation"][0], MEASURES["classification"]


def dice_of(runs, draws=500):
    return analyse(gather(runs), DICE, draws)


def answered(arm, seed, probabilities, labels):
    cases = {
        f"c{i}": {"probabilities": list(p), "label": k}
        for i, (p, k) in enumerate(zip(probabilities, labels, strict=True))
    }
    return made_run(arm, 8, seed, cases, task="classification", classes=["a", "b", "c"][: len(probabilities[0])])


# --- scores --------------------------------------------------------------------------------------------------------
def test_the_score_is_the_mean_over_classes_then_cases_then_seeds():
    first = {"x": {"a": 0.5, "b": 0.7}, "y": {"a": None, "b": 0.9}, "z": {"a": None, "b": None}}
    second = {"x": {"a": 0.4, "b": 0.4}, "y": {"a": 0.0, "b": 1.0}, "z": {"a": None, "b": None}}
    runs = [made_run("scratch", 8, seed, cases) for seed, cases in enumerate((first, second))]
    score = dice_of(runs).score("scratch", 8)
    # case scores 0.6 and 0.9, then 0.4 and 0.5; z has nothing to score
    assert score.value == pytest.approx((0.75 + 0.45) / 2)
    assert score.spread == pytest.approx(np.std([0.75, 0.45], ddof=1))
    assert class_dice(runs[0]) == {"a": 0.5, "b": pytest.approx(0.8)}
    assert math.isnan(case_dice({"a": float("nan")}))


def test_without_anything_to_score_the_score_is_nan():
    score = dice_of([made_run("scratch", 8, 0, {"x": {"a": None}})]).score("scratch", 8)
    assert all(map(math.isnan, (score.value, score.low, score.high)))


def test_auroc_and_accuracy_are_those_of_monai_and_of_a_count():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(3), 30).round(1)  # rounded: ties
    labels = generator.integers(0, 3, 30).tolist()
    found = gather([answered("scratch", 0, probabilities.tolist(), labels)])
    expected = [
        compute_roc_auc(torch.tensor(probabilities[:, k]), torch.tensor([label == k for label in labels]).long())
        for k in range(3)
    ]
    assert analyse(found, AUROC, 50).scores[0].value == pytest.approx(np.mean(expected))
    right = np.mean(probabilities.argmax(axis=1) == labels)
    assert analyse(found, ACCURACY, 50).scores[0].value == pytest.approx(right)


def test_weighted_auroc_is_that_of_repeated_cases():
    run = answered("scratch", 0, [(0.9, 0.1), (0.4, 0.6), (0.7, 0.3), (0.3, 0.7)], [0, 0, 1, 1])
    repeated = answered("scratch", 0, [(0.9, 0.1), *[(0.4, 0.6)] * 3, *[(0.7, 0.3)] * 2], [0, 0, 0, 0, 1, 1])
    weighted = AUROC.scores(run, list(run.cases), np.array([[1.0, 3.0, 2.0, 0.0]]))
    assert weighted == pytest.approx(AUROC.scores(repeated, list(repeated.cases), np.ones((1, 6))))
    one_sided = AUROC.scores(run, list(run.cases), np.array([[1.0, 1.0, 0.0, 0.0]]))
    assert np.isnan(one_sided).all()


# --- differences ---------------------------------------------------------------------------------------------------
def test_a_constant_gain_has_no_interval_since_both_sides_have_the_same_draws():
    generator = np.random.default_rng(0)
    scratch = generator.uniform(0.3, 0.8, (3, 12))
    runs = [made_run("scratch", 8, s, row.tolist()) for s, row in enumerate(scratch)]
    runs += [made_run("a/full", 8, s, (row + 0.125).tolist()) for s, row in enumerate(scratch)]
    analysis = dice_of(runs)
    difference = analysis.difference("a/full", 8)
    assert (difference.low, difference.value, difference.high) == pytest.approx((0.125,) * 3)
    assert difference.verdict == HELPS
    score = analysis.score("a/full", 8)
    assert score.high - score.low > 0.05


def test_only_common_seeds_are_compared():
    runs = [made_run("scratch", 8, seed, [0.5, 0.6]) for seed in (0, 1)]
    runs += [made_run("a/full", 8, seed, [value, value]) for seed, value in ((1, 0.7), (2, 0.1))]
    difference = dice_of(runs).difference("a/full", 8)
    assert difference.seeds == (1,)
    assert difference.value == pytest.approx(0.15)
    assert difference.verdict == TOO_FEW_SEEDS
    assert dice_of([runs[0], runs[3]]).difference("a/full", 8) is None


def test_the_verdict_follows_the_interval_and_the_number_of_seeds():
    assert [verdict(-0.2, -0.1, n) for n in (1, 2, 3)] == [TOO_FEW_SEEDS, TOO_FEW_SEEDS, HURTS]


def test_where_test_cases_are_alike_the_interval_is_students():
    means = np.array([0.5, 0.53, 0.58])
    runs = [made_run("scratch", 8, seed, [mean] * 10) for seed, mean in enumerate(means.tolist())]
    score = dice_of(runs, 40_000).score("scratch", 8)
    low, high = scipy.stats.t.interval(0.95, 2, means.mean(), scipy.stats.sem(means))
    assert (score.low, score.high) == pytest.approx((low, high), abs=0.006)


def test_with_one_seed_the_interval_is_the_plain_bootstrap_of_cases():
    dice = np.random.default_rng(1).uniform(0.2, 0.9, 30)
    score = dice_of([made_run("scratch", 8, 0, dice.tolist())], 20_000).score("scratch", 8)
    plain = scipy.stats.bootstrap((dice,), np.mean, method="percentile", rng=0).confidence_interval
    assert (score.low, score.high) == pytest.approx(tuple(plain), abs=0.004)


def test_the_same_runs_give_the_same_figures_in_any_order():
    runs = crossed({("scratch", 8): 0.5, ("a/full", 8): 0.6}, 3, 8, (0.02, 0.05, 0.02), np.random.default_rng(0))
    assert dice_of(runs).differences == dice_of(runs[::-1]).differences


# --- worth ---------------------------------------------------------------------------------------------------------
def test_the_rising_curve_is_scipys_isotonic_regression():
    if not hasattr(scipy.optimize, "isotonic_regression"):
        pytest.skip("scipy before 1.12")
    curves = np.random.default_rng(0).normal(size=(50, 6))
    assert rising(curves) == pytest.approx(np.array([isotonic_regression(curve).x for curve in curves]))


@pytest.mark.parametrize(
    "score, cases",
    [(0.39, -math.inf), (0.4, 4), (0.5, math.sqrt(4 * 8)), (0.6, 8), (0.7, 16 * 2**0.5), (0.8, 32), (0.81, math.inf)],
)
def test_cases_are_read_off_between_the_sizes_and_never_beyond(score, cases):
    # 16 cases scored below 8 by chance: both count as 0.6
    curve = np.array([[0.4, 0.65, 0.55, 0.8]])
    assert cases_for(np.array([score]), [4, 8, 16, 32], curve) == pytest.approx([cases])


def test_worth_by_hand():
    scratch = {4: 0.4, 8: 0.5, 16: 0.6}
    runs = [made_run("scratch", size, seed, [value] * 3) for size, value in scratch.items() for seed in range(3)]
    runs += [made_run("a/full", 4, seed, [0.55] * 3) for seed in range(3)]
    worth = dice_of(runs).worth("a/full", 4)
    assert (worth.low, worth.value, worth.high) == pytest.approx((8 * 2**0.5,) * 3)
    assert worth.sizes == (4, 16)


def test_worth_needs_two_sizes_from_scratch():
    runs = [made_run("scratch", 4, 0, [0.5]), made_run("a/full", 4, 0, [0.6])]
    assert dice_of(runs).worth("a/full", 4) is None
    assert dice_of(runs).difference("a/full", 4) is not None


def test_an_interval_can_reach_beyond_the_sizes():
    assert interval(np.array([4.0, 8.0, math.inf, math.nan]), 0.9) == (4, math.inf)
    assert all(map(math.isnan, interval(np.array([math.nan]))))


# --- what can be compared ------------------------------------------------------------------------------------------
def test_arms_stand_with_scratch_first_and_gaps_are_known():
    runs = [made_run("a/full", 8, 0, [0.5]), made_run("scratch", 4, 1, [0.5])]
    gathered = gather(runs)
    assert gathered.arms == ("scratch", "a/full")
    assert len(gathered.missing) == 6
    assert ("scratch", 8, 0) in gathered.missing


@pytest.mark.parametrize(
    "other, words",
    [
        (made_run("scratch", 8, 0, [0.5]), "two results of scratch with 8 cases, seed 0"),
        (made_run("scratch", 8, 1, [0.5, 0.6]), "different test cases"),
        (made_run("scratch", 8, 1, [0.5], classes=["background", "other"]), "different classes"),
        (answered("scratch", 1, [(0.5, 0.5)], [0]), "different tasks and classes and test cases"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(other, words):
    with pytest.raises(DatasetError, match=words):
        gather([made_run("scratch", 8, 0, [0.5]), other])


def test_no_run_is_refused():
    with pytest.raises(UsageError, match="no finished run"):
        gather([])
    with pytest.raises(DatasetError, match="no test case"):
        gather([made_run("scratch", 8, 0, {})])


# --- coverage ------------------------------------------------------------------------------------------------------
SIZES = (4, 8, 16, 32)
TRUTH = {**{("scratch", n): 0.6 + 0.05 * math.log2(n / 4) for n in SIZES}, ("a/full", 8): 0.675}
TRUE_WORTH = 8 * 2**0.5


def covered(rounds, num_seeds, num_cases, spreads, draws=1000):
    """How often the intervals of score, difference and worth held the truth, and how often equal arms seemed not to."""
    generator = np.random.default_rng(7)
    hits = []
    for _ in range(rounds):
        truth = {**TRUTH, ("equal/full", 8): TRUTH["scratch", 8]}
        analysis = dice_of(crossed(truth, num_seeds, num_cases, spreads, generator), draws)
        score, difference = analysis.score("a/full", 8), analysis.difference("a/full", 8)
        worth = analysis.worth("a/full", 8)
        hits.append([
            score.low <= TRUTH["a/full", 8] <= score.high,
            difference.low <= 0.025 <= difference.high,
            worth.low <= TRUE_WORTH <= worth.high,
            analysis.difference("equal/full", 8).verdict in (HELPS, HURTS),
        ])  # fmt: skip
    return np.mean(hits, axis=0)


def test_intervals_hold_the_truth():
    score, difference, worth, wrong = covered(60, 3, 20, (0.05, 0.05, 0.02), draws=400)
    assert min(score, difference, worth) >= 0.88
    assert wrong <= 0.12


@pytest.mark.slow
@pytest.mark.parametrize(
    "num_seeds, num_cases, spreads",
    [
        (3, 40, (0.03, 0.08, 0.03)),
        (3, 40, (0.05, 0.02, 0.02)),
        (3, 40, (0.005, 0.08, 0.03)),
        (5, 40, (0.05, 0.08, 0.03)),
        (10, 40, (0.03, 0.08, 0.03)),
    ],
)
def test_intervals_hold_the_truth_as_often_as_they_say(num_seeds, num_cases, spreads):
    score, difference, worth, wrong = covered(400, num_seeds, num_cases, spreads)
    # 400 rounds know a share of 0.95 to about 0.02; crossed draws err on the wide side
    assert min(score, difference, worth) >= 0.92
    assert wrong <= 0.06


def test_plain_draws_of_three_seeds_would_be_too_narrow():
    """Why seeds are not drawn with replacement: the interval ends at the best and the worst of the three."""
    generator, hits = np.random.default_rng(3), []
    draws = np.array(list(itertools.product(range(3), repeat=3)))
    for _ in range(400):
        means = generator.normal(0, 1, 3)
        low, high = np.quantile(means[draws].mean(axis=1), [0.025, 0.975])
        hits.append(low <= 0 <= high)
    assert np.mean(hits) < 0.82


def test_seed_weights_have_students_spread():
    weights = draw_resampling([0, 1, 2, 3], 5, draws=20_000).seed_weights([0, 1, 2, 3])
    values = np.array([0.1, 0.5, 0.3, 0.9])
    found = (weights @ values - values.mean()) / scipy.stats.sem(values)
    assert scipy.stats.kstest(found, "t", args=(3,)).statistic < 0.02
