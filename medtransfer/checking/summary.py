"""A checkup as text for people: what was found, errors first, equal words said once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from .rules import RULES

if TYPE_CHECKING:
    from .checkup import Checkup, Problem

SHOWN = 8  # problems of one rule that are written out
_NAMES = 4  # cases that are named where many have the same problem


def summary_text(checkup: Checkup) -> str:
    """The whole summary, one problem a line.

    >>> from pathlib import Path
    >>> from .checkup import Checkup, Problem
    >>> problems = tuple(Problem("warning", "label-empty", "the label is empty", name) for name in "ab")
    >>> print(Checkup(Path("liver"), "segmentation", ("CT",), ("background", "liver"), (), problems))
    liver: segmentation, 0 cases, channel CT, classes background, liver
    <BLANKLINE>
    warning: Labels without any class (label-empty)
      a, b: the label is empty
      -> Fine where nothing is to be found; else the label is missing.
    <BLANKLINE>
    0 errors, 2 warnings
    """
    parts = [_head(checkup), *_groups(checkup)]
    if checkup.notes:
        parts.append("\n".join(f"note: {note}" for note in checkup.notes))
    parts.append(verdict(checkup))
    return "\n\n".join(parts)


def verdict(checkup: Checkup) -> str:
    """The count of errors and warnings.

    >>> from pathlib import Path
    >>> from .checkup import Checkup
    >>> verdict(Checkup(Path("liver")))
    'no problem was found'
    """
    if not checkup.problems:
        return "no problem was found"
    return f"{counted(len(checkup.errors), 'error')}, {counted(len(checkup.warnings), 'warning')}"


def counted(number: int, word: str) -> str:
    """A number with its noun.

    >>> counted(1, "case"), counted(2, "case")
    ('1 case', '2 cases')
    """
    return f"{number} {word}{'' if number == 1 else 's'}"


def _head(checkup: Checkup) -> str:
    if not checkup.task:
        return f"{checkup.data}: no dataset could be read"
    channels = f"channel{'s' * (len(checkup.channels) > 1)} {', '.join(checkup.channels)}"
    head = f"{checkup.data}: {checkup.task}, {counted(len(checkup.cases), 'case')}, {channels}"
    if checkup.task != "restoration":
        head += f", classes {named(checkup.classes)}"
    return "\n".join([head, *ranges(checkup)])


def named(names: Sequence[str], most: int = 12) -> str:
    """Names, of many the first."""
    return ", ".join(names[:most]) + (f" ... ({len(names)} in all)" if len(names) > most else "")


def ranges(checkup: Checkup) -> list[str]:
    """Shapes, spacings and orientations of the cases that could be read, a line."""
    grids = [facts.grid for facts in checkup.cases if facts.grid is not None]
    if not grids:
        return []
    shape = _each_axis([grid.shape for grid in grids], "d")
    spacing = _each_axis([grid.spacing for grid in grids], ".3g")
    return [f"{shape} voxels of {spacing} mm, {', '.join(sorted({grid.orientation for grid in grids}))}"]


def _each_axis(sizes: Sequence[Sequence[float]], form: str) -> str:
    """The range along each axis as stored.

    >>> _each_axis([(30, 40, 50), (30, 45, 40)], "d")
    '30 x 40-45 x 40-50'
    """
    ends = [(f"{min(axis):{form}}", f"{max(axis):{form}}") for axis in zip(*sizes, strict=True)]
    return " x ".join(low if low == high else f"{low}-{high}" for low, high in ends)


def _groups(checkup: Checkup) -> list[str]:
    """A paragraph for each kind of error, then of warning."""
    parts = []
    for (severity, word), group in groupby(checkup.problems, key=lambda problem: (problem.severity, problem.rule)):
        lines = [f"{subject}: {text}" if subject else text for subject, text in said(list(group))]
        rest = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        head = f"{severity}: {RULES[word].title} ({word})"
        body = [f"  {line}" for line in [*lines[:SHOWN], *rest, f"-> {RULES[word].advice}"]]
        parts.append("\n".join([head, *body]))
    return parts


def said(problems: Sequence[Problem]) -> list[tuple[str, str]]:
    """The problems as (cases, text); cases with the same words share one."""
    texts: dict[str, list[str]] = {}
    for problem in problems:
        texts.setdefault(problem.text, []).append(_where(problem))
    return [(_subjects(names), text) for text, names in texts.items()]


def _subjects(names: Sequence[str]) -> str:
    known = [name for name in dict.fromkeys(names) if name]
    if not known:
        return ""
    more = f" and {len(known) - _NAMES} more" if len(known) > _NAMES else ""
    return f"{', '.join(known[:_NAMES])}{more}"


def _where(problem: Problem) -> str:
    """The case, and its file where that has another name; of a problem of no case, the file."""
    name = problem.file.name if problem.file else ""
    if not problem.case or not name or name.startswith(f"{problem.case}."):
        return problem.case or name
    return f"{problem.case} ({name})"
