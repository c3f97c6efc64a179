"""File names of the Brain Imaging Data Structure: entities (``sub-01``, ``run-1``) and a suffix (``T1w``).

See the BIDS specification, https://bids-specification.readthedocs.io.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from ..errors import DatasetError
from .cases import strip_suffixes

_ENTITY = re.compile(r"([a-zA-Z0-9]+)-([a-zA-Z0-9+.]+)")
_WORD = re.compile(r"[a-zA-Z0-9]+")


@dataclass(frozen=True)
class BidsName:
    """A name in parts: ``entities`` in their order, and the suffix, empty where there is none.

    >>> parse_name("sub-01_ses-1_T1w.nii.gz")
    BidsName(entities={'sub': '01', 'ses': '1'}, suffix='T1w')
    """

    entities: Mapping[str, str]
    suffix: str

    @property
    def case(self) -> str:
        """Subject and session.

        >>> parse_name("sub-01_ses-1_run-2_T1w.nii.gz").case
        'sub-01_ses-1'
        """
        return "_".join(f"{key}-{self.entities[key]}" for key in ("sub", "ses") if key in self.entities)

    def agrees(self, wanted: Mapping[str, Any]) -> bool:
        """Whether no entity contradicts the wanted ones; None wants that an entity is not there.

        >>> name = parse_name("sub-01_run-01_T1w.nii.gz")
        >>> name.agrees({"run": 1}), name.agrees({"run": 2}), name.agrees({"acq": "x"}), name.agrees({"run": None})
        (True, False, True, False)
        """
        there = {key: value for key, value in wanted.items() if key in self.entities}
        return all(value is not None and same_value(self.entities[key], str(value)) for key, value in there.items())

    def fits(self, channel: str) -> bool:
        """Whether the file is one of a channel: its suffix, with entities in front where these matter.

        >>> parse_name("sub-01_acq-a_T1w.nii.gz").fits("acq-a_T1w"), parse_name("sub-01_T1w.nii.gz").fits("acq-a_T1w")
        (True, False)
        """
        *entities, suffix = channel.split("_")
        wanted = dict(entity.split("-", 1) for entity in entities if "-" in entity)
        return suffix == self.suffix and set(wanted) <= set(self.entities) and self.agrees(wanted)


def parse_name(name: str) -> BidsName | None:
    """A file's name in parts; None if it is not one of BIDS.

    >>> parse_name("scan_1.nii.gz")
    """
    *pieces, last = strip_suffixes(name).split("_")
    if _ENTITY.fullmatch(last):
        pieces, last = [*pieces, last], ""
    found = [_ENTITY.fullmatch(piece) for piece in pieces]
    if not found or not all(found) or not (last == "" or _WORD.fullmatch(last)):
        return None
    entities = {match[1]: match[2] for match in found if match}
    return BidsName(entities, last) if next(iter(entities)) == "sub" else None


def derivative_name(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], desc: str = "medtransfer", suffix: str = "dseg"
) -> str:
    """The name, without an ending, that BIDS gives to what was computed from a scan.

    Args:
        source: The scan, or the files of its channels; entities in which these differ are left out.
        desc: Who computed it: letters and digits.
        suffix: What it is: ``dseg`` for a segmentation, ``probseg`` for probabilities.

    Raises:
        DatasetError: a file is not named as BIDS demands, or the files are of several subjects or sessions.

    >>> derivative_name("sub-01/ses-1/anat/sub-01_ses-1_run-2_T1w.nii.gz")
    'sub-01_ses-1_run-2_desc-medtransfer_dseg'
    >>> derivative_name(["sub-01_acq-a_T1w.nii.gz", "sub-01_acq-b_FLAIR.nii.gz"])
    'sub-01_desc-medtransfer_dseg'
    """
    if not _WORD.fullmatch(desc) or not _WORD.fullmatch(suffix):
        raise DatasetError(f"desc and suffix of a BIDS name are letters and digits, got {desc!r} and {suffix!r}")
    sources = [source] if isinstance(source, str | os.PathLike) else list(source)
    names = [_parsed(one) for one in sources]
    if len({name.case for name in names}) != 1:
        cases = ", ".join(dict.fromkeys(name.case for name in names)) or "none"
        raise DatasetError(f"the channels of one scan must be of one subject and session, got {cases}")
    first = names[0].entities
    shared = [key for key, value in first.items() if all(name.entities.get(key) == value for name in names)]
    kept = [f"{key}-{first[key]}" for key in shared if key != "desc"]
    return "_".join([*kept, f"desc-{desc}", suffix])


def _parsed(source: str | os.PathLike[str]) -> BidsName:
    name = parse_name(PurePath(source).name)
    if name is None:
        hint = "Rename it as sub-01_T1w.nii.gz is, or leave the option for BIDS names away"
        raise DatasetError("is not named as BIDS demands", path=os.fspath(source), hint=hint)
    return name


def same_value(value: str, wanted: str) -> bool:
    """Whether two values of an entity are equal, as numbers where both are.

    >>> same_value("01", "1"), same_value("01", "a")
    (True, False)
    """
    return int(value) == int(wanted) if value.isdecimal() and wanted.isdecimal() else value == wanted
