"""``medtransfer evaluate``: predictions against references, with intervals; two models against each other."""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from medtransfer.errors import UsageError

from .messages import PROGRAM, write_error, write_log
from .options import add_json, add_overwrite
from .parser import number_between
from .results import Results

if TYPE_CHECKING:
    from medtransfer.evaluation.evaluation import Evaluation

USAGE = "-p PRED [PRED] -r REF [-o FOLDER] [options]"
SOME_FAILED = 5


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("-p", "--predictions", metavar="PRED", nargs="+", required=True,
        help="a folder, a mask, predictions.csv or boxes.csv; a second one is compared with the first")  # fmt: skip
    add("-r", "--references", metavar="REF", required=True,
        help="a folder of masks, a dataset, a mask, a list of boxes; of classes or values a table")  # fmt: skip
    add("-o", "--output", metavar="FOLDER", help="write evaluation.csv, .json, .html and its pictures here")
    add("--against", metavar="PRED", help="the same as a second PRED")
    add("--names", metavar="NAME", nargs="+", default=[], help="what the models are called (their folders' names)")
    add("--classes", metavar="CLASS", nargs="+", help="which classes to score; or their names as 1=NAME 2=NAME")
    add("--tolerance", metavar="MM", nargs="+", default=["2.0"],
        help="of the surface Dice; also of single classes: 2 liver=3 (2)")  # fmt: skip
    add("--lesion-iou", metavar="SHARE", type=number_between(0, 1), default=0.0,
        help="intersection over union that detects a lesion; 0: a common voxel (0)")  # fmt: skip
    add("--ignore-label", metavar="N", type=int, help="voxels of this label in the reference count for nothing")
    add("--penalty", choices=("none", "diagonal"), default="none",
        help="distances of missed structures: none (not in the means), or the image's diagonal")  # fmt: skip
    add("--boxes", choices=("class", "component"), default="class",
        help="of reference masks: a box around each class, or around each connected part of one (class)")  # fmt: skip
    add("--hit", choices=("iou", "center"), default="iou",
        help="a box is right by its overlap, or if its centre lies in the reference box (iou)")  # fmt: skip
    add("--iou", metavar="SHARE", type=number_between(0, 1), default=0.5,
        help="intersection over union of a right box (0.5)")  # fmt: skip
    add("--score", metavar="SCORE", type=number_between(-math.inf, math.inf), default=0.5,
        help="boxes from this score on are counted; curves and average precision are of all (0.5)")  # fmt: skip
    add("--head", metavar="NAME",
        help="of a network with several heads: which is scored, against a column NAME if a table has it")  # fmt: skip
    add("--missing", choices=("refuse", "empty", "skip"), default="refuse",
        help="a reference without prediction is an error, an empty one, or left out (refuse)")  # fmt: skip
    add("--allow-missing", action="store_true", help="the same as --missing empty")
    add("--patients", metavar="CSV", help="a table with id and patient: intervals are over patients, not cases")
    add("--workers", metavar="N", type=number_between(0, math.inf, int), default=0,
        help="processes that read and score; 0: this one (0)")  # fmt: skip
    add_overwrite(parser)
    add_json(parser)


def run(options: Namespace, results: Results) -> int:
    """Check the output first, then score, write and show.

    Raises:
        UsageError: more than two predictions.
    """
    from medtransfer.evaluation.evaluate import evaluate
    from medtransfer.evaluation.evaluation import refuse_outputs

    models = [*options.predictions, *([options.against] if options.against else [])]
    if len(models) > 2:
        raise UsageError(f"{len(models)} predictions are given", hint="Give one, or two to compare")
    if options.output:
        refuse_outputs(options.output, options.overwrite)
    evaluation = evaluate(
        models[0],
        options.references,
        *models[1:],
        names=options.names,
        classes=options.classes,
        tolerance=_tolerance(options.tolerance),
        lesion_iou=options.lesion_iou,
        ignore_label=options.ignore_label,
        penalty=options.penalty,
        iou=options.iou,
        hit=options.hit,
        boxes=options.boxes,
        score=options.score,
        head=options.head,
        missing="empty" if options.allow_missing else options.missing,
        patients=options.patients,
        workers=options.workers,
    )
    if options.output:
        evaluation.save(options.output, options.overwrite)
    _report(evaluation)
    results.write_either(evaluation.to_dict(), str(evaluation), options.json)
    return SOME_FAILED if evaluation.failed else 0


def _report(evaluation: Evaluation) -> None:
    for model in evaluation.models:
        for failure in model.failed:
            write_error(failure["error"])
        for text in model.warnings:
            write_log(f"{PROGRAM}: warning: {model.name}: {text}")


def _tolerance(words: Sequence[str]) -> float | dict[str, float]:
    """A number of mm, numbers of single classes, or both: that without a name is for the other classes.

    Raises:
        UsageError: a word is neither ``MM`` nor ``CLASS=MM``.

    >>> _tolerance(["3"]), _tolerance(["2", "liver=3"])
    (3.0, {'': 2.0, 'liver': 3.0})
    """
    pairs = [word.rpartition("=") for word in words]
    try:
        found = {name: float(number) for name, _, number in pairs}
    except ValueError:
        reason = f"--tolerance must be MM or CLASS=MM, got {' '.join(words)}"
        raise UsageError(reason, hint="Write, for example, --tolerance 2 liver=3") from None
    return found[""] if list(found) == [""] else found
