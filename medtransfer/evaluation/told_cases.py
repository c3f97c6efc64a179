"""Classified cases and estimated quantities: predictions and a table of true values are brought together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DatasetError, UsageError
from .classified import Classified
from .findings import Model
from .pairs import Missing
from .probabilities import Predicted, Truth, class_numbers, read_predicted, read_truth, spelled
from .regressed import Regressed, read_true_values, read_values
from .summary import Drawn


@dataclass(frozen=True)
class Asked:
    """What is to be scored, and how.

    Args:
        places: The predictions of one model or two.
        references: A table of true values.
        shown: What the models are called.
        missing: What a case without a prediction is.
        patients: By case, where the references do not say.
        draws: How many, and their seed.
        head: Of a network with several heads, the one that is scored.
    """

    places: Sequence[Any]
    references: Any
    shown: Sequence[str]
    missing: Missing
    patients: Mapping[str, str]
    draws: tuple[int, int]
    head: str | None = None


def classifications(asked: Asked) -> list[Model]:
    """The results of one model or two, of classes, on the cases that all of them have.

    Raises:
        DatasetError: a prediction is missing, or a table or the classes do not fit.
        UsageError: a missing case is to be scored as empty.
    """
    truth = read_truth(asked.references, asked.head)
    found = [read_predicted(place, asked.head) for place in asked.places]
    if len({frozenset(map(str.lower, one.classes)) for one in found}) > 1:
        raise DatasetError("the two models have different classes", path=found[1].path)
    cases = _common_cases(list(truth.labels), [one.cases for one in found], asked.missing, found[0].path)
    known = {**truth.patients, **asked.patients}
    rows = zip(asked.shown, found, strict=True)
    return [_classification(name, one, truth, cases, known, asked.draws) for name, one in rows]


def regressions(asked: Asked) -> list[Model]:
    """The results of one model or two, of quantities, on the cases that all of them have; errors as of classes."""
    found = [read_values(place, asked.head) for place in asked.places]
    names = list(next(iter(found[0].values())))
    if any(list(next(iter(one.values()))) != names for one in found):
        raise DatasetError("the two models have different quantities", path=Path(asked.places[1]))
    truth, known = read_true_values(asked.references, names, asked.head)
    cases = _common_cases(list(truth), found, asked.missing, Path(asked.places[0]))
    of_patients = tuple({**known, **asked.patients}.get(case, case) for case in cases)
    wanted = np.array([truth[case] for case in cases], float)
    models = []
    for shown, one in zip(asked.shown, found, strict=True):
        results = Regressed(dict(enumerate(names)), tuple(cases), of_patients, _values(one, cases), wanted)
        extra, left_out = sorted(set(one) - set(truth)), sorted(set(truth) - set(cases))
        models.append(Model(shown, Drawn(results, *asked.draws), extra=tuple(extra), left_out=tuple(left_out)))
    return models


def _values(found: Mapping[str, Mapping[str, float]], cases: Sequence[str]) -> npt.NDArray[np.float64]:
    return np.array([list(found[case].values()) for case in cases], float)


def _common_cases(wanted: Sequence[str], found: Sequence[Mapping[str, Any]], missing: Missing, path: Path) -> list[str]:
    """Cases that all models have.

    Raises:
        DatasetError: a prediction is missing and that is not allowed, or all are.
        UsageError: a missing case is to be scored as empty.
    """
    if missing == "empty":
        reason = "a case without probabilities or values cannot be scored as an empty mask"
        raise UsageError(reason, hint="Pass --missing skip to leave such cases out")
    cases = [case for case in wanted if all(case in one for one in found)]
    absent = sorted(set(wanted) - set(cases))
    if absent and missing == "refuse":
        reason = f"{len(absent)} of {len(wanted)} cases have no prediction: {', '.join(absent[:8])}"
        raise DatasetError(reason, path=path, hint="Predict them, or pass --missing skip to leave them out")
    if not cases:
        raise DatasetError("no case has the name of one in the references", path=path)
    return cases


def _classification(
    name: str, found: Predicted, truth: Truth, cases: Sequence[str], known: Mapping[str, str], draws: tuple[int, int]
) -> Model:
    numbers = class_numbers(truth, found.classes)
    labels = np.array([numbers[case] for case in cases])
    shares = np.array([[found.cases[case][one] for one in found.classes] for case in cases])
    names = dict(enumerate(spelled(found.classes, truth)))
    results = Classified(names, tuple(cases), tuple(known.get(case, case) for case in cases), shares, labels)
    empty = [f"no case is of class {one}: its AUROC is not defined" for n, one in names.items() if n not in labels]
    left_out = tuple(sorted(set(truth.labels) - set(cases)))
    extra = tuple(sorted(set(found.cases) - set(truth.labels)))
    return Model(name, Drawn(results, *draws), (), (), extra, tuple(empty), left_out)
