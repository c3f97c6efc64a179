"""Many scans: read ahead, predict, write behind; one bad scan stops nothing, and what is whole can be kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..allocator import reused_memory
from ..errors import OutputExistsError
from ..files import write_json
from ..version import __version__
from .bids import write_dataset_files
from .cam import activation_method
from .casework import Casework, failure, record_of
from .identity import identity_of, read_case, require_checksums
from .member import Member
from .order import VIEWER, Extras, Order, Place, plan_batch
from .parts import Document, Part, counted, merge_reports
from .pipeline import apply, run_overlapped
from .predictor import Predictor
from .scans import Scan
from .tables import write_tables

#: called with a case's record, its number from 1, and the number of cases, as soon as the case is finished
OnCase = Callable[[Document, int, int], None]
SOME_FAILED = 5


@dataclass(frozen=True)
class Batch:
    """What came of a batch.

    Args:
        folder: Where the results are.
        report: What ``report.json`` holds, or, of one part while others are at work, its own report.
        is_leading: Whether this process speaks for the batch; only one of torchrun's does.
    """

    folder: Path
    report: Document
    is_leading: bool = True

    @property
    def failed(self) -> list[str]:
        """Names of the cases that failed."""
        return list(self.report["failed"])

    @property
    def exit_code(self) -> int:
        """5 if a case failed; of a process that does not lead always 0, since torchrun would end the others."""
        return SOME_FAILED if self.failed and self.is_leading else 0


def predict_batch(
    predictor: Predictor,
    scans: Place | Sequence[Place],
    folder: Place,
    *,
    overwrite: bool = False,
    resume: bool = False,
    nan: float | None = None,
    volume: int | None = None,
    extras: Extras | Mapping[str, Any] | None = None,
    part: Part | tuple[int, int] | None = None,
    on_case: OnCase | None = None,
) -> Batch:
    """Predict many scans into a folder: ``CASE.nii.gz`` and ``CASE.json`` each, label tables, and ``report.json``.

    While one scan is in the network the next is read and the last one written, so three are in memory. A scan that is
    refused is recorded as failed, and the others go on; if it is the only one, its error is raised.

    Args:
        predictor: The model or ensemble.
        scans: Files, folders and lists, see :func:`medtransfer.inference.scans.find_scans`.
        folder: Where the results go; made if it is missing.
        overwrite: Replace outputs that exist.
        resume: Keep the cases that are whole and were made from the same weights, options and files.
        nan: Value for NaN and infinite voxels, which are refused otherwise.
        volume: Which volume of 4-D files to take.
        extras: What is written beside the masks: :class:`~medtransfer.inference.order.Extras`, or its fields.
        part: Only the scans of part (number from 0, count); the part that ends last merges the reports of all.
        on_case: Told of every case that is finished, from another thread.

    Raises:
        UsageError: an output cannot be written, would be an input, or two would be one.
        OutputExistsError: an output exists and may not be replaced; with ``resume``, one of another model or options.
        VolumeError: there is no scan, or the only one was refused.
        ResourceError: the disk is full or the folder cannot be written.

    >>> import nibabel as nib, numpy as np, tempfile
    >>> from medtransfer.model_zoo.catalog import create_model
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in "ab":
    ...     nib.save(nib.Nifti1Image(np.random.rand(9, 8, 7).astype(np.float32), np.eye(4)), folder / f"{name}.nii.gz")
    >>> predictor = Predictor(create_model("resunet10", num_classes=2, base_channels=4, stem_channels=4), device="cpu")
    >>> predict_batch(predictor, folder, folder / "masks").report["done"]
    2
    """
    cards = [(member.folder, member.card) for member in predictor.members]
    wanted = extras if isinstance(extras, Extras) else Extras(**(extras or {}))
    share = part if isinstance(part, Part) else Part(*(part or ()))
    order = plan_batch(
        scans,
        folder,
        cards,
        overwrite=overwrite,
        resume=resume,
        nan=nan,
        volume=volume,
        extras=wanted,
        part=share,
    )
    return run_batch(predictor, order, on_case)


def run_batch(predictor: Predictor, order: Order, on_case: OnCase | None = None) -> Batch:
    """Do what :func:`medtransfer.inference.order.plan_batch` planned; arguments and errors as `predict_batch`."""
    with reused_memory():
        return _run_batch(predictor, order, on_case)


def _run_batch(predictor: Predictor, order: Order, on_case: OnCase | None) -> Batch:
    begin = time.perf_counter()
    if order.extras.cam:
        activation_method(predictor.engine.network)
    identity = identity_of(predictor, order)
    records = _kept(order, identity) if order.resume else {}
    missing = [scan for scan in order.scans if scan.name not in records]
    told = _Told(on_case, len(order.scans))
    for record in records.values():
        told(record)
    work = Casework(predictor, order, identity)
    for record in _single(work, missing, told) if order.is_single else _all(work, missing, told):
        records[record["case"]] = record
    cases = [records[scan.name] for scan in order.scans]
    report = _report(predictor, cases, time.perf_counter() - begin)
    return _conclude(predictor, order, order.digest(identity), report)


def device_of_process(name: str, part: Part) -> str:
    """The device that a process of torchrun takes where ``auto`` or ``cuda`` leaves it open: each its own GPU.

    >>> device_of_process("cpu", Part(1, 2, run="a:0", local=1))
    'cpu'
    """
    if part.local is None or name not in ("auto", "cuda") or not torch.cuda.is_available():
        return name
    return f"cuda:{part.local}"


class _Told:
    """Counts the cases for whoever listens."""

    def __init__(self, listener: OnCase | None, total: int) -> None:
        self._listener, self._total, self._number = listener, total, 0

    def __call__(self, record: Document) -> None:
        self._number += 1
        if self._listener is not None:
            self._listener(record, self._number, self._total)


def _kept(order: Order, identity: Mapping[str, Any]) -> dict[str, Document]:
    """The records of the cases that are whole."""
    require_checksums(identity)
    kept = {}
    for scan in order.scans:
        *outputs, record = order.outputs(scan)
        try:
            found = read_case(record, outputs, identity, scan)
        except OutputExistsError:
            if not order.overwrite:
                raise
            found = None
        if found is not None:
            kept[scan.name] = record_of(order, scan, "kept", found, seconds=0.0)
    return kept


def _single(work: Casework, scans: Sequence[Scan], told: _Told) -> Iterator[Document]:
    """The only scan, whose error is raised."""
    for scan in scans:
        record = work.save(scan, work.compute(work.read(scan)))
        told(record)
        yield record


def _all(work: Casework, scans: Sequence[Scan], told: _Told) -> Iterator[Document]:
    """All scans; one for which memory was too small is tried again at the end, when no other is held beside it."""

    def finish(scan: Scan, result: Future[Any], is_last_try: bool = False) -> Document | None:
        record = work.finish(scan, result, is_last_try)
        if record is not None:
            told(record)
        return record

    again = []
    with closing(run_overlapped(scans, work.read, work.compute, finish)) as finished:
        for scan, record in zip(scans, finished, strict=True):
            if record is None:
                again.append(scan)
            else:
                yield record
    for scan in again:
        begun: Future[Scan] = Future()
        begun.set_result(scan)
        record = finish(scan, apply(work.compute, apply(work.read, begun)), is_last_try=True)
        yield record or failure(scan, MemoryError())


def _conclude(predictor: Predictor, order: Order, wanted: str, report: Document) -> Batch:
    """Write the report of this part, and if it falls to this process what belongs to the whole batch."""
    folder, part = order.folder, order.part
    if part.count == 1:
        _write_shared(predictor, order, report)
        return Batch(folder, report)
    write_json(folder / part.report_name(), part.stamp(report, wanted))
    gathered = part.gather(folder, wanted)
    if gathered is None:
        return Batch(folder, report, part.leads)
    merged = merge_reports(gathered)
    _write_shared(predictor, order, merged)
    return Batch(folder, merged if part.run else report)


def _report(predictor: Predictor, cases: Sequence[Document], seconds: float) -> Document:
    models = [_model(member) for member in predictor.members]
    return {
        "medtransfer": __version__,
        "task": predictor.card.task,
        "model": models[0],
        **({"models": models} if len(models) > 1 else {}),
        "classes": list(predictor.card.classes),
        **counted(cases),
        "seconds": round(seconds, 3),
    }


def _model(member: Member) -> Document:
    folder = None if member.folder is None else str(member.folder)
    return {"folder": folder, "architecture": member.card.architecture.name, "sha256": member.card.sha256}


def _write_shared(predictor: Predictor, order: Order, report: Document) -> None:
    """What belongs to all cases; the report before the pages, so that it is there whatever becomes of them."""
    folder, classes, extras = order.folder, predictor.card.classes, order.extras
    for head in predictor.members[0].heads:
        write_tables(head, order, report["cases"])
    if extras.bids:
        write_dataset_files(folder, classes)
    write_json(folder / "report.json", report)
    if extras.pictures:
        from ..reporting.batch_page import write_batch_page

        write_batch_page(report, folder, overwrite=True)
    if extras.viewer and report["done"]:
        _write_viewer(order, report)


def _write_viewer(order: Order, report: Document) -> None:
    from ..reporting.batch_page import find_unusual, review_order
    from ..reporting.viewer import MOST_CASES, write_viewer

    cases = {case["case"]: case for case in report["cases"]}
    first = review_order(report["cases"], find_unusual(report["cases"]))[:MOST_CASES]
    shown = [(name, cases[name]["inputs"][0], order.folder / cases[name]["outputs"][0]) for name in first]
    write_viewer(order.folder / VIEWER, shown, report["classes"], overwrite=True, volume=order.volume or 0)
