"""``evaluate``: predictions against references, case by case, in the memory of one case."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from ..errors import DatasetError, UsageError
from .classified import Classified
from .evaluation import Evaluation
from .findings import Model
from .masks import Place, find_masks
from .paired import compare
from .pairs import Chosen, Missing, Scored, Scorer, refuse_unknown, restricted, segmented
from .probabilities import (
    Predicted,
    Truth,
    class_numbers,
    is_classification,
    read_patients,
    read_predicted,
    read_truth,
    spelled,
)
from .resampling import DRAWS
from .segmented import found_names
from .settings import TOLERANCE_MM, Settings
from .summary import Drawn

Places: TypeAlias = "Place | Sequence[Place]"
Patients: TypeAlias = "Place | Mapping[str, str] | None"


def evaluate(
    predictions: Places,
    references: Places,
    against: Places | None = None,
    *,
    names: Sequence[str] = (),
    classes: Chosen = None,
    tolerance: float | Mapping[str, float] = TOLERANCE_MM,
    lesion_iou: float = 0.0,
    ignore_label: int | None = None,
    penalty: Literal["none", "diagonal"] = "none",
    missing: Missing = "refuse",
    patients: Patients = None,
    draws: int = DRAWS,
    seed: int = 0,
    workers: int = 0,
) -> Evaluation:
    """Score masks against reference masks, or probabilities of classes against true classes.

    Files belong together by the name of their case. A prediction on another grid than its reference is refused, never
    resampled. How each score is defined, and what empty masks give, is in ``docs/evaluation.md``.

    Args:
        predictions: A folder of masks or of classified cases, a file, a list of files, or a ``predictions.csv``.
        references: A folder of masks, a dataset (``dataset.json`` or a table), a file, or a list of files; for a
            classification a table with the columns ``id``, ``label`` and if known ``patient``.
        against: The predictions of a second model for the same cases, which the first is compared with.
        names: What the models are called; by default after their folders.
        classes: Names of the classes as ``{1: "liver"}`` or ``["1=liver"]``, or which of the known ones to score.
        tolerance: Of NSD in mm; or by the name of the class, with ``""`` for the others (2 mm).
        lesion_iou: 0: one common voxel detects a lesion; above 0: the intersection over union that a pair needs.
        ignore_label: Voxels of this label in the reference count for nothing.
        penalty: ``"diagonal"``: distances of a missed or invented structure are the image's diagonal, and in the means.
        missing: What a reference without a prediction is: an error, scored as ``"empty"`` mask, or left out.
        patients: Patients by case, or a table of them; patients are drawn for the intervals, not cases.
        draws: Of patients, for the intervals.
        seed: Of the draws.
        workers: Processes that read and score; 0: this one.

    Raises:
        DatasetError: nothing to score, a prediction is missing, or a table is wrong.
        VolumeError: the only case was refused. Of several cases, refused ones are in ``failed`` instead.
        UsageError: an argument out of its range, or an unknown class.
    """
    if missing not in get_args(Missing):
        raise UsageError(f"missing must be one of {', '.join(get_args(Missing))}, got {missing!r}")
    settings = Settings(*_tolerances(tolerance), lesion_iou, ignore_label, penalty)
    places = [predictions] if against is None else [predictions, against]
    shown = _names(places, names)
    options = {"missing": missing, "draws": draws, "seed": seed}
    if isinstance(predictions, str | os.PathLike) and is_classification(predictions):
        models = _classifications(places, references, shown, missing, patients, (draws, seed))
    else:
        scorer = Scorer(find_masks(references), classes, settings, missing, workers)
        models = _segmentations(places, shown, scorer, patients, (draws, seed))
        options = {**asdict(settings), **options}
    differences = compare(models[0].drawn, models[1].drawn) if len(models) > 1 else []
    return Evaluation(tuple(models), str(references), options, tuple(differences))


def _segmentations(
    places: Sequence[Places], shown: Sequence[str], scorer: Scorer, patients: Patients, draws: tuple[int, int]
) -> list[Model]:
    masks = [find_masks(place) for place in places]
    scored = [scorer.score(one) for one in masks]
    common = set.intersection(*({result.case for result in one.results} for one in scored))
    if not common:
        raise DatasetError("the two models have no case in common", hint="Compare predictions of the same scans")
    kept = [restricted(one, common) for one in scored]
    names = scorer.names(masks[0]) or found_names([result for one in kept for result in one.results])
    refuse_unknown(scorer.settings.tolerances, names)
    known = {**scorer.references.patients, **_patients(patients)}
    return [
        _segmentation(name, one, Drawn(segmented(one, names, known), *draws))
        for name, one in zip(shown, kept, strict=True)
    ]


def _segmentation(name: str, scored: Scored, drawn: Drawn) -> Model:
    failed = tuple({"case": one.case, "error": one.error, "exit_code": one.exit_code} for one in scored.failed)
    missing = tuple(one.case for one in scored.results if one.missing)
    return Model(name, drawn, missing, failed, scored.matched.extra, scored.warnings, scored.left_out)


def _classifications(
    places: Sequence[Any],
    references: Any,
    shown: Sequence[str],
    missing: Missing,
    patients: Patients,
    draws: tuple[int, int],
) -> list[Model]:
    truth, found = read_truth(references), [read_predicted(place) for place in places]
    if len({frozenset(map(str.lower, one.classes)) for one in found}) > 1:
        raise DatasetError("the two models have different classes", path=found[1].path)
    cases = _classified_cases(truth, found, missing)
    known = {**truth.patients, **_patients(patients)}
    return [_classification(name, one, truth, cases, known, draws) for name, one in zip(shown, found, strict=True)]


def _classified_cases(truth: Truth, found: Sequence[Predicted], missing: Missing) -> list[str]:
    """Cases that all models have.

    Raises:
        DatasetError: a prediction is missing and that is not allowed, or all are.
    """
    if missing == "empty":
        reason = "a case without probabilities cannot be scored as an empty mask"
        raise UsageError(reason, hint="Pass --missing skip to leave such cases out")
    cases = [case for case in truth.labels if all(case in one.cases for one in found)]
    absent = sorted(set(truth.labels) - set(cases))
    if absent and missing == "refuse":
        reason = f"{len(absent)} of {len(truth.labels)} cases have no prediction: {', '.join(absent[:8])}"
        raise DatasetError(reason, path=found[0].path, hint="Predict them, or pass --missing skip to leave them out")
    if not cases:
        raise DatasetError("no case has the name of one in the references", path=found[0].path)
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


def _tolerances(tolerance: float | Mapping[str, float]) -> tuple[float, dict[str, float]]:
    """That of all classes, and those of single ones; in a mapping the name "" stands for the others."""
    if not isinstance(tolerance, Mapping):
        return float(tolerance), {}
    return tolerance.get("", TOLERANCE_MM), {name: mm for name, mm in tolerance.items() if name}


def _patients(patients: Patients) -> Mapping[str, str]:
    if patients is None or isinstance(patients, Mapping):
        return patients or {}
    return read_patients(patients)


def _names(places: Sequence[Places], names: Sequence[str]) -> list[str]:
    """As given, or those of the folders, or, where these are the same, numbers.

    Raises:
        UsageError: not one name a model, or twice the same.
    """
    if names and (len(names) != len(places) or len(set(names)) < len(names)):
        raise UsageError(f"names must be {len(places)} different ones, got {', '.join(names)}")
    found = [_name(place) for place in places]
    return list(names) or (found if len(set(found)) == len(found) else [f"model {n}" for n, _ in enumerate(found, 1)])


def _name(place: Places) -> str:
    path = Path(place if isinstance(place, str | os.PathLike) else next(iter(place), ""))
    return (path.resolve().name if path.is_dir() else path.name) or "model"
