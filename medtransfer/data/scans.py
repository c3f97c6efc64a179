"""Scans without labels: a Decathlon folder, or any folder of NIfTI files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import DatasetError
from .cases import Case, Found, Layout, is_junk, refuse, refused, strip_suffixes, unique_cases
from .decathlon import listing_of, read_decathlon_scans
from .fields import read_document
from .nnunet import OWN_KEYS, read_nnunet_scans

#: folders that hold no scans, as the Decathlon, nnU-Net and BIDS name them
NO_SCANS = frozenset({"labelsTr", "labelsTs", "labelsVal", "derivatives"})


def read_scans(root: str | Path, channels: Sequence[str] | None = None) -> Layout:
    """All scans of a folder, to learn from without labels.

    Args:
        root: A folder with a ``dataset.json`` of the Decathlon or of nnU-Net (training and test scans), that file, or a
            folder that is searched for NIfTI files to its depths; folders of labels are passed over.
        channels: Names of a scan's channels; those of ``dataset.json``, or one, ``image``, by default.

    Raises:
        DatasetError: there is no scan, or two files would have one name.
    """
    root = Path(root)
    if root.suffix == ".json" or (root / "dataset.json").is_file():
        is_nnunet = OWN_KEYS & set(read_document(listing_of(root), "a dataset.json"))
        layout = read_nnunet_scans(root) if is_nnunet else read_decathlon_scans(root)
        return layout if channels is None else replace(layout, channels=tuple(channels), classes=tuple(channels))
    files = _nifti_files(root)
    problems: list[str] = []
    named = (Case(strip_suffixes(file.relative_to(root).as_posix()), (file,)) for file in files)
    cases = unique_cases(named, problems, "is there")
    refuse(problems, root)
    names = tuple(channels or ("image",))
    return Layout(root, "restoration", cases, names, names)


def find_scans(root: Path, channels: Sequence[str] | None = None) -> Found:
    """What is found of a folder of scans; see :func:`read_scans`."""
    try:
        layout = read_scans(root, channels)
    except DatasetError as error:
        return refused(error, root, "scans")
    return Found(root, "scans", layout, (), layout.warnings)


def _nifti_files(root: Path) -> list[Path]:
    if not root.is_dir():
        raise DatasetError("no such folder", path=root, hint="Set data_root to a folder of scans")
    files = [
        file
        for file in sorted(root.rglob("*.nii*"))
        if file.is_file()
        and file.name.lower().endswith((".nii", ".nii.gz"))
        and not is_junk(file.name)
        and not NO_SCANS.intersection(file.relative_to(root).parts)
    ]
    if not files:
        raise DatasetError("holds no .nii or .nii.gz file", path=root)
    return files
