"""``evaluate``: predictions against references, case by case, in the memory of one case."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from ..errors import DatasetError, UsageError
from ..scoring.matching import Hit
from ..volumes.structures import BoxOf
from .box_files import is_detection
from .detections import BoxScorer
from .documents import chosen_task, head_masks
from .evaluation import Evaluation
from .findings import Model
from .masks import Masks, Place, find_masks, find_reference_masks
from .paired import compare
from .pairs import Chosen, Missing, Scored, Scorer, refuse_unknown, restricted, segmented
from .probabilities import is_classification, read_patients
from .resampling import DRAWS
from .segmented import found_names
from .settings import IOU, SCORE, TOLERANCE_MM, BoxSettings, Settings
from .summary import Drawn
from .told_cases import Asked, classifications, regressions

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
    iou: float = IOU,
    hit: Hit = "iou",
    boxes: BoxOf = "class",
    score: float = SCORE,
    head: str | None = None,
    patients: Patients = None,
    draws: int = DRAWS,
    seed: int = 0,
    workers: int = 0,
) -> Evaluation:
    """Score masks against reference masks, probabilities against true classes, or found boxes against reference boxes.

    Files belong together by the name of their case. A prediction on another grid than its reference is refused, never
    resampled. How each score is defined, and what empty masks give, is in ``docs/evaluation.md``.

    Args:
        predictions: A folder of masks, of classified cases or of a detector, a file, a list of files, a
            ``predictions.csv`` or a ``boxes.csv``.
        references: A folder of masks, a dataset (``dataset.json`` or a table), a file, or a list of files; for a
            classification or regression a table with the columns ``id``, ``label`` (or the quantity) and if known
            ``patient``; for boxes also a list of scans with boxes, or a folder as a detector writes it.
        against: The predictions of a second model for the same cases, which the first is compared with.
        names: What the models are called; by default after their folders.
        classes: Names of the classes as ``{1: "liver"}`` or ``["1=liver"]``, or which of the known ones to score.
        tolerance: Of NSD in mm; or by the name of the class, with ``""`` for the others (2 mm).
        lesion_iou: 0: one common voxel detects a lesion; above 0: the intersection over union that a pair needs.
        ignore_label: Voxels of this label in the reference count for nothing.
        penalty: ``"diagonal"``: distances of a missed or invented structure are the image's diagonal, and in the means.
        missing: What a reference without a prediction is: an error, scored as ``"empty"`` mask, or left out.
        iou: Of boxes: the least intersection over union of a hit.
        hit: Of boxes: ``"center"`` makes a hit of a box whose centre lies in the reference box, as LUNA16 counts.
        boxes: Of reference masks: a box around each ``"class"``, or around each connected ``"component"`` of one.
        score: Of boxes: those from this score on are counted; curves and average precision are of all.
        head: Of predictions of a network with several heads: which of them is scored. Where a table has a column of
            this name, it holds the references.
        patients: Patients by case, or a table of them; patients are drawn for the intervals, not cases.
        draws: Of patients, for the intervals.
        seed: Of the draws.
        workers: Processes that read and score; 0: this one.

    Raises:
        DatasetError: nothing to score, a prediction is missing, or a table is wrong.
        VolumeError: the only case was refused. Of several cases, refused ones are in ``failed`` instead.
        UsageError: an argument out of its range, or an unknown class.

    >>> import nibabel as nib, numpy as np, tempfile
    >>> folder, mask = Path(tempfile.mkdtemp()), np.zeros((8, 8, 8), np.uint8)
    >>> mask[2:5, 2:5, 2:5] = 1
    >>> for name, voxels in (("found", mask), ("true", np.roll(mask, 1, axis=0))):
    ...     (folder / name).mkdir()
    ...     nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / name / "case_1.nii.gz")
    >>> evaluation = evaluate(folder / "found", folder / "true", classes={1: "liver"})
    >>> [(row["class"], round(row["dice"], 3)) for row in evaluation.table]
    [('liver', 0.667)]
    """
    if missing not in get_args(Missing):
        raise UsageError(f"missing must be one of {', '.join(get_args(Missing))}, got {missing!r}")
    settings = Settings(*_tolerances(tolerance), lesion_iou, ignore_label, penalty)
    places = [predictions] if against is None else [predictions, against]
    shown = _names(places, names)
    options: dict[str, object] = {"missing": missing, "draws": draws, "seed": seed}
    task = _task(predictions, head)
    known = _patients(patients)
    if task == "detection":
        of_boxes = BoxSettings(iou, hit, boxes, score, ignore_label)
        models = BoxScorer(references, classes, of_boxes, missing, known, (draws, seed)).models(places, shown)
        options = {**asdict(of_boxes), **options}
    elif task == "segmentation":
        scorer = Scorer(find_reference_masks(references, head), classes, settings, missing, workers)
        models = _segmentations([_masks(place, head) for place in places], shown, scorer, known, (draws, seed))
        options = {**asdict(settings), **options}
    else:
        asked = Asked(places, references, shown, missing, known, (draws, seed), head)
        models = _FROM_TABLES[task](asked)
    if head is not None:
        options = {"head": head, **options}
    differences = compare(models[0].drawn, models[1].drawn) if len(models) > 1 else []
    return Evaluation(tuple(models), str(references), options, tuple(differences))


_FROM_TABLES = {"classification": classifications, "regression": regressions}


def _task(predictions: Places, head: str | None) -> str:
    """What the predictions are, told by content.

    Raises:
        UsageError: they are of a network with several heads, and none or another one is named.
    """
    if told := chosen_task(predictions, head):
        return told
    if is_detection(predictions):
        return "detection"
    one = isinstance(predictions, str | os.PathLike)
    return "classification" if one and is_classification(predictions) else "segmentation"  # type: ignore[arg-type]


def _masks(place: Places, head: str | None) -> Masks:
    return find_masks(place) if head is None else head_masks(place, head)  # type: ignore[arg-type]


def _segmentations(
    masks: Sequence[Masks], shown: Sequence[str], scorer: Scorer, patients: Mapping[str, str], draws: tuple[int, int]
) -> list[Model]:
    scored = [scorer.score(one) for one in masks]
    common = set.intersection(*({result.case for result in one.results} for one in scored))
    if not common:
        raise DatasetError("the two models have no case in common", hint="Compare predictions of the same scans")
    kept = [restricted(one, common) for one in scored]
    names = scorer.names(masks[0]) or found_names([result for one in kept for result in one.results])
    refuse_unknown(scorer.settings.tolerances, names)
    known = {**scorer.references.patients, **patients}
    return [
        _segmentation(name, one, Drawn(segmented(one, names, known), *draws))
        for name, one in zip(shown, kept, strict=True)
    ]


def _segmentation(name: str, scored: Scored, drawn: Drawn) -> Model:
    failed = tuple({"case": one.case, "error": one.error, "exit_code": one.exit_code} for one in scored.failed)
    missing = tuple(one.case for one in scored.results if one.missing)
    return Model(name, drawn, missing, failed, scored.matched.extra, scored.warnings, scored.left_out)


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
