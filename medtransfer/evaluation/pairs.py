"""Segmentations: files are matched, all cases scored one by one, and what is missing or refused is kept in view."""

from __future__ import annotations

import multiprocessing
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

from ..errors import DatasetError, UsageError
from ..reporting.words import listed
from .masks import Masks, Matched, Pair, match
from .names import Names, all_labels, class_names
from .segmentation import CaseResult, score_case, try_case
from .segmented import Segmented, found_names
from .settings import Settings

Missing: TypeAlias = Literal["refuse", "empty", "skip"]
Chosen: TypeAlias = "Sequence[str] | Mapping[int, str] | None"


@dataclass(frozen=True)
class Scored:
    """The cases of one model.

    Args:
        results: Those that could be scored.
        failed: Those that were refused.
        matched: What belongs to what.
        left_out: References without a prediction that were not scored.
    """

    results: tuple[CaseResult, ...]
    failed: tuple[CaseResult, ...]
    matched: Matched
    left_out: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the gate let pass, with the case."""
        return tuple(f"{result.case}: {text}" for result in self.results for text in result.warnings)


@dataclass(frozen=True)
class Scorer:
    """Scores masks against the same references.

    Args:
        references: The reference masks.
        chosen: The classes that were asked for.
        settings: How a structure is scored.
        missing: What becomes of a reference without a prediction.
        workers: Processes; 0: this one.
    """

    references: Masks
    chosen: Chosen
    settings: Settings
    missing: Missing = "refuse"
    workers: int = 0

    def names(self, predictions: Masks) -> Names | None:
        """The classes; None if nothing names them."""
        return class_names(predictions, self.references, self.chosen)

    def score(self, predictions: Masks) -> Scored:
        """Score all cases.

        Raises:
            DatasetError: nothing fits together, predictions are missing, or all cases were refused.
            VolumeError: the only case was refused.
        """
        matched = match(predictions, self.references)
        pairs, left_out = chosen_pairs(matched, predictions, self.missing)
        names = self.names(predictions)
        if names is not None:
            refuse_unknown(self.settings.tolerances, names)
        allowed = all_labels(predictions, self.references, names)
        if len(pairs) == 1:
            return Scored((score_case(pairs[0], names, allowed, self.settings),), (), matched, left_out)
        found = list(self._results(pairs, names, allowed))
        failed = tuple(result for result in found if result.error)
        if len(failed) == len(found):
            reason = f"all {len(found)} cases were refused; the first: {failed[0].error}"
            raise DatasetError(reason, path=predictions.path)
        return Scored(tuple(result for result in found if not result.error), failed, matched, left_out)

    def _results(
        self, pairs: Sequence[Pair], names: Names | None, allowed: Collection[int] | None
    ) -> Iterator[CaseResult]:
        score = partial(try_case, names=names, allowed=allowed, settings=self.settings)
        if not self.workers:
            yield from map(score, pairs)
            return
        # a process that is forked from one with threads may hang
        with ProcessPoolExecutor(self.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield from pool.map(score, pairs)


def chosen_pairs(
    matched: Matched, predictions: Masks, missing: Missing, what: str = "mask"
) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """The pairs that are scored, and the references without a prediction that are left out.

    Raises:
        DatasetError: no prediction belongs to a reference, or one is missing and that is not allowed.
    """
    lacking = matched.missing
    if predictions.files and len(lacking) == len(matched.pairs):
        reason = f"no {what} has the name of a reference: {listed(list(predictions.files))}"
        hint = f"The references are {listed([pair.case for pair in matched.pairs])}"
        raise DatasetError(reason, path=predictions.path, hint=hint)
    if lacking and missing == "refuse":
        reason = f"{len(lacking)} of {len(matched.pairs)} references have no prediction: {listed(lacking)}"
        hint = "Predict them, or pass --missing empty (they count as failed) or --missing skip (they are left out)"
        raise DatasetError(reason, path=predictions.path, hint=hint)
    if missing == "skip":
        return tuple(pair for pair in matched.pairs if pair.prediction), lacking
    return matched.pairs, ()


def restricted(scored: Scored, cases: Collection[str]) -> Scored:
    """Only some of the cases."""
    return replace(scored, results=tuple(result for result in scored.results if result.case in cases))


def segmented(scored: Scored, names: Names | None, patients: Mapping[str, str]) -> Segmented:
    """Results with the names of all classes, and of the patients where they are known.

    Raises:
        DatasetError: no mask holds a structure, and nothing names the classes.
    """
    known = names or found_names(scored.results)
    if not known:
        raise DatasetError("no mask holds a structure, and nothing names the classes", hint="Write --classes 1=NAME")
    cases = [result.case for result in scored.results]
    return Segmented(known, scored.results, tuple(patients.get(case, case) for case in cases))


def refuse_unknown(tolerances: Mapping[str, float], names: Names) -> None:
    """Raise if a tolerance is of a class that there is not.

    Raises:
        UsageError: names it.
    """
    unknown = [name for name in tolerances if name not in names.values()]
    if unknown:
        hint = f"The classes are {listed(list(names.values()))}"
        raise UsageError(f"there is no class {unknown[0]!r} to have a tolerance", hint=hint)
