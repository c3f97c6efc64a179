"""Scores of a validation: mean Dice with its own rule for empty masks, accuracy and AUROC, restored variance, boxes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from torch import Tensor

from ..scoring.classification import mean_defined
from ..scoring.detection import RANGE, detection_scores
from ..scoring.matching import Boxes
from ..scoring.overlap import Overlap, class_overlaps
from ..scoring.ranking_curves import auroc
from .registry import METRICS

#: what a dataset says of itself, as its ``metainfo``
Meta = Mapping[str, Any]


def count_overlaps(labels: Tensor, reference: Tensor, num_classes: int) -> list[Overlap]:
    """The overlap of each class, background included; voxels are counted on the device that the tensors are on.

    Args:
        labels: Class numbers of any shape.
        reference: The same shape.
        num_classes: K.

    >>> count_overlaps(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), 2)[1]
    Overlap(both=1, found=2, wanted=1)
    """
    pairs = torch.bincount(reference.long().flatten() * num_classes + labels.long().flatten(), minlength=num_classes**2)
    return class_overlaps(pairs.reshape(num_classes, num_classes).cpu().numpy())


def dice_names(classes: Sequence[str]) -> list[str]:
    """What :func:`dice_scores` gives."""
    return ["mean", *classes[1:]]


def dice_scores(results: Sequence[Sequence[Overlap]], classes: Sequence[str]) -> dict[str, float]:
    """``mean`` and one Dice a class but the background, by its name, from the overlaps of each case."""
    dice = np.array([[case.dice for case in cases] for cases in list(zip(*results, strict=True))[1:]])
    means = mean_defined(dice)
    return {"mean": float(mean_defined(means)), **dict(zip(classes[1:], means.tolist(), strict=True))}


def class_score_names(classes: Sequence[str]) -> list[str]:
    """What :func:`class_scores` gives."""
    return ["auroc", "accuracy", *(f"auroc_{name}" for name in classes)]


def class_scores(results: Sequence[tuple[Tensor, int]], classes: Sequence[str]) -> dict[str, float]:
    """``auroc``, ``accuracy`` and one AUROC a class, by its name, from probabilities (K,) and class of each case."""
    probabilities = np.stack([found.double().numpy() for found, _ in results])
    reference = np.array([wanted for _, wanted in results])
    accuracy = float((probabilities.argmax(axis=1) == reference).mean())
    areas = auroc(probabilities.T, reference == np.arange(len(classes))[:, None])
    by_class = {f"auroc_{name}": area for name, area in zip(classes, areas.tolist(), strict=True)}
    return {"auroc": float(mean_defined(areas)), "accuracy": accuracy, **by_class}


class Gathered(BaseMetric):
    """A metric whose results the first process gets from the others, each case once, in the order of the cases.

    mmengine's own default passes them through pickle files in a folder of the present directory. A class that says the
    names of its scores, ``score_names(meta)``, has ``best_metric`` checked before training.
    """

    def __init__(self, prefix: str | None = None) -> None:
        super().__init__(collect_device="gpu", prefix=prefix)  # by messages; with gloo they go from CPU to CPU


class MeanDice(Gathered):
    """Dice of each class but the background, and their mean.

    A case counts for a class when the class is in its reference or in its prediction: a missed structure and an
    invented one score 0, an empty mask that is rightly empty counts neither for nor against. A class's score is the
    mean over the cases that count; ``dice/mean`` is the mean over the classes, leaving out those without any case.
    """

    default_prefix = "dice"

    @classmethod
    def score_names(cls, meta: Meta) -> list[str]:
        """Names of the scores, known before any case is."""
        return [f"{cls.default_prefix}/{name}" for name in dice_names(meta["classes"])]

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Count the voxels of each case."""
        num_classes = len(self._classes())
        for sample in data_samples:
            self.results.append(count_overlaps(sample["labels"], sample["reference"], num_classes))

    def compute_metrics(self, results: list[list[Overlap]]) -> dict[str, float]:
        """``mean`` and one entry a class, by its name."""
        return dice_scores(results, self._classes())

    def _classes(self) -> list[str]:
        return list((self.dataset_meta or {})["classes"])


class ClassificationScores(Gathered):
    """Share of right cases, and the area under the ROC curve: one class against the rest, averaged over the classes.

    A class that no case has, or that all have, has no AUROC and is left out of the mean.
    """

    default_prefix = "scores"

    @classmethod
    def score_names(cls, meta: Meta) -> list[str]:
        """Names of the scores, known before any case is."""
        return [f"{cls.default_prefix}/{name}" for name in class_score_names(meta["classes"])]

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep probabilities (K,) and the class of each case."""
        for sample in data_samples:
            self.results.append((sample["probabilities"].cpu(), int(sample["reference"])))

    def compute_metrics(self, results: list[tuple[Tensor, int]]) -> dict[str, float]:
        """``auroc``, ``accuracy`` and one AUROC a class, by its name."""
        return class_scores(results, list((self.dataset_meta or {})["classes"]))


class RestorationScores(Gathered):
    """``r2``, the share of the variance of the undamaged patches that the restored ones explain: 1 is perfect."""

    default_prefix = "restoration"

    @classmethod
    def score_names(cls, meta: Meta) -> list[str]:
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


class BoxScores(Gathered):
    """Average precision of the boxes that were found, by the rules of COCO.

    ``map50`` counts a box as right where it overlaps a reference box of its class by half (intersection over union),
    and ``map50_CLASS`` is that of one class; ``map`` is the mean over the overlaps 0.1, 0.15 ... 0.5, as nnDetection
    and MONAI report it, since boxes in 3-D overlap less than in 2-D. A class without a reference box in any case has
    no score and is left out of the means.
    """

    default_prefix = "boxes"

    @classmethod
    def score_names(cls, meta: Meta) -> list[str]:
        """Names of the scores, known before any case is."""
        names = ["map50", "map", *(f"map50_{name}" for name in meta["classes"][1:])]
        return [f"{cls.default_prefix}/{name}" for name in names]

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep the boxes of each case, found ones and those of the reference."""
        for sample in data_samples:
            found = [_numpy(sample[name]) for name in ("boxes", "labels", "scores")]
            wanted = [_numpy(sample["reference"][name]) for name in ("boxes", "labels")]
            # mmengine makes plain tuples of named ones
            self.results.append((found, wanted))

    def compute_metrics(self, results: list[tuple[list[np.ndarray], list[np.ndarray]]]) -> dict[str, float]:
        """``map50``, ``map`` and one AP a class, by its name."""
        names = list((self.dataset_meta or {})["classes"])[1:]
        found, wanted = ([Boxes(*arrays) for arrays in side] for side in zip(*results, strict=True))
        if not any(len(boxes.labels) for boxes in wanted):
            MMLogger.get_current_instance().warning(
                "no validation case has a box: no score says which weights are best"
            )
        scores = detection_scores(found, wanted, range(1, len(names) + 1), RANGE)
        half = scores.thresholds.index(0.5)
        by_class = {f"map50_{name}": ap for name, ap in zip(names, scores.precisions[:, half].tolist(), strict=True)}
        return {"map50": float(scores.means[half]), "map": float(mean_defined(scores.means)), **by_class}


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()


for _metric in (MeanDice, ClassificationScores, RestorationScores, BoxScores):
    METRICS.register_module(module=_metric)
