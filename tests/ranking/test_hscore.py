"""The H-score against its definitions written out with numpy."""

from __future__ import annotations

import numpy as np
import pytest

from medtransfer.errors import UsageError
from medtransfer.ranking.hscore import h_score, ledoit_wolf_shrinkage
from medtransfer.ranking.spectrum import spectrum_of, spectrum_of_kernel

SHAPES = [(40, 5), (15, 40), (20, 20)]


def data_of(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(shape[0]) % 3
    return rng.normal(size=shape) @ rng.normal(size=(shape[1], shape[1])) + labels[:, None], labels


def between(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """cov(E[f | y])."""
    means = np.stack([features[labels == label].mean(axis=0) for label in labels])
    return np.cov(means, rowvar=False, bias=True)


def shrinkage_by_definition(features: np.ndarray) -> float:
    """Ledoit and Wolf 2004, lemmas 3.2 to 3.4, sample by sample."""
    centred = features - features.mean(axis=0)
    covariance = centred.T @ centred / len(centred)
    target = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    distance = ((covariance - target) ** 2).sum()
    noise = sum(((np.outer(row, row) - covariance) ** 2).sum() for row in centred) / len(centred) ** 2
    return min(noise, distance) / distance


@pytest.mark.parametrize("shape", SHAPES)
def test_the_plain_score(shape):
    features, labels = data_of(shape)
    covariance = np.cov(features, rowvar=False, bias=True)
    expected = np.trace(np.linalg.pinv(covariance, rcond=1e-10) @ between(features, labels))
    assert h_score(features, labels, shrinkage=0) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_shrunk_score(shape):
    features, labels = data_of(shape)
    covariance, amount = np.cov(features, rowvar=False, bias=True), shrinkage_by_definition(features)
    shrunk = (1 - amount) * covariance + amount * np.trace(covariance) / shape[1] * np.eye(shape[1])
    expected = (1 - amount) * np.trace(np.linalg.inv(shrunk) @ between(features, labels))
    assert h_score(features, labels) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_shrinkage(shape):
    features = data_of(shape)[0]
    spectrum = spectrum_of(features - features.mean(axis=0))
    assert ledoit_wolf_shrinkage(spectrum) == pytest.approx(shrinkage_by_definition(features), rel=1e-9)


def test_why_it_is_shrunk():
    rng = np.random.default_rng(0)
    noise, labels = rng.normal(size=(20, 60)), np.arange(20) % 2
    # with more features than samples the plain score is perfect for noise
    assert h_score(noise, labels, shrinkage=0) == pytest.approx(1)
    assert h_score(noise, labels) < 0.5


def test_features_that_do_not_vary():
    assert h_score(np.full((4, 3), 2.5), [0, 0, 1, 1]) == 0


def test_a_kernel_holds_all_that_is_needed():
    features, _ = data_of((15, 40))
    one, other = spectrum_of(features), spectrum_of_kernel(features @ features.T, 40)
    np.testing.assert_allclose(one.values, other.values, rtol=1e-8)
    np.testing.assert_allclose(np.abs(one.vectors.T @ other.vectors), np.eye(15), atol=1e-6)


@pytest.mark.parametrize("labels, shrinkage, said", [([0, 1], None, "3 in all"), ([0, 1, 1], 1.5, "between 0 and 1")])
def test_what_cannot_be_scored_is_refused(labels, shrinkage, said):
    with pytest.raises(UsageError, match=said):
        h_score(np.eye(3), labels, shrinkage)
