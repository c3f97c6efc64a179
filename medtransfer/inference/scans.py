"""Which scans are meant: files, folders, lists, and several channel files of one case."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError, VolumeError
from ..volumes.dicom_slices import is_dicom
from ..volumes.sources import case_name

# of a pair .hdr + .img one is listed; a .seg.nrrd is a mask
_LISTED = re.compile(r"(\.nii(\.gz)?|\.hdr|(?<!\.seg)\.nrrd|\.nhdr|\.mha|\.mhd)$", re.IGNORECASE)
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})$")
LIST_ENDING = ".txt"


@dataclass(frozen=True)
class Scan:
    """One case to predict: its name, which the outputs take, and its file or its channel files in order."""

    name: str
    files: tuple[Path, ...]

    @property
    def source(self) -> Path | list[Path]:
        """What `read_volume` takes."""
        return self.files[0] if len(self.files) == 1 else list(self.files)


def find_scans(inputs: Sequence[str | os.PathLike[str]], channels: int = 1) -> list[Scan]:
    """The cases behind files, folders and lists, in order.

    A folder stands for the NIfTI, NRRD and MetaImage files directly in it, for those of its folders that hold DICOM
    files, one series each, and for the series that it holds itself, if it does. A list is a ``.txt`` file
    with one case a line: its file, or its channel files separated by tabs; relative paths start at the list's own
    folder, empty lines and those that begin with ``#`` are passed over. With several ``channels``, files named
    ``CASE_0000``, ``CASE_0001`` ... are one case, as in nnU-Net.

    Raises:
        VolumeError: a folder or a list holds no scan, or a list cannot be read.
        UsageError: two cases would have the same name.

    >>> [scan.name for scan in find_scans(["b/scan_0000.nii", "b/scan_0001.nii"], channels=2)]
    ['scan']
    """
    paths = [Path(path) for path in inputs]
    loose = [path for path in paths if not path.is_dir() and not _is_list(path)]
    groups = [_files(path) for path in paths if path.is_dir()]
    found = [scan for files in [*groups, loose] for scan in _cases(files, channels)]
    found += [scan for path in paths if _is_list(path) for scan in _listed(path, channels)]
    refuse_equal_names((scan.name, scan.files[0]) for scan in found)
    return found


def refuse_equal_names(named: Iterable[tuple[str, Path]]) -> None:
    """Raise if two files would be written under one name.

    Raises:
        UsageError: they would.
    """
    seen: dict[str, Path] = {}
    for name, file in named:
        if seen.get(name) == file:
            raise UsageError("is given twice", path=file, hint="Name it once")
        if name in seen:
            reason = f"{seen[name]} and {file} would both be written as {name!r}"
            raise UsageError(reason, hint="Predict them into different folders")
        seen[name] = file


def _files(path: Path) -> list[Path]:
    try:
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise VolumeError(f"is a folder that cannot be read: {error.strerror}", path=path) from error
    files = [entry for entry in entries if _LISTED.search(entry.name) or _is_series(entry)]
    files += [path] if _is_series(path) else []  # slices beside other scans: never passed over in silence
    if not files:
        hint = "Scans are files .nii, .nii.gz, .hdr + .img, .nrrd, .mha, .mhd, and folders of DICOM files"
        raise VolumeError("is a folder without scans", path=path, hint=hint)
    return files


def _is_series(path: Path) -> bool:
    """Whether this is a folder with DICOM files in it; one is enough, the reader looks at all of them."""
    try:
        return path.is_dir() and any(is_dicom(file) for file in path.iterdir())
    except OSError:  # not ours to look into
        return False


def _cases(files: list[Path], channels: int) -> list[Scan]:
    groups: dict[str, list[Path]] = {}
    singles = []
    for file in files:
        match = _CHANNEL.match(case_name(file)) if channels > 1 else None
        if match:
            groups.setdefault(match["case"], []).append(file)
        else:
            singles.append(Scan(case_name(file), (file,)))
    return singles + [Scan(case, tuple(sorted(group))) for case, group in groups.items()]


def _is_list(path: Path) -> bool:
    return path.suffix.lower() == LIST_ENDING and not path.is_dir()


def _listed(path: Path, channels: int) -> list[Scan]:
    """The cases of a list; a line of several files is one case, the other lines are files like any."""
    rows = [[path.parent / part.strip() for part in line.split("\t") if part.strip()] for line in _lines(path)]
    if not rows:
        raise VolumeError("is a list without scans", path=path, hint="Write the path of one scan a line")
    together = [Scan(case_name(row), tuple(row)) for row in rows if len(row) > 1]
    return _cases([row[0] for row in rows if len(row) == 1], channels) + together


def _lines(path: Path) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise VolumeError(f"is a list that cannot be read: {reason}", path=path) from error
    if "\0" in text:
        raise VolumeError("is a list that cannot be read: it is not text", path=path)
    return (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
