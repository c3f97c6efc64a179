"""BIDS folders: ``sub-*/[ses-*/]anat/..._T1w.nii.gz``, labels in ``derivatives/*/`` with the suffix ``dseg``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DatasetError
from .bids_names import BidsName, derivative_name, parse_name, same_value
from .cases import SUFFIXES, Case, Found, Layout, Task
from .class_names import find_class_names
from .fields import ordered_names
from .rows import read_rows

__all__ = ["derivative_name", "find_bids"]

LABEL = "dseg"
#: folders of a subject that hold series over time, or no images of structure
NOT_VOLUMES = frozenset({"func", "dwi", "fmap", "perf", "meg", "eeg", "ieeg", "beh", "nirs", "motion"})
NOT_SCANS = frozenset({LABEL, "mask", "probseg", "defacemask"})
#: what a label file may have in its name without the scan having it
OF_LABELS = frozenset({"desc", "space", "res", "den", "label", "seg", "atlas", "hemi"})
PIPELINE = "pipeline"
HINT = "Choose files with select (select.run=1) and name the channels wanted (channels=['T1w'])"


@dataclass(frozen=True)
class _File:
    path: Path
    name: BidsName
    pipeline: str = ""


def find_bids(
    root: str | Path,
    channels: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    select: Mapping[str, Any] | None = None,
) -> Found:
    """What is found of a BIDS folder: one case per subject and session, each with one file per channel and one label.

    Without any label its cases are scans to restore.

    Args:
        root: The folder that holds ``sub-*``.
        channels: The suffixes that are the channels, in order, with entities in front where these matter:
            ``["T1w", "acq-hires_T2w"]``. By default the suffixes that at least half the cases have, sorted.
        classes: Names of the classes in order. By default those of a ``*dseg.tsv`` or ``labels.json`` in the folder of
            the derivatives.
        select: Entities that files must have where they have them at all, as ``{"run": 1, "desc": "manual"}``; None
            demands that an entity is not there; ``pipeline`` names the folder in ``derivatives``.

    Returns:
        With a problem for a case that lacks a channel or its label, or for which several files match.
    """
    root, select = Path(root), dict(select or {})
    problems: list[str] = []
    warnings: list[str] = []
    scans = [file for file in _scans(root) if file.name.agrees(select)]
    labels = [file for file in _labels(root) if _selected(file, select)]
    names = tuple(channels or _usual_suffixes(scans, warnings))
    task: Task = "segmentation" if labels else "restoration"
    known = tuple(classes or _classes(root, labels, problems)) if labels else names
    groups: dict[str, list[_File]] = {}
    for file in scans:
        groups.setdefault(file.name.case, []).append(file)
    cases = tuple(case for files in groups.values() if (case := _case(files, names, labels, root, problems)))
    orphans = sorted({file.name.case for file in labels} - set(groups))
    warnings += [f"{case} has a label but no scan" for case in orphans]
    warnings += [] if labels else [f"no label: there is no derivatives/*/sub-*/..._{LABEL}.nii.gz"]
    problems += [] if groups else ["holds no scan of structure in sub-*" + (" that is selected" if select else "")]
    layout = Layout(root, task, cases, names, known, tuple(warnings)) if cases else None
    return Found(root, "bids", layout, tuple(problems), tuple(warnings), HINT if groups else None)


def _scans(root: Path) -> Iterator[_File]:
    for path, name in _named(root, root.glob("sub-*")):
        folders = set(path.relative_to(root).parts[1:-1])
        if name.suffix and name.suffix not in NOT_SCANS and not folders & NOT_VOLUMES:
            yield _File(path, name)


def _labels(root: Path) -> Iterator[_File]:
    for pipeline in sorted((root / "derivatives").glob("*")):
        for path, name in _named(pipeline, pipeline.glob("sub-*")):
            if name.suffix == LABEL:
                yield _File(path, name, pipeline.name)


def _named(root: Path, folders: Iterator[Path]) -> Iterator[tuple[Path, BidsName]]:
    """The volumes in folders of subjects, with their names in parts."""
    for folder in sorted(folders):
        for path in sorted(folder.rglob("*")):
            name = parse_name(path.name) if path.name.lower().endswith(SUFFIXES) else None
            # of a pair .hdr and .img one file stands for both
            if name is not None and not path.name.lower().endswith(".img") and path.is_file():
                yield path, name


def _selected(file: _File, select: Mapping[str, Any]) -> bool:
    return file.name.agrees(select) and select.get(PIPELINE, file.pipeline) == file.pipeline


def _usual_suffixes(scans: Sequence[_File], warnings: list[str]) -> list[str]:
    """The suffixes that at least half the cases have; the others are a warning."""
    cases = {file.name.case for file in scans}
    counts = Counter(suffix for _, suffix in {(file.name.case, file.name.suffix) for file in scans})
    usual = sorted(suffix for suffix, count in counts.items() if 2 * count >= len(cases))
    rare = sorted(set(counts) - set(usual))
    warnings += [f"{suffix} is left out: {counts[suffix]} of {len(cases)} cases have it" for suffix in rare if usual]
    return usual or sorted(counts)


def _case(
    files: Sequence[_File], channels: Sequence[str], labels: Sequence[_File], root: Path, problems: list[str]
) -> Case | None:
    """The case of a subject's session, if each channel and the label have exactly one file."""
    case, before = files[0].name.case, len(problems)
    images = [
        _only([file for file in files if file.name.fits(name)], f"{case}: {name}", root, problems) for name in channels
    ]
    chosen = [image for image in images if image is not None]
    belonging = [label for label in labels if label.name.case == case and _belongs(label.name, chosen or files)]
    label = _only(belonging, f"{case}: its label", root, problems) if labels else None
    if len(problems) > before:
        return None
    return Case(
        case,
        tuple(image.path for image in chosen),
        label.path if label else None,
        f"sub-{files[0].name.entities['sub']}",
    )


def _only(matches: Sequence[_File], what: str, root: Path, problems: list[str]) -> _File | None:
    if len(matches) != 1:
        listed = ", ".join(file.path.relative_to(root).as_posix() for file in matches)
        problems.append(f"{what} is one of {len(matches)} files: {listed}" if matches else f"{what} is missing")
        return None
    return matches[0]


def _belongs(label: BidsName, images: Sequence[_File]) -> bool:
    """Whether each entity of the label that some scan has too has the value of one of them."""
    for key in set(label.entities) - OF_LABELS:
        values = {image.name.entities[key] for image in images if key in image.name.entities}
        if values and not any(same_value(label.entities[key], value) for value in values):
            return False
    return True


def _classes(root: Path, labels: Sequence[_File], problems: list[str]) -> tuple[str, ...]:
    """Names from the lookup table of the derivatives (columns ``index`` and ``name``), or from a ``labels.json``."""
    folders = [root / "derivatives" / name for name in dict.fromkeys(label.pipeline for label in labels)]
    for table in (table for folder in folders for table in sorted(folder.glob(f"*{LABEL}.tsv"))):
        return _names_in_table(table, problems)
    named = (find_class_names(folder, problems) for folder in (*folders, root))
    return next((names for names in named if names), ())


def _names_in_table(path: Path, problems: list[str]) -> tuple[str, ...]:
    try:
        columns, rows, _ = read_rows(path)
    except DatasetError as error:
        problems.append(f"{path.name}: {error.reason}")
        return ()
    if not {"index", "name"} <= set(columns):
        problems.append(f"{path.name}: columns index and name are needed, found {', '.join(columns)}")
        return ()
    return ordered_names(
        {"0": "background", **{row.get("index"): row.get("name") for row in rows}}, path.name, problems
    )
