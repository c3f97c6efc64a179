"""Which masks are meant, and which prediction belongs to which reference."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ..data.cases import SUFFIXES, Layout, strip_suffixes
from ..data.layouts import read_layout
from ..data.rows import read_columns
from ..data.targets import Target, TargetLayout, find_targets
from ..errors import DatasetError
from ..volumes.stream import require_regular

Place: TypeAlias = "str | os.PathLike[str]"
TABLES = (".csv", ".tsv")
_BESIDE = re.compile(r"(_probabilities|_cam)$")  # what predict writes next to a mask
_ENDINGS = re.compile(r"(_0000|_seg|(_desc-[a-z0-9]+)?_dseg|_labels?|_mask|_gt)$", re.IGNORECASE)


@dataclass(frozen=True)
class Masks:
    """Label volumes by the name of their case.

    Args:
        path: Where they were looked for.
        files: A file a case.
        layout: The dataset that lists them, where one does.
    """

    path: Path
    files: dict[str, Path]
    layout: Layout | None = None

    @property
    def patients(self) -> dict[str, str]:
        """Patients by case, where the dataset knows them."""
        cases = self.layout.cases if self.layout else ()
        return {case.id: case.patient for case in cases if case.patient}


@dataclass(frozen=True)
class Pair:
    """A case: its reference, and its prediction unless there is none."""

    case: str
    reference: Path
    prediction: Path | None


@dataclass(frozen=True)
class Matched:
    """Pairs in the order of the references, and what found no partner."""

    pairs: tuple[Pair, ...]
    extra: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """References without a prediction."""
        return tuple(pair.case for pair in self.pairs if pair.prediction is None)


def find_masks(place: Place | Sequence[Place]) -> Masks:
    """The masks of a file, a list of files, a folder of files, a dataset folder (``dataset.json`` or BIDS), or a table.

    Raises:
        DatasetError: no mask is there, or two files of one case.
        VolumeError: there is no such file or folder.
    """
    if isinstance(place, Sequence) and not isinstance(place, str):
        return Masks(Path(place[0]).parent if place else Path(), _by_case([Path(one) for one in place]))
    path = Path(place)
    if path.suffix.lower() in (*TABLES, ".json") or (path / "dataset.json").is_file():
        return _listed(path)
    if not path.is_dir():
        require_regular(path)
        return Masks(path.parent, _by_case([path]))
    files = _by_case([file for file in sorted(path.iterdir()) if _is_mask(file)] or _bids_masks(path))
    if not files and (path / "dataset_description.json").is_file():
        return _listed(path)
    if not files:
        hint = "Name the folder that holds the label files, such as labelsTr"
        raise DatasetError("is a folder without masks", path=path, hint=hint)
    return Masks(path, files)


def find_reference_masks(place: Place | Sequence[Place], head: str | None = None) -> Masks:
    """As :func:`find_masks`; of a table with a column of the head's name, the masks that stand there.

    Raises:
        DatasetError: as :func:`find_masks`, or a mask that the table names is missing.
        VolumeError: there is no such file or folder.
    """
    if head is None or not isinstance(place, str | os.PathLike) or head.lower() not in _columns(Path(place)):
        return find_masks(place)
    layout = find_targets(Path(place), {head: Target("segmentation")}).checked()
    assert isinstance(layout, TargetLayout)
    return _masks_of(layout.single(layout.heads[0]))


def _columns(path: Path) -> list[str]:
    """Of a table; of anything else none."""
    return read_columns(path) if path.suffix.lower() in TABLES and path.is_file() else []


def match(predictions: Masks, references: Masks) -> Matched:
    """Find the prediction of every reference, by name.

    Where names differ only by what projects append (``_0000`` of a channel; ``_seg``, ``_label`` and the like of a
    mask), they are matched too, if that is unambiguous. A single prediction and a single reference need no like names.
    """
    free = dict(predictions.files)
    found = {case: free.pop(case) for case in references.files if case in free}
    loose = {case: name for case, name in _loose(references.files, found, free).items() if name in free}
    found.update({case: free.pop(name) for case, name in loose.items()})
    if len(references.files) == len(predictions.files) == 1 and not found:
        found, free = {next(iter(references.files)): next(iter(free.values()))}, {}
    pairs = tuple(Pair(case, file, found.get(case)) for case, file in references.files.items())
    return Matched(pairs, tuple(sorted(free)))


def _loose(references: Mapping[str, Path], found: Mapping[str, Path], free: Mapping[str, Path]) -> dict[str, str]:
    stems: dict[str, list[str]] = {}
    for name in free:
        stems.setdefault(_ENDINGS.sub("", name), []).append(name)
    wanted = [case for case in references if case not in found]
    names = {case: stems.get(_ENDINGS.sub("", case), []) for case in wanted}
    return {case: candidates[0] for case, candidates in names.items() if len(candidates) == 1}


def _listed(path: Path) -> Masks:
    return _masks_of(read_layout(path))


def _masks_of(layout: Layout) -> Masks:
    files = {case.id: case.label for case in layout.cases if isinstance(case.label, Path)}
    if not files:
        raise DatasetError("lists no masks", path=layout.path, hint="Give the folder of the reference masks")
    return Masks(layout.path, files, layout)


def _bids_masks(path: Path) -> list[Path]:
    """The masks of a folder of BIDS derivatives, as ``predict --bids`` writes them."""
    return [file for file in sorted(path.glob("sub-*/**/*_dseg.*")) if _is_mask(file)]


def _is_mask(file: Path) -> bool:
    if file.name.startswith(".") or not file.name.lower().endswith(SUFFIXES):
        return False
    return not _BESIDE.search(_case(file)) and not file.name.lower().endswith((".img", ".img.gz"))


def _case(file: Path) -> str:
    return re.sub(r"\.seg$", "", strip_suffixes(file.name))


def _by_case(files: Sequence[Path]) -> dict[str, Path]:
    """By case; of a NIfTI file and the ``.seg.nrrd`` beside it, which hold the same, the NIfTI file."""
    found: dict[str, Path] = {}
    for file in sorted(files, key=lambda file: file.name.lower().endswith(".seg.nrrd")):
        other = found.setdefault(_case(file), file)
        if other is not file and not file.name.lower().endswith(".seg.nrrd"):
            raise DatasetError(f"{other.name} and {file.name} are the same case", path=file.parent, hint="Remove one")
    return dict(sorted(found.items()))
