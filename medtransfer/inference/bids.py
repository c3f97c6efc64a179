"""Masks under the names that BIDS gives to derivatives (Brain Imaging Data Structure 1.9, section "Derivatives")."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError
from ..files import atomic_file, write_json
from ..version import __version__
from .scans import Scan

VERSION = "1.9.0"
#: files of a whole batch that make a folder a derivative dataset
FILES = ("dataset_description.json", "dseg.tsv", ".bidsignore")
_NAME = re.compile(
    r"(?P<entities>(?P<subject>sub-[A-Za-z0-9]+)(_(?P<session>ses-[A-Za-z0-9]+))?(_[a-z]+-[A-Za-z0-9+]+)*)_\w+"
)
_KINDS = ("anat", "dwi", "func", "perf", "pet", "fmap")
_IGNORED = ("report*", "labels*", "view.html", "*.png", "*_dseg_probabilities.nii.gz", "*_dseg.seg.nrrd", "*_dseg.dcm")


def bids_scan(scan: Scan) -> Scan:
    """The scan under the name of its mask: folders of subject and session, the entities, and the suffix ``dseg``.

    Raises:
        UsageError: its file has no BIDS name.

    >>> bids_scan(Scan("sub-01_ses-2_acq-fast_T1w", (Path("raw/sub-01_ses-2_acq-fast_T1w.nii.gz"),))).name
    'sub-01/ses-2/anat/sub-01_ses-2_acq-fast_dseg'
    """
    file = scan.files[0]
    match = _NAME.fullmatch(scan.name)
    if match is None:
        reason = "is not named as in BIDS, such as sub-01_ses-2_T1w.nii.gz"
        raise UsageError(reason, path=file, hint="Rename it, or leave --bids out")
    kind = file.parent.name if file.parent.name in _KINDS else "anat"
    places = [match["subject"], *([match["session"]] if match["session"] else []), kind]
    return Scan("/".join([*places, f"{match['entities']}_dseg"]), scan.files)


def write_dataset_files(folder: Path, classes: Sequence[str]) -> list[Path]:
    """Write what makes ``folder`` a derivative dataset: its description, the table of labels, and what is not BIDS.

    Raises:
        ResourceError: the disk is full or the folder cannot be written.
    """
    description = {
        "Name": "Segmentations by medtransfer",
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "medtransfer", "Version": __version__}],
    }
    write_json(folder / FILES[0], description)
    rows = [f"{number}\t{' '.join(name.split())}" for number, name in enumerate(classes)]
    texts = {FILES[1]: "\n".join(["index\tname", *rows]), FILES[2]: "\n".join(_IGNORED)}
    for name, text in texts.items():
        with atomic_file(folder / name, overwrite=True) as part:
            part.write_text(f"{text}\n", encoding="utf-8")
    return [folder / name for name in FILES]
