"""One case of a batch in three steps, and the record of what came of it."""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ResourceError, describe_error
from ..reporting.palette import class_rgb
from ..volumes.read import Volume
from .cam import class_activation, write_activation
from .findings import Finding
from .identity import KEY, files_of
from .order import DICOM_SEG, FORMATS, Order
from .parts import Document
from .pictures import draw_case
from .predictor import Job, Predictor
from .result import Prediction
from .scans import Scan
from .windows import plan_windows

#: what a report repeats of a case's record
_FOUND = ("volumes_ml", "class", "probabilities", "values")
UNEXPECTED = 1
#: the disk, the user's share of it, or the size that a file may have: other cases would fail alike
_DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass
class Ready:
    """A scan that was read; ``files`` says what it was read from, ``seconds`` what it took."""

    job: Job
    files: list[list[Any]]
    seconds: float


@dataclass
class Found:
    """A prediction before it is written."""

    prediction: Prediction
    activation: npt.NDArray[np.float32] | None
    files: list[list[Any]]
    seconds: float


class Casework:
    """The three steps of a case: `read` and `compute` raise, `finish` records.

    Args:
        predictor: The model or ensemble.
        order: What is to be done.
        identity: What a record says that it was made from.
    """

    def __init__(self, predictor: Predictor, order: Order, identity: Mapping[str, Any]) -> None:
        self.predictor, self.order, self.identity = predictor, order, identity

    def read(self, scan: Scan) -> Ready:
        """Read and prepare; the files are looked at first, so that a later change of them is seen."""
        begin = time.perf_counter()
        files: list[list[Any]] = []
        with suppress(OSError):  # reading says it better
            files = files_of(scan)
        job = self.predictor.read(scan.source, self.order.nan, self.order.volume)
        return Ready(job, files, time.perf_counter() - begin)

    def compute(self, ready: Ready) -> Found:
        """Run the network."""
        begin = time.perf_counter()
        prediction = self.predictor.run(ready.job, self.order.extras.probabilities)
        activation = self._activation(prediction) if self.order.extras.cam else None
        return Found(prediction, activation, ready.files, ready.seconds + time.perf_counter() - begin)

    def finish(self, scan: Scan, result: Future[Found], is_last_try: bool = False) -> Document | None:
        """Write a result, or record the error of it; None if memory was too small, unless this is the last try.

        Raises:
            ResourceError: the disk is full, so that no other case could be written.
        """
        error = result.exception()
        try:
            if error is None:
                return self.save(scan, result.result())
        except Exception as raised:
            error = raised
        assert isinstance(error, Exception)
        if _is_disk_full(error):
            raise error
        if _is_about_memory(error) and not is_last_try:
            return None
        record = failure(scan, error)
        traceback.clear_frames(error.__traceback__)  # they hold the scan
        return record

    def save(self, scan: Scan, found: Found) -> Document:
        """Write all files of a case, its record last; if one cannot be written, none that is new stays."""
        begin, prediction, outputs = time.perf_counter(), found.prediction, self.order.outputs(scan)
        prediction.case = outputs[-1].stem
        prediction.details[KEY] = {**self.identity, "files": found.files}
        fresh = [path for path in outputs if not path.exists()]
        try:
            self._write(prediction, found.activation, outputs)
        except BaseException:
            for path in fresh:
                with suppress(OSError):  # not there, or its name is why nothing could be written
                    path.unlink()
            raise
        seconds = found.seconds + time.perf_counter() - begin
        return record_of(self.order, scan, "done", prediction.to_dict(), seconds)

    def _write(self, prediction: Prediction, activation: npt.NDArray[np.float32] | None, outputs: list[Path]) -> None:
        folder, extras, replaces = outputs[-1].parent, self.order.extras, self.order.replaces
        folder.mkdir(parents=True, exist_ok=True)
        if activation is not None:
            write_activation(activation, prediction.volume, folder / f"{prediction.case}_cam.nii.gz", replaces)
        for part in prediction.found.parts():
            if (mask := part.mask) is not None:
                self._write_others(part, mask, folder / f"{prediction.case}{part.head.suffix}")
        prediction.save(folder, replaces, extras.probabilities)

    def _write_others(self, part: Finding, mask: npt.NDArray[Any], path: Path) -> None:
        """What is made of a mask beside its NIfTI file; ``path`` has no ending."""
        volume, classes, replaces = part.volume, part.classes, self.order.replaces
        for name in self.order.extras.formats if "also" in part.head.kind.can else ():
            file = path.with_name(f"{path.name}{FORMATS[name].ending}")
            _WRITERS[name](mask, volume, classes, file, replaces)
        if self.order.extras.pictures:
            draw_case(part, mask, path.with_name(f"{path.name}.png"), replaces)

    def _activation(self, prediction: Prediction) -> npt.NDArray[np.float32]:
        """Of the class that was found, in the windows that the classifier was run in."""
        member, prepared, details = self.predictor.members[0], prediction.prepared, prediction.details
        sizes, overlap = prepared.grid.shape, member.settings.window_overlap
        plan = plan_windows(sizes, details["window"], overlap) if details["windows"] > 1 else None
        return class_activation(member.engine, prepared, member.card, prediction.to_dict()["class"], plan)


