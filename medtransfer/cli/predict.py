"""``medtransfer predict``: a model folder over scans; one bad scan does not stop a batch."""

from __future__ import annotations

import math
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtransfer.checkpoint.card import ModelCard, read_card
from medtransfer.errors import UsageError
from medtransfer.version import __version__

from . import failures
from .messages import write_error, write_log
from .outputs import refuse_inside, refuse_outputs, refuse_unusable_folder
from .parser import number_between
from .results import Results, write_json_file

if TYPE_CHECKING:
    from medtransfer.inference.predictor import Predictor

    from .scans import Scan

USAGE = "-m MODEL -i IN [IN ...] -o OUT [options]"
SOME_FAILED = 5


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add = parser.add_argument
    add("-m", "--model", metavar="MODEL", required=True, help="a model folder")
    add("-i", "--input", metavar="IN", nargs="+", required=True, help="scans (.nii, .nii.gz) or folders of them")
    add("-o", "--output", metavar="OUT", required=True, help="the folder for CASE.nii.gz, CASE.json and report.json")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (auto)")
    add("--precision", default="auto", help="auto, float32, bfloat16 or float16 (auto)")
    add("--tile", metavar="VOXELS", type=_tile, default="auto",
        help="auto, whole, or the size of a window on the working grid: 96 or 96,96,64 (auto)")  # fmt: skip
    add(
        "--overlap",
        metavar="SHARE",
        type=number_between(0, 0.9),
        default=0.5,
        help="share by which windows overlap (0.5)",
    )
    add("--memory", metavar="GIB", type=number_between(0.01, math.inf), help="memory that one pass may take")
    add(
        "--nan", metavar="VALUE", type=float, help="fill NaN and infinite voxels with VALUE; they are refused otherwise"
    )
    add("--overwrite", action="store_true", help="replace outputs that exist")
    add("--json", action="store_true", help="the report as one JSON document")


def run(options: Namespace, results: Results) -> int:
    """Check everything that can be checked, then predict scan by scan."""
    from .scans import find_scans

    card = read_card(options.model)
    scans = find_scans(options.input, len(card.input_channels))
    _refuse_output(options, card, scans)
    from medtransfer.inference.predictor import Predictor

    predictor = Predictor(
        options.model,
        device=options.device,
        precision=options.precision,
        tile=options.tile,
        memory=options.memory or "auto",
        overlap=options.overlap,
    )
    if len(scans) == 1:
        cases = [_predict(predictor, scans[0], options)]
    else:
        cases = [_try_predict(predictor, scan, options, number, len(scans)) for number, scan in enumerate(scans, 1)]
    return _conclude(cases, card, options, results)


def _refuse_output(options: Namespace, card: ModelCard, scans: Sequence[Scan]) -> None:
    """Raise if anything of the output cannot be written, before the network is even read."""
    out = Path(options.output)
    if out.name.lower().endswith((".nii", ".nii.gz", ".json", ".png", ".nrrd", ".mha")) and not out.is_dir():
        raise UsageError("is named like a file, but predict writes a folder", path=out, hint=f"Write -o {out.parent}")
    refuse_unusable_folder(out)
    refuse_inside(out, options.model, "the model folder")
    for folder in filter(Path.is_dir, map(Path, options.input)):
        if folder.resolve() == out.resolve():
            raise UsageError(
                "is the input folder: masks would lie among the scans", path=out, hint="Name another output"
            )
    endings = [".nii.gz", ".json"] if card.task == "segmentation" else [".json"]
    outputs = [out / f"{scan.name}{ending}" for scan in scans for ending in endings]
    files = [file for scan in scans for file in scan.files]
    refuse_outputs([*outputs, out / "labels.json", out / "report.json"], files, options.overwrite)


def _predict(predictor: Predictor, scan: Scan, options: Namespace) -> dict[str, Any]:
    start = time.perf_counter()
    prediction = predictor.predict(scan.files[0] if len(scan.files) == 1 else list(scan.files), nan=options.nan)
    prediction.case = scan.name
    paths = prediction.save(options.output, overwrite=options.overwrite)
    for warning in prediction.warnings:
        write_log(f"medtransfer: warning: {scan.files[0]}: {warning}")
    seconds = round(time.perf_counter() - start, 3)
    found = {
        key: value for key, value in prediction.to_dict().items() if key in ("volumes_ml", "class", "probabilities")
    }
    outputs = [path.name for path in paths]
    return {**_record(scan, "done"), "outputs": outputs, **found, "warnings": prediction.warnings, "seconds": seconds}


def _try_predict(predictor: Predictor, scan: Scan, options: Namespace, number: int, total: int) -> dict[str, Any]:
    """One case of a batch: whatever is wrong with it is said and recorded, and the others go on."""
    _show_progress(f"{number}/{total} {scan.name}")
    try:
        return _predict(predictor, scan, options)
    except Exception as error:
        _show_progress("")
        message, code = failures.describe(error)
        write_error(message)
        return {**_record(scan, "failed"), "error": message, "exit_code": code}


def _record(scan: Scan, status: str) -> dict[str, Any]:
    return {"case": scan.name, "status": status, "inputs": [str(file) for file in scan.files]}


def _conclude(cases: list[dict[str, Any]], card: ModelCard, options: Namespace, results: Results) -> int:
    """Write labels.json and report.json, and show what came out."""
    _show_progress("")
    failed = [case["case"] for case in cases if case["status"] == "failed"]
    report = {
        "medtransfer": __version__,
        "model": {"folder": options.model, "architecture": card.architecture.name, "sha256": card.sha256},
        "done": len(cases) - len(failed),
        "failed": failed,
        "cases": cases,
    }
    out = Path(options.output)
    write_json_file(out / "labels.json", dict(enumerate(card.classes)), options.overwrite)
    write_json_file(out / "report.json", report, options.overwrite)
    if options.json:
        results.write_json(report)
    else:
        results.write("\n".join([*map(_line, cases), f"{report['done']} of {len(cases)} written to {out}"]))
    return SOME_FAILED if failed else 0


def _line(case: dict[str, Any]) -> str:
    if case["status"] == "failed":
        return f"{case['case']}: failed"
    volumes = ", ".join(f"{name} {ml:.3f} ml" for name, ml in case.get("volumes_ml", {}).items())
    shares = ", ".join(f"{name} {share:.3f}" for name, share in case.get("probabilities", {}).items())
    return f"{case['case']}: {volumes or shares}"


def _show_progress(text: str) -> None:
    """Replace the progress line, on a terminal only; an empty text takes it away."""
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text[:70]}")
        sys.stderr.flush()


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
