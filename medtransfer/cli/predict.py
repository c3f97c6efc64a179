"""``medtransfer predict``: model folders over scans; one bad scan does not stop a batch."""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

from medtransfer.checkpoint.card import read_card

from .options import add_device, add_json, add_overwrite
from .parser import number_between
from .progress import Progress
from .results import Results

USAGE = "-m MODEL [MODEL ...] -i IN [IN ...] -o OUT [options]"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    _add_network(parser.add_argument_group("the network"))
    _add_result(parser.add_argument_group("masks, classes and boxes"))
    _add_batch(parser.add_argument_group("many scans"))
    add = parser.add_argument
    add("-m", "--model", metavar="MODEL", nargs="+", required=True,
        help="a model folder; several are an ensemble: probabilities are averaged, boxes fused")  # fmt: skip
    add("-i", "--input", metavar="IN", nargs="+", required=True,
        help="scans, folders of scans, or .txt lists: a case a line, its channel files separated by tabs")  # fmt: skip
    add("-o", "--output", metavar="OUT", required=True,
        help="the folder for CASE.nii.gz (of a detector CASE_boxes.nii.gz), CASE.json and report.json")  # fmt: skip
    add("--nan", metavar="VALUE", type=number_between(-math.inf, math.inf),
        help="fill NaN and infinite voxels with VALUE; they are refused otherwise")  # fmt: skip
    add("--volume", metavar="N", type=number_between(0, math.inf, int), help="which volume of 4-D files, from 0")
    add_json(parser)


def _add_network(group: Any) -> None:
    add = group.add_argument
    add_device(group)
    add("--precision", metavar="NAME", default="auto",
        help="auto, float32, tf32, bfloat16 or float16 (auto: the quickest here whose logits agree)")  # fmt: skip
    add("--compile", dest="compiled", action="store_true",
        help="compile the network for CUDA: pays for many scans of one size")  # fmt: skip
    add("--tile", metavar="VOXELS", type=_tile, default="auto",
        help="auto, whole, or the size of a window on the working grid: 96 or 96,96,64 (auto)")  # fmt: skip
    add("--overlap", metavar="SHARE", type=number_between(0, 0.9),
        help="share by which windows overlap (tiles: as much as the network asks for, others: 0.5)")  # fmt: skip
    add("--memory", metavar="GIB", type=number_between(0.01, math.inf),
        help="memory that one pass may take; what is free, when not given")  # fmt: skip
    add("--tta", action="store_true",
        help="average over mirror images, along the axes that training mirrored; boxes are fused")  # fmt: skip
    add("--crop", action="store_true", help="run only the box around what the scan shows")


def _add_result(group: Any) -> None:
    add = group.add_argument
    add("--classes", metavar="NAME", nargs="+",
        help="show only these classes: all others become background, their boxes are left out")  # fmt: skip
    add("--score", metavar="SHARE", type=number_between(0, 1),
        help="of a detector: the smallest score of a box that is written (the detector's own, often 0.05)")  # fmt: skip
    add("--largest-component", metavar="NAME", nargs="*",
        help="keep only the largest connected part of these classes; without names, of all")  # fmt: skip
    add("--fill-holes", metavar="NAME", nargs="*", help="fill what these classes enclose; without names, all")
    add("--save-probabilities", action="store_true", help="CASE_probabilities.nii.gz of every segmentation")
    add("--cam", action="store_true",
        help="CASE_cam.nii.gz of every classification: which places speak for the class that was found")  # fmt: skip
    add("--also", metavar="FORMAT", nargs="+", choices=("seg.nrrd", "dicom-seg"), default=[],
        help="every mask also as seg.nrrd (for 3D Slicer) or dicom-seg (of a DICOM series)")  # fmt: skip
    add("--bids", action="store_true", help="names and folders of BIDS derivatives: sub-01/anat/sub-01_dseg.nii.gz")
    add("--report", action="store_true", help="CASE.png of every mask or with the boxes, and report.html")
    add("--view", action="store_true", help="view.html, a page to look through the first cases (extra view)")


