"""Scores of classifications against scikit-learn and MONAI, with ties, and what is not defined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_average_precision, compute_roc_auc
from scipy.integrate import trapezoid

from medtransfer.scoring.classification import calibration_bins, calibration_error, classification_scores, confusion
from medtransfer.scoring.ranking_curves import auroc, average_precision, precision_recall_curve, roc_curve

oracle = pytest.importorskip("sklearn.metrics", reason="scikit-learn comes with the extra demo")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=20))
def test_areas_are_those_of_others_with_ties_too(cases: list[tuple[bool, int]]) -> None:
    truth, scores = np.array([is_class for is_class, _ in cases]), np.array([score / 5 for _, score in cases])
    if truth.all() or not truth.any():
        assert np.isnan(auroc(scores, truth))
        return
    pair = torch.from_numpy(scores), torch.from_numpy(truth.astype(int))
    assert auroc(scores, truth) == pytest.approx(oracle.roc_auc_score(truth, scores))
    assert auroc(scores, truth) == pytest.approx(float(np.asarray(compute_roc_auc(*pair))))
    assert average_precision(scores, truth) == pytest.approx(oracle.average_precision_score(truth, scores))
    assert average_precision(scores, truth) == pytest.approx(float(np.asarray(compute_average_precision(*pair))))
    false, true = roc_curve(scores, truth)
    assert trapezoid(true, false) == pytest.approx(oracle.roc_auc_score(truth, scores))
    recall, precision = precision_recall_curve(scores, truth)
    assert (np.diff(recall, prepend=0) * precision).sum() == pytest.approx(average_precision(scores, truth))


def _cases(seed: int = 0, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.dirichlet(np.ones(3), count), generator.integers(0, 3, count)


def test_scores_are_scikit_learns() -> None:
    probabilities, labels = _cases()
    guess = probabilities.argmax(axis=1)
    found = classification_scores(probabilities, labels)
    wanted = {
        "accuracy": oracle.accuracy_score(labels, guess),
        "balanced_accuracy": oracle.balanced_accuracy_score(labels, guess),
        "f1": oracle.f1_score(labels, guess, average="macro"),
        "auroc": oracle.roc_auc_score(labels, probabilities, multi_class="ovr"),
        "brier": ((probabilities - np.eye(3)[labels]) ** 2).sum(axis=1).mean(),
    }
    assert {name: found.overall[name].item() for name in wanted} == pytest.approx(wanted)
    table = oracle.multilabel_confusion_matrix(labels, guess)
    assert found.by_class["specificity"] == pytest.approx(table[:, 0, 0] / table[:, 0].sum(axis=1))
    assert confusion(guess, labels, 3).tolist() == oracle.confusion_matrix(labels, guess).tolist()


def test_many_draws_at_once_are_the_draws_one_by_one() -> None:
    probabilities, labels = _cases()
    draws = np.random.default_rng(1).integers(0, 40, (3, 40))
    many = classification_scores(probabilities[draws], labels[draws])
    for number, draw in enumerate(draws):
        one = classification_scores(probabilities[draw], labels[draw])
        assert {name: values[number] for name, values in many.overall.items()} == pytest.approx(
            {name: float(value) for name, value in one.overall.items()}
        )


def test_a_class_without_cases_is_not_defined_and_not_in_the_means() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    found = classification_scores(probabilities, np.array([0, 1, 1]))
    for name in ("auroc", "auprc", "sensitivity", "precision", "f1"):
        assert np.isnan(found.by_class[name][2]), name
    assert found.by_class["specificity"][2] == 1
    assert found.overall["auroc"] == pytest.approx(1.0)
    assert found.overall["balanced_accuracy"] == pytest.approx(0.75)


def test_calibration_by_hand() -> None:
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.65, 0.35], [0.35, 0.65]])
    labels = np.array([0, 1, 0, 1])
    share, mean, accuracy = calibration_bins(probabilities, labels)
    assert share[[6, 9]].tolist() == [0.5, 0.5]
    assert (mean[9], accuracy[9], accuracy[6]) == pytest.approx((0.95, 0.5, 1.0))
    assert calibration_error(probabilities, labels) == pytest.approx(0.5 * 0.45 + 0.5 * 0.35)
    assert calibration_bins(np.array([[1.0, 0.0]]), np.array([0]))[0][9] == 1
