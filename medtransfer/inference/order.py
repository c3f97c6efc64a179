"""What a batch is to do, and whether it may: decided before a network is read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checkpoint.card import ModelCard
from ..errors import OutputExistsError, UsageError
from ..files import refuse_existing, refuse_inside, refuse_outputs, refuse_unusable_folder
from ..reporting.niivue import read_niivue
from ..volumes.dicom import split_series
from ..volumes.extras import require_extra
from .bids import FILES, bids_scan
from .kinds import Head, heads_of, refuse_unable
from .parts import Part, read_json
from .scans import Scan, find_scans, refuse_equal_names

Place = str | os.PathLike[str]
PAGE, VIEWER, DICOM_SEG = "report.html", "view.html", "dicom-seg"
_FILE_ENDINGS = (".nii", ".nii.gz", ".json", ".png", ".nrrd", ".mha", ".dcm")


@dataclass(frozen=True)
class Format:
    """A format for masks: the ending of its files, and the module and extra that write it."""

    ending: str
    module: str
    extra: str


FORMATS = {
    "seg.nrrd": Format(".seg.nrrd", "SimpleITK", "itk"),
    DICOM_SEG: Format(".dcm", "highdicom", "dicom"),
}


@dataclass(frozen=True)
class Extras:
    """What is written beside the masks and the records.

    Args:
        probabilities: ``CASE_probabilities.nii.gz`` of every segmentation.
        pictures: ``CASE.png`` of every segmentation and of all boxes, and the page ``report.html``.
        viewer: ``view.html``, a page to look through the first cases.
        cam: ``CASE_cam.nii.gz`` of every classification: which places speak for the class that was found.
        formats: Further files of every mask, of `FORMATS`.
        bids: Names and folders of BIDS derivatives.
    """

    probabilities: bool = False
    pictures: bool = False
    viewer: bool = False
    cam: bool = False
    formats: tuple[str, ...] = ()
    bids: bool = False

    def endings(self, card: ModelCard) -> list[str]:
        """What the names of a case's files end in; the record is the last."""
        cam = ["_cam.nii.gz"] * self.cam
        return [*(ending for head in heads_of(card) for ending in self.endings_of(head)), *cam, ".json"]

    def endings_of(self, head: Head) -> list[str]:
        """Of the files of one result; of every map there may be a picture and other formats.

        >>> Extras(pictures=True).endings_of(Head("", "segmentation", ("background", "liver")))
        ['.nii.gz', '.png']
        """
        others = [FORMATS[name].ending for name in self.formats] if "also" in head.kind.can else []
        pictures = [".png"] * (self.pictures and bool(head.kind.map))
        return head.maps(self.probabilities) + [f"{head.suffix}{ending}" for ending in [*others, *pictures]]

    def files(self, card: ModelCard) -> list[str]:
        """Names of the files of a whole batch, but for its report."""
        tables = [name for head in heads_of(card) for name in head.tables]
        pages = {PAGE: self.pictures, VIEWER: self.viewer}
        return [*tables, *(FILES if self.bids else ()), *(name for name, wanted in pages.items() if wanted)]

    def check(self, card: ModelCard, models: int = 1) -> None:
        """Raise if something cannot be had: not for this task, not for an ensemble, or not without an extra.

        Raises:
            UsageError: a task or an ensemble has it not, or there is no such format.
            MissingExtraError: an extra is not installed.
        """
        asked = {
            "save_probabilities": self.probabilities,
            "view": self.viewer,
            "also": bool(self.formats),
            "bids": self.bids,
            "cam": self.cam,
        }
        refuse_unable(card, asked)
        if self.cam and models > 1:
            raise UsageError("cam is for one model, not for an ensemble", hint="Give one of them")
        for number, name in enumerate(self.formats):
            if name in self.formats[:number]:
                raise UsageError(f"also: {name} is named twice", hint="Name it once")
            if name not in FORMATS:
                raise UsageError(f"there is no format {name!r} for masks", hint=f"Formats are {', '.join(FORMATS)}")
            require_extra(FORMATS[name].module, FORMATS[name].extra, name)
        if self.viewer:
            read_niivue()


@dataclass(frozen=True)
class Order:
    """Scans, where their results go, and how to deal with what is there already.

    Args:
        scans: The scans of this part.
        names: Of all parts' scans, sorted.
        folder: Where the results go.
        card: Of the model; of an ensemble, its first.
        overwrite: Replace outputs that exist.
        resume: Keep the cases that are whole.
        nan: Value for NaN and infinite voxels.
        volume: Which volume of 4-D files is taken.
        extras: What is written beside masks and records.
        part: Which of several processes this one is.
    """

    scans: Sequence[Scan]
    names: Sequence[str]
    folder: Path
    card: ModelCard
    overwrite: bool = False
    resume: bool = False
    nan: float | None = None
    volume: int | None = None
    extras: Extras = field(default_factory=Extras)
    part: Part = field(default_factory=Part)

    @property
    def is_single(self) -> bool:
        """Whether one scan was asked for, whose error is then that of the whole."""
        return len(self.names) == 1 and self.part.count == 1

    @property
    def replaces(self) -> bool:
        """Whether files of a case may be replaced, once it was found not to be whole."""
        return self.overwrite or self.resume

    def outputs(self, scan: Scan) -> list[Path]:
        """The files that a case becomes; its record is the last."""
        return [self.folder / f"{scan.name}{ending}" for ending in self.extras.endings(self.card)]

    def digest(self, identity: Mapping[str, Any]) -> str:
        """What is equal for the parts of one batch, and for others is not."""
        asked = json.dumps([identity, self.names, self.extras.endings(self.card)])
        return hashlib.sha256(asked.encode()).hexdigest()


