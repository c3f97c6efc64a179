"""LogME against a brute-force search for the largest evidence, with the dense covariance of the targets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from medtransfer.errors import UsageError
from medtransfer.ranking.logme import logme


def brute_force(features: np.ndarray, target: np.ndarray) -> float:
    """The largest log N(y; 0, I / beta + F F' / alpha) a sample, over alpha and beta, from several starts."""

    def loss(logs: np.ndarray) -> float:
        alpha, beta = np.exp(np.clip(logs, -30, 30))
        covariance = np.eye(len(target)) / beta + features @ features.T / alpha
        squared = target @ np.linalg.solve(covariance, target)
        return 0.5 * (np.linalg.slogdet(covariance)[1] + squared + len(target) * math.log(2 * math.pi))

    starts = [(0.0, 0.0), (12.0, 1.0), (-3.0, 3.0)]
    options = {"xatol": 1e-5, "fatol": 1e-8, "maxiter": 1000}
    return max(-minimize(loss, start, method="Nelder-Mead", options=options).fun for start in starts) / len(target)


def features_of(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    columns = {"narrow": 4, "square": 16, "wide": 40, "low rank": 3, "offset": 4}[kind]
    features = rng.normal(size=(16, columns))
    if kind == "low rank":
        features = features @ rng.normal(size=(3, 9))
    return features + (5 if kind == "offset" else 0)


KINDS = ("narrow", "square", "wide", "low rank", "offset")


@pytest.mark.parametrize("kind", KINDS)
def test_the_evidence_of_classes_is_the_largest_there_is(kind):
    features, labels = features_of(kind), np.random.default_rng(1).integers(0, 2, 16)
    expected = np.mean([brute_force(features, (labels == number) * 1.0) for number in range(2)])
    assert logme(features, labels) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_evidence_of_real_targets_is_the_largest_there_is(kind):
    features, rng = features_of(kind), np.random.default_rng(2)
    target = features @ rng.normal(size=features.shape[1]) + rng.normal(size=16)
    assert logme(features, target) == pytest.approx(brute_force(features, target), abs=1e-6)


def test_features_of_zeros_and_constant_ones():
    target = np.array([1.0, -1.0, 2.0, -2.0])
    # nothing but noise of the targets' own size
    nothing = -0.5 * (math.log(2 * math.pi * np.mean(target**2)) + 1)
    assert logme(np.zeros((4, 3)), target) == pytest.approx(nothing)
    assert logme(np.ones((4, 3)), target) == pytest.approx(nothing)
    assert logme(np.ones((4, 3)), target + 10) > logme(np.zeros((4, 3)), target + 10) + 1


def test_a_perfect_fit_is_high_and_finite():
    target = np.array([1.0, -1.0, 2.0, -2.0, 0.5])
    value = logme(target[:, None], target)
    assert math.isfinite(value)
    assert value > 5


def test_no_scale_or_rotation_of_the_features_matters():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(30, 6)), rng.integers(0, 2, 30)
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert logme(1e-6 * features @ turn, labels) == pytest.approx(logme(features, labels), abs=1e-9)


def test_several_targets_are_averaged_and_absent_classes_left_away():
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(12, 3)), rng.normal(size=(12, 2))
    assert logme(features, targets) == pytest.approx(np.mean([logme(features, column) for column in targets.T]))
    labels = rng.integers(0, 2, 12)
    assert logme(features, labels) == logme(features, labels * 7)


@pytest.mark.parametrize(
    "features, targets, said",
    [
        ([[1.0], [np.nan]], [0, 1], "finite"),
        ([1.0, 2.0], [0, 1], "matrix"),
        ([[1.0], [2.0]], [0, 1, 1], "2 in all"),
        ([[1.0], [2.0]], [0.0, 0.0], "not all of them 0"),
    ],
)
def test_what_cannot_be_scored_is_refused(features, targets, said):
    with pytest.raises(UsageError, match=said):
        logme(features, targets)