def _add_batch(group: Any) -> None:
    add = group.add_argument
    add_overwrite(group)
    add("--continue", dest="resume", action="store_true",
        help="keep the cases that are whole, from the same model, options and scans; do the others")  # fmt: skip
    add("--num-parts", metavar="N", type=number_between(1, math.inf, int),
        help="share the scans among N processes, each started with its own --part-id")  # fmt: skip
    add("--part-id", metavar="K", type=number_between(0, math.inf, int), help="which of them this one is, from 0")


def run(options: Namespace, results: Results) -> int:
    """Check everything that can be checked, then predict scan by scan."""
    from medtransfer.inference.order import Extras, plan_batch
    from medtransfer.inference.parts import Part

    cards = [(Path(folder), read_card(folder)) for folder in options.model]
    extras = Extras(
        options.save_probabilities, options.report, options.view, options.cam, tuple(options.also), options.bids
    )
    order = plan_batch(
        options.input,
        options.output,
        cards,
        overwrite=options.overwrite,
        resume=options.resume,
        nan=options.nan,
        volume=options.volume,
        extras=extras,
        part=Part.of_process(options.part_id, options.num_parts),
    )
    from medtransfer.inference.batch import device_of_process, run_batch
    from medtransfer.inference.predictor import Predictor

    predictor = Predictor(options.model, device_of_process(options.device, order.part), **_choices(options))
    with Progress(len(order.scans), options.debug) as progress:
        batch = run_batch(predictor, order, progress)
    if batch.is_leading:
        results.write_either(batch.report, _text(batch.report, order.folder), options.json)
    return batch.exit_code


def _choices(options: Namespace) -> dict[str, Any]:
    """The options of the predictor that it takes as they are; an option without names means all classes."""
    names = ("precision", "compiled", "tile", "overlap", "tta", "crop", "classes", "score")
    cleaning = {name: getattr(options, name) for name in ("largest_component", "fill_holes")}
    every = {name: False if chosen is None else chosen or True for name, chosen in cleaning.items()}
    return {name: getattr(options, name) for name in names} | every | {"memory": options.memory or "auto"}


def _text(report: dict[str, Any], folder: Path) -> str:
    return "\n".join([*map(_line, report["cases"]), f"{report['done']} of {len(report['cases'])} written to {folder}"])


def _line(case: dict[str, Any]) -> str:
    if case["status"] == "failed":
        return f"{case['case']}: failed"
    heads = {name: _figures(one) for name, one in case.get("heads", {}).items()}
    return f"{case['case']}: " + ("; ".join(f"{name} {text}" for name, text in heads.items()) or _figures(case))


def _figures(found: dict[str, Any]) -> str:
    """What was found, of the task that it was.

    >>> _figures({"num_boxes": {"nodule": 2, "node": 0}, "best_scores": {"nodule": 0.9134}})
    '2 boxes of nodule up to 0.913'
    """
    if "num_boxes" in found:
        counts = {name: count for name, count in found["num_boxes"].items() if count}
        best = found["best_scores"]
        return (
            ", ".join(f"{n} box{'es' * (n > 1)} of {name} up to {best[name]:.3f}" for name, n in counts.items())
            or "no box"
        )
    volumes = [f"{name} {ml:.3f} ml" for name, ml in found.get("volumes_ml", {}).items()]
    shares = [f"{name} {share:.3f}" for name, share in found.get("probabilities", {}).items()]
    values = [f"{name} {value:.4g}" for name, value in found.get("values", {}).items()]
    return ", ".join(volumes or shares or values)


def _tile(text: str) -> str | tuple[int, ...]:
    """``auto``, ``whole``, or one or three sizes in voxels.

    >>> _tile("96"), _tile("96,96,64"), _tile("whole")
    ((96, 96, 96), (96, 96, 64), 'whole')
    """
    if text in ("auto", "whole"):
        return text
    sizes = text.replace("x", ",").split(",")
    if len(sizes) not in (1, 3) or not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise ArgumentTypeError(
            f"must be auto, whole, or one or three sizes above 0, such as 96 or 96,96,64, got {text!r}"
        )
    numbers = tuple(map(int, sizes))
    return numbers * 3 if len(numbers) == 1 else numbers
