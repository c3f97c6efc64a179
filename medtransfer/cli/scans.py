"""Which scans a command line means: files, folders, and several channel files of one case."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medtransfer.errors import UsageError, VolumeError
from medtransfer.volumes.read import case_name

_LISTED = re.compile(r"\.(nii(\.gz)?|hdr)$", re.IGNORECASE)  # of a pair .hdr + .img one is listed
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})$")


@dataclass(frozen=True)
class Scan:
    """One case to predict: its name, which the outputs take, and its file or its channel files in order."""

    name: str
    files: tuple[Path, ...]


def find_scans(inputs: Sequence[str | Path], channels: int = 1) -> list[Scan]:
    """The cases behind files and folders, in order; a folder stands for the NIfTI files directly in it.

    With several ``channels``, files named ``CASE_0000``, ``CASE_0001`` ... are one case, as in nnU-Net.

    Raises:
        VolumeError: a folder holds no scan.
        UsageError: two cases would have the same name.

    >>> [scan.name for scan in find_scans(["b/scan_0000.nii", "b/scan_0001.nii"], channels=2)]
    ['scan']
    """
    cases: dict[str, list[Scan]] = {}
    paths = [Path(path) for path in inputs]
    loose = [path for path in paths if not path.is_dir()]
    for files in [*map(_files, filter(Path.is_dir, paths)), loose]:
        for scan in _cases(files, channels):
            cases.setdefault(scan.name, []).append(scan)
    for name, scans in cases.items():
        if len(scans) > 1:
            both = " and ".join(str(scan.files[0]) for scan in scans[:2])
            raise UsageError(f"{both} would both be written as {name!r}", hint="Predict them into different folders")
    return [scans[0] for scans in cases.values()]


def _files(path: Path) -> list[Path]:
    files = sorted(file for file in path.iterdir() if _LISTED.search(file.name) and not file.name.startswith("."))
    if not files:
        raise VolumeError(
            "is a folder without scans", path=path, hint="Scans are its files .nii, .nii.gz or .hdr + .img"
        )
    return files


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
