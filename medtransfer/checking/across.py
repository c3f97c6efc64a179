"""What only shows when all cases are seen together: leaks, duplicates, classes that are missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ..data.cases import Layout
from ..reporting.words import listed
from .facts import CaseFacts, Problem

Cases = Sequence[CaseFacts]
LEAST_CASES = 2


def dataset_problems(layout: Layout, cases: Cases) -> list[Problem]:
    """Leaks between stated parts and folds, duplicates by content, classes without cases, too few cases."""
    looks: tuple[Callable[[Layout, Cases], Iterable[Problem]], ...] = (_few, _leaks, _duplicates)
    return [problem for look in looks for problem in look(layout, cases)] + class_problems(layout, cases)


def class_problems(layout: Layout, cases: Cases) -> list[Problem]:
    """Labels that stand twice, and classes that too few cases have."""
    return [*_label_twins(layout, cases), *_classes(layout, cases)]


def _few(layout: Layout, cases: Cases) -> Iterator[Problem]:
    if len(cases) < LEAST_CASES:
        yield Problem("warning", "few", f"{len(cases)} case: nothing is left to validate on")


def stated_sides(layout: Layout, cases: Cases) -> dict[str, dict[str, str]]:
    """By name of the division, the part of every case: the dataset's own parts, and its folds."""
    parts = {facts.case: facts.part for facts in cases if facts.part}
    sides = {"": parts} if parts else {}
    for number, fold in enumerate(layout.folds):
        sides[f"fold {number}: "] = {**dict.fromkeys(fold.train, "train"), **dict.fromkeys(fold.val, "val")}
    return sides


def _leaks(layout: Layout, cases: Cases) -> Iterator[Problem]:
    patients = _groups((facts.patient_or_case, facts) for facts in cases)
    for name, parts in stated_sides(layout, cases).items():
        for patient, group in patients.items():
            sides = _by_side(group, parts)
            if len(sides) > 1:
                text = f"{name}patient {patient} is in {_listed_sides(sides)}"
                yield Problem("error", "leak", text, group[0].case, group[0].images[0])


def _duplicates(layout: Layout, cases: Cases) -> Iterator[Problem]:
    contents = _groups(
        (content, facts)
        for facts in cases
        for name, content in facts.hashes.items()
        if not facts.intensities[name].is_constant
    )
    told: set[tuple[str, ...]] = set()
    for group in contents.values():
        names = tuple(facts.case for facts in group)
        if len(set(names)) > 1 and names not in told:
            told.add(names)
            yield _duplicate(layout, cases, group)


def _duplicate(layout: Layout, cases: Cases, group: Cases) -> Problem:
    """An error where one scan can come to stand on both sides of a split."""
    first, file = group[0].case, group[0].images[0]
    names = ", ".join(dict.fromkeys(facts.case for facts in group))
    labels = {facts.label_hash or facts.target for facts in group}
    beside = ", with different labels" if len(labels) > 1 else ""
    divisions = stated_sides(layout, cases)
    for name, parts in divisions.items():
        sides = _by_side(group, parts)
        if len(sides) > 1:
            text = f"{name}the same scan{beside} is in {_listed_sides(sides)}"
            return Problem("error", "leak", text, first, file)
    text = f"{names} hold the same scan{beside}"
    if divisions or len({facts.patient_or_case for facts in group}) == 1:
        return Problem("warning", "duplicate", text, first, file)
    return Problem("error", "duplicate", f"{text}: a split may put it on both sides", first, file)


def _label_twins(layout: Layout, cases: Cases) -> Iterator[Problem]:
    for group in _groups((facts.label_hash, facts) for facts in cases if facts.label_hash).values():
        scans = {tuple(facts.hashes.values()) for facts in group}
        if len(group) > 1 and len(scans) > 1:
            names = ", ".join(facts.case for facts in group)
            yield Problem(
                "warning", "label-twice", f"{names}: one label, different scans", group[0].case, group[0].label
            )


def _classes(layout: Layout, cases: Cases) -> Iterator[Problem]:
    if layout.task == "restoration" or not any(map(_has_classes, cases)):
        return
    names = class_names(layout.task, layout.classes, cases)
    having = {name: [facts for facts in cases if class_voxels(facts, name)] for name in names}
    absent = [name for name in names if not having[name]]
    if absent:
        text = f"no label holds {len(absent)} of {len(names)} classes: {listed(absent)}"
        yield Problem("error", "class-absent", text)
    unseen = {name: _unseen(layout, cases, having[name]) for name in names}
    for name in (name for name in names if unseen[name]):
        cases_having = listed([facts.case for facts in having[name]])
        text = f"{unseen[name]}the class {name} is in validation only: {cases_having}"
        yield Problem("warning", "class-unseen", text)
    seen = {name: having[name] for name in names if not unseen[name]}
    for case, alone in _only_cases(seen).items() if len(cases) > 1 else ():
        yield Problem("warning", "class-rare", f"is the only case of {listed(alone)}", case)


def _has_classes(facts: CaseFacts) -> bool:
    return facts.labels is not None or facts.boxes is not None or bool(facts.target)


def _only_cases(having: Mapping[str, Cases]) -> dict[str, list[str]]:
    """By case, the classes that it alone has."""
    alone: dict[str, list[str]] = defaultdict(list)
    for name, cases in having.items():
        if len(cases) == 1:
            alone[cases[0].case].append(name)
    return alone


def class_names(task: str, classes: Sequence[str], cases: Cases) -> tuple[str, ...]:
    """The classes that cases can have: all of a classification; all but background, or those found, of labels."""
    if task == "classification":
        return tuple(classes)
    found = dict.fromkeys(name for facts in cases for name in facts.labels or ())
    return tuple(classes[1:]) or tuple(sorted(found, key=int))


def class_voxels(facts: CaseFacts, name: str) -> int:
    """Voxels of a class, or its boxes; 1 where the whole case is of it."""
    if facts.target is not None:
        return int(facts.target == name)
    if facts.boxes is not None:
        return len(facts.boxes.get(name, ()))
    size = (facts.labels or {}).get(name)
    return size.voxels if size else 0


def _unseen(layout: Layout, cases: Cases, having: Cases) -> str:
    """The division in which a class is validated and never trained, as the beginning of a sentence; empty if none."""
    for name, parts in stated_sides(layout, cases).items():
        sides = {parts.get(facts.case) for facts in having}
        if "val" in sides and "train" not in sides:
            return name or "as stated, "
    return ""


def _by_side(group: Cases, parts: Mapping[str, str]) -> dict[str, list[str]]:
    sides = _groups((parts[facts.case], facts) for facts in group if facts.case in parts)
    return {side: list(dict.fromkeys(facts.case for facts in there)) for side, there in sides.items()}


def _listed_sides(sides: Mapping[str, Sequence[str]]) -> str:
    return " and ".join(f"{side} ({listed(names)})" for side, names in sides.items())


def _groups(pairs: Iterable[tuple[str | None, CaseFacts]]) -> dict[str, list[CaseFacts]]:
    groups: dict[str, list[CaseFacts]] = defaultdict(list)
    for key, facts in pairs:
        groups[str(key)].append(facts)
    return groups
