"""Tables with several targets a case: what each column is, told by its cells, and every target checked alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ..checkpoint.wording import shown
from ..data.cases import Found, Layout
from ..data.rows import read_columns, read_rows
from ..data.table import is_file, is_fraction, is_image_column
from ..data.targets import Head, Target, TargetLayout, find_targets, is_unknown
from ..errors import DatasetError
from .across import class_problems
from .exam import Examined
from .facts import CaseFacts, ClassSize, Problem
from .outliers import unlike_volumes

#: columns that say something of a case and are no target of it
NO_TARGETS = ("id", "patient", "split", "label")
Task = Literal["segmentation", "classification", "regression"]
Examine = Callable[[Layout], list[Examined]]


def with_targets(found: Found) -> Found:
    """A table that lacks the column ``label``, as one of several targets if it can be one; else as it was found."""
    if found.layout is not None or found.kind != "table" or not found.path.is_file():
        return found
    if "label" in (columns := read_columns(found.path)) or not any(map(is_image_column, columns)):
        return found
    try:
        targets = assume_targets(found.path)
    except DatasetError:  # what is wrong with it was found before
        return found
    return find_targets(found.path, targets) if targets else found


def assume_targets(path: Path) -> dict[str, Target]:
    """What the columns of a table seem to be: a config says it (``targets``), and is not asked for here.

    Files are masks. Fractions are quantities, and so are numbers of which few come twice. Other words are classes, and
    no target at all if few of them come twice, such as names.

    Raises:
        DatasetError: the table cannot be read.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "table.csv"
    >>> _ = path.write_text("image,mask,ill,age,who\\na.nii,m.nii,y,61,Ada\\nb.nii,,n,47,Bo\\nc.nii,,y,,Cy\\n")
    >>> {name: target.task for name, target in assume_targets(path).items()}
    {'mask': 'segmentation', 'ill': 'classification', 'age': 'classification'}
    """
    columns, rows, _ = read_rows(path)
    targets: dict[str, Target] = {}
    for name in _candidates(columns):
        task = _task([cell for row in rows if not is_unknown(cell := row.get(name))], path.parent)
        targets |= {name: Target(task)} if task else {}
    return targets


def _candidates(columns: Sequence[str]) -> list[str]:
    return [name for name in columns if name and not is_image_column(name) and name not in NO_TARGETS]


def _task(cells: Sequence[str], root: Path) -> Task | None:
    if any(is_file(cell, root) for cell in cells):
        return "segmentation"
    if any(map(is_fraction, cells)):
        return "regression"
    if cells and len(set(cells)) <= max(2, len(cells) // 2):
        return "classification"
    return "regression" if cells and all(map(_is_number, cells)) else None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def target_notes(layout: Layout) -> list[str]:
    """How the columns of a table of several targets were understood."""
    if not isinstance(layout, TargetLayout):
        return []
    told = ", ".join(f"{head.name} ({head.task})" for head in layout.heads)
    # a column of numbers with one cell that is none is among them
    left = [name for name in _candidates(read_columns(layout.path)) if name not in layout.classes]
    notes = [f"columns that were taken for no target, and not checked: {', '.join(map(shown, left))}"] if left else []
    return [f"the columns were taken for these targets, by their cells: {told}", *notes]


def look_at_targets(
    layout: TargetLayout, cases: Sequence[CaseFacts], examine: Examine
) -> tuple[list[CaseFacts], list[Problem]]:
    """Every target alone: its masks, each beside its scan, and its classes over all cases that have it.

    Args:
        layout: The table.
        cases: What was measured of the scans.
        examine: Reads all cases of a layout.

    Returns:
        The cases with the sizes of ``TARGET: CLASS`` in all their masks, and the problems, each with its target.
    """
    known, problems = {facts.case: facts for facts in cases}, []
    for head in (head for head in layout.heads if head.task != "regression"):
        one = layout.single(head)
        own = _masked(one, examine) if head.task == "segmentation" else (_classified(one, known), [])
        found = [*own[1], *class_problems(one, own[0]), *unlike_volumes(one, own[0])]
        problems += [replace(problem, text=f"{head.name}: {problem.text}") for problem in found]
        known |= {facts.case: _with_sizes(known[facts.case], head, facts) for facts in own[0]}
    return list(known.values()), problems


def _masked(layout: Layout, examine: Examine) -> tuple[list[CaseFacts], list[Problem]]:
    """What is wrong with the scans is known already."""
    examined = examine(layout)
    problems = [problem for _, own in examined for problem in own if problem.rule.startswith("label")]
    return [facts for facts, _ in examined], problems


def _classified(layout: Layout, known: dict[str, CaseFacts]) -> list[CaseFacts]:
    numbers = {case.id: case.label for case in layout.cases if isinstance(case.label, int)}
    return [replace(known[case], labels=None, target=layout.classes[number]) for case, number in numbers.items()]


def _with_sizes(facts: CaseFacts, head: Head, own: CaseFacts) -> CaseFacts:
    if own.labels is None:
        return facts
    sizes: dict[str, ClassSize] = {f"{head.name}: {name}": size for name, size in own.labels.items()}
    return replace(facts, labels={**(facts.labels or {}), **sizes}, bytes=facts.bytes + _bytes(own))


def _bytes(facts: CaseFacts) -> int:
    return facts.label.stat().st_size if facts.label and facts.label.is_file() else 0
