"""Scores of a validation: mean Dice with its own rule for empty masks, accuracy and AUROC, restored variance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from monai.metrics import compute_roc_auc
from torch import Tensor

from .registry import METRICS


def dice_counts(labels: Tensor, reference: Tensor, num_classes: int) -> np.ndarray:
    """Voxels in both, in the prediction and in the reference, for each class.

    Args:
        labels: Class numbers of any shape.
        reference: The same shape.
        num_classes: K, background included.

    Returns:
        (3, K) whole numbers.

    >>> dice_counts(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), 2).tolist()
    [[1, 1], [1, 2], [2, 1]]
    """
    pairs = torch.bincount(labels.long().flatten() * num_classes + reference.long().flatten(), minlength=num_classes**2)
    table = pairs.reshape(num_classes, num_classes).cpu().numpy()
    return np.stack([table.diagonal(), table.sum(axis=1), table.sum(axis=0)])


def dice_scores(counts: np.ndarray) -> np.ndarray:
    """Dice of each class from (3, K) counts; NaN where neither mask holds the class, since nothing was to be found.

    >>> dice_scores(np.array([[5, 0, 0], [5, 1, 0], [5, 0, 0]])).tolist()
    [1.0, 0.0, nan]
    """
    both, found, wanted = counts.astype(float)
    with np.errstate(invalid="ignore"):
        return np.where(found + wanted > 0, 2 * both / (found + wanted), np.nan)


class _Gathered(BaseMetric):
    """A metric whose results the first process gets from the others, each case once, in the order of the cases.

    mmengine's own default passes them through pickle files in a folder of the present directory.
    """

    def __init__(self, prefix: str | None = None) -> None:
        super().__init__(collect_device="gpu", prefix=prefix)  # by messages; with gloo they go from CPU to CPU


class MeanDice(_Gathered):
    """Dice of each class but the background, and their mean.

    A case counts for a class when the class is in its reference or in its prediction: a missed structure and an
    invented one score 0, an empty mask that is rightly empty counts neither for nor against. A class's score is the
    mean over the cases that count; ``dice/mean`` is the mean over the classes, leaving out those without any case.
    """

    default_prefix = "dice"

    @classmethod
    def score_names(cls, classes: Sequence[str]) -> list[str]:
        """Names of the scores, known before any case is."""
        return [f"{cls.default_prefix}/{name}" for name in ("mean", *classes[1:])]

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Count the voxels of each case."""
        num_classes = len(self._classes())
        for sample in data_samples:
            self.results.append(dice_counts(sample["labels"], sample["reference"], num_classes))

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """``mean`` and one entry a class, by its name."""
        scores = np.stack([dice_scores(counts) for counts in results])[:, 1:]
        by_class = {name: _mean(column) for name, column in zip(self._classes()[1:], scores.T, strict=True)}
        return {"mean": _mean(np.array(list(by_class.values()))), **by_class}

    def _classes(self) -> list[str]:
        return list((self.dataset_meta or {})["classes"])


class ClassificationScores(_Gathered):
    """Share of right cases, and the area under the ROC curve: one class against the rest, averaged over the classes.

    A class that no case has, or that all have, has no AUROC and is left out of the mean.
    """

    default_prefix = "scores"

    @classmethod
    def score_names(cls, classes: Sequence[str]) -> list[str]:
        """Names of the scores, known before any case is."""
        return [f"{cls.default_prefix}/{name}" for name in ("auroc", "accuracy", *(f"auroc_{c}" for c in classes))]

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep probabilities (K,) and the class of each case."""
        for sample in data_samples:
            self.results.append((sample["probabilities"].cpu(), int(sample["reference"])))

    def compute_metrics(self, results: list[tuple[Tensor, int]]) -> dict[str, float]:
        """``auroc``, ``accuracy`` and one AUROC a class, by its name."""
        probabilities = torch.stack([found for found, _ in results])
        reference = torch.tensor([wanted for _, wanted in results])
        accuracy = float((probabilities.argmax(dim=1) == reference).float().mean())
        classes = list((self.dataset_meta or {})["classes"])
        by_class = {
            f"auroc_{name}": _auroc(probabilities[:, number], reference == number)
            for number, name in enumerate(classes)
        }
        return {"auroc": _mean(np.array(list(by_class.values()))), "accuracy": accuracy, **by_class}


class RestorationScores(_Gathered):
    """``r2``, the share of the variance of the undamaged patches that the restored ones explain: 1 is perfect."""

    default_prefix = "restoration"

    @classmethod
    def score_names(cls, classes: Sequence[str]) -> list[str]:
        """Names of the scores, known before any case is."""
        return [f"{cls.default_prefix}/r2"]

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Add up squares: of what is wrong, and of what there was to restore."""
        for sample in data_samples:
            wanted = sample["reference"].double()
            wrong = float((sample["restored"].double() - wanted).square().sum())
            self.results.append((wrong, float((wanted - wanted.mean()).square().sum())))

    def compute_metrics(self, results: list[tuple[float, float]]) -> dict[str, float]:
        """``r2`` over all patches together; NaN if all of them are constant."""
        wrong, total = np.array(results).sum(axis=0)
        return {"r2": float(1 - wrong / total) if total else math.nan}


def _auroc(score: Tensor, is_class: Tensor) -> float:
    if is_class.all() or not is_class.any():
        return math.nan
    return float(np.asarray(compute_roc_auc(score, is_class.long())))


def _mean(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN if there is none."""
    counted = values[~np.isnan(values)]
    return float(counted.mean()) if len(counted) else math.nan


for _metric in (MeanDice, ClassificationScores, RestorationScores):
    METRICS.register_module(module=_metric)