def _write_seg_nrrd(
    mask: npt.NDArray[Any], volume: Volume, classes: Sequence[str], path: Path, overwrite: bool
) -> None:
    from ..volumes.seg_nrrd import write_seg_nrrd

    write_seg_nrrd(mask, volume, classes, path, _colours(classes), overwrite)


def _write_dicom_seg(
    mask: npt.NDArray[Any], volume: Volume, classes: Sequence[str], path: Path, overwrite: bool
) -> None:
    from ..volumes.dicom_seg import write_dicom_seg

    write_dicom_seg(mask, volume, volume.paths[0], classes, path, _colours(classes), overwrite=overwrite)


def _colours(classes: Sequence[str]) -> list[tuple[int, int, int]]:
    return [class_rgb(number) for number in range(len(classes))]


_WRITERS = {"seg.nrrd": _write_seg_nrrd, DICOM_SEG: _write_dicom_seg}


def record_of(order: Order, scan: Scan, status: str, found: Mapping[str, Any], seconds: float) -> Document:
    """What ``report.json`` says of a case that is there."""
    outputs = [path.relative_to(order.folder).as_posix() for path in order.outputs(scan)]
    told = _summary(found)
    return {
        **_begin(scan, status),
        "outputs": outputs,
        **told,
        "warnings": list(found.get("warnings", ())),
        "seconds": round(seconds, 3),
    }


def _summary(found: Mapping[str, Any]) -> Document:
    """The figures of a case; of many boxes how many there are of each class, and the best score."""
    told: Document = {key: found[key] for key in _FOUND if key in found}
    if "boxes" in found:
        best = {box["class"]: box["score"] for box in reversed(found["boxes"])}
        names = [name for name in found["classes"] if name in best]
        told["num_boxes"] = {name: sum(box["class"] == name for box in found["boxes"]) for name in found["classes"][1:]}
        told["best_scores"] = {name: best[name] for name in names}
    if "heads" in found:
        told["heads"] = {name: {"task": one["task"], **_summary(one)} for name, one in found["heads"].items()}
    return told


def failure(scan: Scan, error: Exception) -> Document:
    """What ``report.json`` says of a case that failed; where it was, if nobody foresaw it."""
    message, code = describe_error(error)
    where = {"traceback": "".join(traceback.format_exception(error))} if code == UNEXPECTED else {}
    return {**_begin(scan, "failed"), "outputs": [], "error": message, "exit_code": code, **where}


def _begin(scan: Scan, status: str) -> Document:
    return {"case": scan.name, "status": status, "inputs": [str(file) for file in scan.files]}


def _is_disk_full(error: BaseException) -> bool:
    """Whether nothing more can be written; also behind an error of ours."""
    return any(isinstance(one, OSError) and one.errno in _DISK_IS_FULL for one in (error, error.__cause__))


def _is_about_memory(error: BaseException) -> bool:
    """Whether memory was too small, which may be otherwise when other scans are gone; the disk is another matter."""
    if isinstance(error, ResourceError):
        return not isinstance(error.__cause__, OSError)
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
