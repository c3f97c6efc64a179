"""Scores, and their rule for empty masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice

from medtransfer.training.metrics import ClassificationScores, MeanDice, count_overlaps


def test_dice_equals_monai_where_both_masks_hold_every_class() -> None:
    generator = torch.Generator().manual_seed(0)
    labels, reference = (torch.randint(0, 3, (9, 9, 9), generator=generator) for _ in range(2))
    one_hot = [torch.nn.functional.one_hot(mask, 3).permute(3, 0, 1, 2)[None] for mask in (labels, reference)]
    expected = compute_dice(*one_hot)[0].numpy()
    assert np.allclose([one.dice for one in count_overlaps(labels, reference, 3)], expected)


def mean_dice(*pairs: tuple[list[int], list[int]]) -> dict[str, float]:
    metric = MeanDice()
    metric.dataset_meta = {"classes": ["background", "a", "b"]}
    samples = [{"labels": torch.tensor(found), "reference": torch.tensor(wanted)} for found, wanted in pairs]
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def test_an_empty_mask_that_is_rightly_empty_counts_neither_way() -> None:
    scores = mean_dice(([0, 1], [0, 1]), ([0, 0], [0, 0]))
    assert scores["dice/a"] == 1.0
    assert math.isnan(scores["dice/b"])
    assert scores["dice/mean"] == 1.0


def test_a_missed_and_an_invented_structure_score_zero() -> None:
    assert mean_dice(([0, 0], [0, 1]))["dice/a"] == 0.0
    assert mean_dice(([0, 1], [0, 0]))["dice/a"] == 0.0


def test_the_mean_is_over_classes_of_means_over_cases() -> None:
    scores = mean_dice(([1, 2], [1, 2]), ([1, 0], [1, 2]))
    assert (scores["dice/a"], scores["dice/b"]) == (1.0, 0.5)
    assert scores["dice/mean"] == pytest.approx(0.75)


def test_classification_scores() -> None:
    metric = ClassificationScores()
    metric.dataset_meta = {"classes": ["no", "yes", "never"]}
    rows = [([0.8, 0.1, 0.1], 0), ([0.6, 0.3, 0.1], 1), ([0.2, 0.7, 0.1], 1), ([0.7, 0.2, 0.1], 0)]
    metric.process(None, [{"probabilities": torch.tensor(row), "reference": torch.tensor(name)} for row, name in rows])
    scores = metric.evaluate(len(rows))
    assert scores["scores/accuracy"] == 0.75
    assert scores["scores/auroc_yes"] == 1.0
    assert scores["scores/auroc"] == pytest.approx(1.0)
    assert math.isnan(scores["scores/auroc_never"])