def plan_batch(
    inputs: Place | Sequence[Place],
    folder: Place,
    cards: Sequence[tuple[Path | None, ModelCard]],
    *,
    overwrite: bool = False,
    resume: bool = False,
    nan: float | None = None,
    volume: int | None = None,
    extras: Extras | None = None,
    part: Part | None = None,
) -> Order:
    """Find the scans and check all that can be checked before any work.

    Args:
        inputs: Scans, folders and lists, see :func:`medtransfer.inference.scans.find_scans`.
        folder: Where the results are to go.
        cards: The models' folders, where they came from one, and cards.
        overwrite: Replace outputs that exist.
        resume: Keep the cases that are whole.
        nan: Value for NaN and infinite voxels, which are refused otherwise.
        volume: Which volume of 4-D files to take.
        extras: What is written beside masks and records.
        part: Which of several processes this one is.

    Raises:
        UsageError: an output cannot be written, would be an input, or two would be one.
        OutputExistsError: an output exists and may not be replaced.
        VolumeError: there is no scan.
    """
    extras, part, out = extras or Extras(), part or Part(), Path(folder)
    card, given = cards[0][1], [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    extras.check(card, len(cards))
    scans = find_scans(given, len(card.input_channels))
    scans = [bids_scan(scan) for scan in scans] if extras.bids else scans
    mine = part.take(scans, lambda scan: scan.name)
    order = Order(mine, sorted(scan.name for scan in scans), out, card, overwrite, resume, nan, volume, extras, part)
    _refuse_folder(out, [home for home, _ in cards if home], given)
    _refuse_names(order, scans)
    _refuse_files(order, scans)
    return order


def _refuse_folder(out: Path, homes: Sequence[Path], inputs: Sequence[Place]) -> None:
    if out.name.lower().endswith(_FILE_ENDINGS) and not out.is_dir():
        reason = "is named like a file, but predict writes a folder of CASE.nii.gz and CASE.json"
        raise UsageError(reason, path=out, hint=f"Write -o {out.parent}")
    refuse_unusable_folder(out)
    for home in homes:
        refuse_inside(out, home, "the model folder")
    for folder in filter(Path.is_dir, map(Path, inputs)):
        if folder.resolve() == out.resolve():
            raise UsageError(
                "is the input folder: masks would lie among the scans", path=out, hint="Name another output"
            )


def _refuse_names(order: Order, scans: Sequence[Scan]) -> None:
    """No two scans of any part may become one file, and none a file of the whole batch."""
    refuse_equal_names((str(path), scan.files[0]) for scan in scans for path in order.outputs(scan))
    if DICOM_SEG in order.extras.formats:
        _refuse_no_series(scans)
    own = {"report.json", *order.extras.files(order.card)}
    for scan in scans:
        taken = own & {path.name for path in order.outputs(scan)}
        if taken:
            raise UsageError(f"would be written over {taken.pop()} of the batch", path=scan.files[0], hint="Rename it")


def _refuse_no_series(scans: Sequence[Scan]) -> None:
    for scan in scans:
        if split_series(scan.files[0]) is None:
            reason = f"{DICOM_SEG} refers to the slices of a DICOM series, which this is not"
            raise UsageError(reason, path=scan.files[0], hint="Give the folders of the series, or leave it out")


def _refuse_files(order: Order, scans: Sequence[Scan]) -> None:
    """Of the outputs, only those of this part must be free: the others' may be written already."""
    inputs = [file for scan in scans for file in scan.files]
    own = [path for scan in order.scans for path in order.outputs(scan)]
    batch = [order.folder / name for name in (order.part.report_name(), *order.extras.files(order.card))]
    refuse_outputs([*own, *batch], inputs, overwrite=True)
    may = order.overwrite or (order.resume and _is_ours(order, scans))
    for path in [*own, *(batch if order.part.count == 1 else batch[:1])]:
        try:
            refuse_existing(path, may)
        except OutputExistsError as error:
            hint = "Pass --continue to do what is missing, --overwrite to do all again, or name another output"
            raise OutputExistsError(error.reason, path=error.path, hint=hint) from None


def _is_ours(order: Order, scans: Sequence[Scan]) -> bool:
    """Whether a batch has written there: then a mask without a record was cut short, and is not someone's own work."""
    records = (order.outputs(scan)[-1] for scan in scans)
    reports = (order.folder / name for name in ("report.json", order.part.report_name()))
    return any("medtransfer" in (read_json(path) or {}) for path in (*reports, *records))
