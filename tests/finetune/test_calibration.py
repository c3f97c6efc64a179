"""One temperature for all logits: the best there is, and without a say in which class is most probable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from medtransfer.errors import DatasetError, UsageError
from medtransfer.finetune.calibration import (
    calibrate,
    fit_temperature,
    negative_log_likelihood,
)


def drawn(cases: int = 400, classes: int = 3, sureness: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from their very probabilities; the logits given are ``sureness`` times as large."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(cases, classes)) * 2
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # with the probabilities of their softmax
    return sureness * logits, labels


class TestFit:
    """The temperature."""

    @pytest.mark.parametrize("sureness", [0.2, 1.0, 3.0, 40.0])
    def test_it_undoes_what_made_the_logits_too_large(self, sureness: float) -> None:
        logits, labels = drawn(20_000, sureness=sureness)
        assert fit_temperature(logits, labels) == pytest.approx(sureness, rel=0.03)

    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 1000), classes=st.integers(2, 6), sureness=st.floats(0.1, 20))
    def test_no_other_is_better(self, seed: int, classes: int, sureness: float) -> None:
        logits, labels = drawn(60, classes, sureness, seed)
        best = fit_temperature(logits, labels)

        def loss(logarithm: float) -> float:
            return negative_log_likelihood(logits, labels, np.exp(logarithm))

        found = minimize_scalar(loss, bounds=(-6, 6), method="bounded", options={"xatol": 1e-10})
        assert loss(np.log(best)) <= found.fun + 1e-12
        assert np.log(best) == pytest.approx(found.x, abs=1e-4)

    def test_it_grows_with_the_logits_and_forgets_what_is_added_to_them(self) -> None:
        logits, labels = drawn(50)
        best = fit_temperature(logits, labels)
        assert fit_temperature(7 * logits, labels) == pytest.approx(7 * best, rel=1e-9)
        assert fit_temperature(logits + np.arange(50)[:, None], labels) == pytest.approx(best, rel=1e-9)

    def test_logits_beyond_what_exp_can_hold_do_no_harm(self) -> None:
        logits, labels = drawn(200, sureness=300.0)
        assert fit_temperature(logits, labels) == pytest.approx(300 * fit_temperature(logits / 300, labels))

    @pytest.mark.parametrize(
        "logits, labels, said",
        [
            (np.eye(2)[[0, 1] * 4], [0, 1] * 4, "8 are too few, it takes 10"),
            (np.eye(2)[[0, 1] * 10], [1] * 20, "all are of one class"),
            (np.eye(2)[[0, 1] * 10], [0, 1] * 10, "all 20 cases are right"),
            (np.eye(2)[[0, 1] * 10], [1, 0] * 10, "no better than chance"),
            (np.zeros((20, 2)), [0, 1] * 10, "no better than chance"),
            (np.eye(2)[[0, 1] * 10] * 1e-6, [0, 1] * 9 + [1, 0], "the best one is not between 0.001 and 1000"),
        ],
    )
    def test_cases_that_have_none_are_refused(self, logits: Any, labels: Any, said: str) -> None:
        with pytest.raises(DatasetError, match=said):
            fit_temperature(logits, labels)

    @pytest.mark.parametrize(
        "logits, labels, said",
        [
            (np.zeros(20), np.zeros(20, int), r"shapes \(20,\)"),
            (np.zeros((20, 2)), np.zeros(19, int), r"\(20, 2\) and \(19,\)"),
            (np.zeros((20, 1)), np.zeros(20, int), "needs logits"),
            (np.full((20, 2), np.nan), np.zeros(20, int), "must be finite"),
            (np.zeros((20, 2)), np.full(20, 2), "from 0 to 1"),
            (np.zeros((20, 2)), np.full(20, -1), "from 0 to 1"),
            (np.zeros((20, 2)), np.zeros(20), "class numbers"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, logits: Any, labels: Any, said: str) -> None:
        with pytest.raises(UsageError, match=said):
            fit_temperature(logits, labels)


def test_calibrating_says_what_it_did() -> None:
    logits, labels = drawn(2000, sureness=4.0)
    found = calibrate(logits, labels)
    assert found.cases == 2000
    assert found.nll_after < found.nll_before
    assert found.ece_after < 0.03 < found.ece_before
    assert found.nll_after == negative_log_likelihood(logits / found.temperature, labels)


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    above = scores[positive][:, None] - scores[~positive][None]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), temperature=st.floats(0.3, 30))
def test_of_two_classes_the_order_of_the_cases_stays_and_with_it_the_auroc(seed: int, temperature: float) -> None:
    logits, labels = drawn(40, 2, 1.0, seed)
    assume(0 < labels.sum() < 40)
    before, after = softmax(logits, axis=1), softmax(logits / temperature, axis=1)
    assert np.array_equal(np.argsort(before[:, 1], kind="stable"), np.argsort(after[:, 1], kind="stable"))
    assert auroc(before[:, 1], labels == 1) == auroc(after[:, 1], labels == 1)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 6), temperature=st.floats(0.3, 30))
def test_the_most_probable_class_stays(seed: int, classes: int, temperature: float) -> None:
    logits, _ = drawn(40, classes, 1.0, seed)
    assert np.array_equal(softmax(logits, axis=1).argmax(1), softmax(logits / temperature, axis=1).argmax(1))


def test_of_three_classes_the_order_of_the_cases_may_change() -> None:
    # the docs say so; were it not so, they could promise more
    logits = np.log([[0.5, 0.49, 0.01], [0.45, 0.275, 0.275]])
    before, after = softmax(logits, axis=1)[:, 0], softmax(4 * logits, axis=1)[:, 0]
    assert before[0] > before[1]
    assert after[0] < after[1]
