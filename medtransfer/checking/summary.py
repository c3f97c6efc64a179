"""What was found in words: errors first, equal words said once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from ..reporting.words import counted, listed
from .facts import CaseFacts, Problem
from .rules import RULES

SHOWN = 8  # problems of one rule that are written out
_NAMES = 4  # cases that are named where many have the same problem


def verdict(problems: Sequence[Problem]) -> str:
    """The count of errors and warnings.

    >>> verdict([]), verdict([Problem("error", "few", "1 case")])
    ('no problem was found', '1 error, 0 warnings')
    """
    if not problems:
        return "no problem was found"
    errors = sum(problem.severity == "error" for problem in problems)
    return f"{counted(errors, 'error')}, {counted(len(problems) - errors, 'warning')}"


def refusal(data: object, problems: Sequence[Problem]) -> str:
    """Why data are refused, on one line: the only error with its file and what to do, else how many there are.

    >>> refusal("liver", [Problem("error", "few", "1 case"), Problem("warning", "volume", "liver has 0.1 ml")])
    'liver: 1 case. At least two are needed to train and to validate.'
    >>> refusal("liver", [Problem("warning", "volume", "liver has 0.1 ml")])
    'liver: 0 errors, 1 warning'
    """
    errors = [problem for problem in problems if problem.severity == "error"]
    if len(errors) != 1:
        return f"{data}: {verdict(problems)}"
    (only,) = errors
    # what the gate refuses says its own way out
    advice = "" if ". " in only.text else f". {RULES[only.rule].advice}"
    return f"{only.file or data}: {only.text}{advice}"


def ranges(cases: Sequence[CaseFacts]) -> list[str]:
    """Shapes, spacings and orientations of the cases that could be read, a line."""
    grids = [facts.grid for facts in cases if facts.grid is not None]
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


def paragraphs(problems: Sequence[Problem]) -> list[str]:
    """A paragraph for each kind of error, then of warning."""
    parts = []
    for (severity, word), group in groupby(problems, key=lambda problem: (problem.severity, problem.rule)):
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
    return listed([name for name in dict.fromkeys(names) if name], _NAMES)


def _where(problem: Problem) -> str:
    """The case, and its file where that has another name; of a problem of no case, the file."""
    name = problem.file.name if problem.file else ""
    if not problem.case or not name or name.startswith(f"{problem.case}."):
        return problem.case or name
    return f"{problem.case} ({name})"
