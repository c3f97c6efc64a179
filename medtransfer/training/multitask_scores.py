"""Scores of several heads in one validation, and the one score that the best weights are chosen by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..scoring.classification import mean_defined
from .metrics import Gathered, Meta, class_score_names, class_scores, count_overlaps, dice_names, dice_scores
from .registry import METRICS

Scores = dict[str, float]


class MultiTaskScores(Gathered):
    """The scores of each head over the cases whose target is known, and their mean.

    * Segmentation: ``organs/dice/mean`` and one Dice a class, see :class:`MeanDice`.
    * Classification: ``ill/auroc``, ``ill/accuracy`` and one AUROC a class, see :class:`ClassificationScores`.
    * Regression: ``age/mae``, the mean distance in the quantity's own units, and ``age/r2``, the share of the variance
      that is explained. Of several quantities ``size/mae_length`` and ``size/r2_length`` for each, and ``size/r2``, the
      mean.

    ``multitask/score`` is the mean over the heads of mean Dice, AUROC and R2, a negative R2 counting as 0. A head
    without a score, as where no case has its target, is left out.
    """

    default_prefix = ""

    @classmethod
    def score_names(cls, meta: Meta) -> list[str]:
        """Names of the scores, known before any case is; a head that turns out to have none lacks them."""
        own = {head["name"]: _NAMED[head["task"]](head["classes"]) for head in meta["heads"]}
        return ["multitask/score", *(f"{name}/{word}" for name, words in own.items() for word in words)]

    @staticmethod
    def is_error(name: str) -> bool:
        """Whether a score is the better the lower it is."""
        return name.split("/")[-1].startswith("mae")

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep of each case what its heads are scored by."""
        heads = self._heads()
        for sample in data_samples:
            known = {name: found for name, found in sample["heads"].items() if found["reference"] is not None}
            self.results.append({name: _KEPT[heads[name]["task"]](found, heads[name]) for name, found in known.items()})

    def compute_metrics(self, results: list[dict[str, Any]]) -> Scores:
        """All scores, by names that begin with the head's."""
        scores: Scores = {}
        chosen = []
        for name, head in self._heads().items():
            kept = [case[name] for case in results if name in case]
            own = _SCORED[head["task"]](kept, head["classes"]) if kept else {}
            scores |= {f"{name}/{word}": value for word, value in own.items()}
            chosen.append(own.get(_CHOSEN[head["task"]], math.nan))
        return {"multitask/score": float(mean_defined(np.maximum(chosen, 0))), **scores}

    def _heads(self) -> dict[str, Mapping[str, Any]]:
        return {head["name"]: head for head in (self.dataset_meta or {})["heads"]}


def regression_scores(results: Sequence[tuple[np.ndarray, np.ndarray]], names: Sequence[str]) -> Scores:
    """``mae`` and ``r2`` of values (Q,) against references (Q,), with the quantities' names where there are several.

    R2 is not defined, NaN, where all references are the same.

    >>> cases = [(np.array([1.0]), np.array([1.0])), (np.array([2.0]), np.array([3.0]))]
    >>> regression_scores(cases, ["age"])
    {'mae': 0.5, 'r2': 0.5}
    """
    found, wanted = (np.stack(part) for part in zip(*results, strict=True))
    errors, spread = found - wanted, ((wanted - wanted.mean(axis=0)) ** 2).sum(axis=0)
    squares = (errors**2).sum(axis=0)
    explained = [1 - wrong / total if total else math.nan for wrong, total in zip(squares, spread, strict=True)]
    distances = np.abs(errors).mean(axis=0).tolist()
    if len(names) == 1:
        return {"mae": distances[0], "r2": float(explained[0])}
    by_name = [(("mae", d), ("r2", float(e))) for d, e in zip(distances, explained, strict=True)]
    each = {f"{word}_{name}": value for name, pairs in zip(names, by_name, strict=True) for word, value in pairs}
    return {"r2": float(mean_defined(np.array(explained))), **each}


def _numbers(values: Any) -> np.ndarray:
    return np.asarray(values.detach().double().cpu().numpy())


_KEPT: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Any]] = {
    "segmentation": lambda found, head: count_overlaps(found["labels"], found["reference"], len(head["classes"])),
    "classification": lambda found, head: (found["probabilities"].cpu(), int(found["reference"])),
    "regression": lambda found, head: (_numbers(found["values"]), _numbers(found["reference"])),
}
_SCORED: dict[str, Callable[[Sequence[Any], Sequence[str]], Scores]] = {
    "segmentation": lambda kept, classes: {f"dice/{name}": value for name, value in dice_scores(kept, classes).items()},
    "classification": class_scores,
    "regression": regression_scores,
}
_NAMED: dict[str, Callable[[Sequence[str]], list[str]]] = {
    "segmentation": lambda classes: [f"dice/{name}" for name in dice_names(classes)],
    "classification": class_score_names,
    "regression": lambda names: list(regression_scores([(np.zeros(len(names)),) * 2], names)),
}
#: the score of each task that counts for the mean
_CHOSEN = {"segmentation": "dice/mean", "classification": "auroc", "regression": "r2"}

METRICS.register_module(module=MultiTaskScores)
