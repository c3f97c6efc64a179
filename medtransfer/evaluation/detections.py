"""Boxes: cases are matched and read one by one, and what is missing, refused or foreign is kept in view."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import DatasetError
from ..reporting.words import counted, listed
from .box_cases import CaseBoxes, CaseReader, class_numbers, found_names
from .box_files import BoxSource, read_found, read_references
from .detected import Detected
from .findings import Model
from .masks import Matched, match
from .names import Names, class_names
from .pairs import Chosen, Missing, chosen_pairs
from .settings import BoxSettings
from .summary import Drawn


@dataclass(frozen=True)
class _Read:
    """The cases of one model that could be read, those that were refused, and what belongs to what."""

    results: tuple[CaseBoxes, ...]
    failed: tuple[CaseBoxes, ...]
    matched: Matched
    left_out: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BoxScorer:
    """Scores found boxes against the same reference boxes.

    Args:
        references: Their place.
        chosen: The classes that were asked for.
        settings: What is a hit.
        missing: What becomes of a reference without a prediction.
        patients: By case.
        draws: How many, and their seed.
    """

    references: Any
    chosen: Chosen
    settings: BoxSettings
    missing: Missing
    patients: Mapping[str, str]
    draws: tuple[int, int]

    def models(self, places: Sequence[Any], shown: Sequence[str]) -> list[Model]:
        """The results of one model or two on the cases that all of them have.

        Raises:
            DatasetError: nothing fits together, predictions are missing, or all cases were refused.
        """
        wanted, sets = read_references(self.references), [read_found(place) for place in places]
        names, known = self._names(sets, wanted)
        read = [self._read(one, wanted, names, known) for one in sets]
        common = set.intersection(*({result.case for result in one.results} for one in read))
        if not common:
            raise DatasetError("the two models have no case in common", hint="Compare predictions of the same scans")
        kept = [replace(one, results=tuple(case for case in one.results if case.case in common)) for one in read]
        patients = {**wanted.patients, **self.patients}
        return [self._model(name, one, names, patients) for name, one in zip(shown, kept, strict=True)]

    def _names(self, sets: Sequence[BoxSource], wanted: BoxSource) -> tuple[Names, Mapping[str, int]]:
        """The classes to score, and the numbers of all that there are by what they may be called."""
        for one in sets:
            references = wanted.masks if wanted.layout or not one.layout else replace(wanted.masks, layout=one.layout)
            names = class_names(one.masks, references, self.chosen)
            if names is not None:
                return names, class_numbers(class_names(one.masks, references, None) or {}) | class_numbers(names)
        names = found_names(wanted, self.settings)
        if not names:
            raise DatasetError("no reference has a box, and nothing names the classes", path=wanted.path)
        return names, class_numbers(names)

    def _read(self, found: BoxSource, wanted: BoxSource, names: Names, known: Mapping[str, int]) -> _Read:
        matched = match(found.masks, wanted.masks)
        missing: Missing = "empty" if found.is_table and self.missing == "refuse" else self.missing
        pairs, left_out = chosen_pairs(matched, found.masks, missing, "prediction")
        reader = CaseReader(found, wanted, names, known, self.settings)
        cases = [(pair.case, pair.prediction.name if pair.prediction else None) for pair in pairs]
        read = reader.read if len(cases) == 1 else reader.try_read
        results = [read(*case) for case in cases]
        failed = tuple(result for result in results if result.error)
        if len(failed) == len(results):
            reason = f"all {len(results)} cases were refused; the first: {failed[0].error}"
            raise DatasetError(reason, path=found.path)
        good = tuple(result for result in results if not result.error)
        _refuse_foreign(good, names, found)
        return _Read(good, failed, matched, left_out, tuple(_table_notes(found, matched)))

    def _model(self, name: str, read: _Read, names: Names, patients: Mapping[str, str]) -> Model:
        cases = [result.case for result in read.results]
        results = Detected(names, read.results, tuple(patients.get(case, case) for case in cases), self.settings)
        failed = tuple({"case": one.case, "error": one.error, "exit_code": one.exit_code} for one in read.failed)
        missing = tuple(one.case for one in read.results if one.missing)
        warnings = (*read.notes, *_warnings(results))
        return Model(name, Drawn(results, *self.draws), missing, failed, read.matched.extra, warnings, read.left_out)


def _refuse_foreign(results: Sequence[CaseBoxes], names: Names, found: BoxSource) -> None:
    """Raise if boxes were found, and none is of a class of the references."""
    foreign = sorted({name for result in results for name in result.foreign})
    if foreign and not any(result.found.labels.any() for result in results):
        reason = f"no box is of a class of the references: they are of {listed(foreign)}"
        hint = f"The references have {listed(list(names.values()))}; name them as the predictions do: --classes 1=NAME"
        raise DatasetError(reason, path=found.path, hint=hint)


def _table_notes(found: BoxSource, matched: Matched) -> Iterator[str]:
    if found.is_table and matched.missing:
        yield (
            f"{found.path.name} names no box of {counted(len(matched.missing), 'case')}, which were scored as having "
            f"none: {listed(matched.missing)}"
        )


def _warnings(results: Detected) -> Iterator[str]:
    for one in results.results:
        yield from (f"{one.case}: {text}" for text in one.warnings)
    foreign = Counter(name for one in results.results for name in one.foreign)
    for name, count in foreign.items():
        yield f"the references have no class {name}: left out were {count} of the found boxes"
    for name, fact in results.facts().items():
        if not fact["reference_boxes"]:
            yield f"no case has a reference box of class {name}: it is left out of the means"
    if any(math.isnan(value) for value in results.counts[..., 5].ravel()):
        yield "nothing says how large a voxel of some cases is: their errors of the centre are not known"
