"""Fixed, seeded splits of cases into training and validation, never with one patient on both sides."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from ..errors import ConfigError, DatasetError
from .cases import Case, Layout

Share = int | float | list[str] | None


class Split(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How to divide the cases.

    Attributes:
        train: Number of cases, share of them (below 1), list of case ids, or None: all that ``val`` leaves.
        val: The same, for validation. It is drawn first, so that for one seed the validation cases do not depend on
            ``train``, and the 8 cases of ``train=8`` are among the 32 of ``train=32``.
        seed: Seed of the shuffle.
        folds: Number of folds for cross-validation, in place of ``train`` and ``val``. Those of a classification have
            the same share of each class, as far as whole patients allow.
        fold: Which fold validates, from 0: of ``folds``, or of those that the dataset states itself (nnU-Net's
            ``splits_final.json``).
    """

    train: Share = None
    val: Share = None
    seed: int = 0
    folds: int | None = None
    fold: int = 0


def read_split(given: Mapping[str, Any] | Split | None) -> Split:
    """The config key ``split`` as a checked object.

    Raises:
        ConfigError: an unknown key, or a value of the wrong kind.

    >>> read_split(dict(train=8, val=60)).seed
    0
    """
    if isinstance(given, Split):
        return given
    try:
        split = msgspec.convert(dict(given or {}), Split)
    except msgspec.ValidationError as error:
        raise ConfigError(f"split: {error}", hint="Use train, val, seed, or folds, fold, seed") from error
    if split.folds is not None and not (split.folds >= 2 and 0 <= split.fold < split.folds):
        raise ConfigError(f"split: fold must be 0 to folds - 1, got fold {split.fold} of {split.folds}")
    if split.fold < 0:
        raise ConfigError(f"split: fold is counted from 0, got {split.fold}")
    return split


def split_cases(layout: Layout, split: Mapping[str, Any] | Split | None = None) -> tuple[list[Case], list[Case]]:
    """Divide the cases into training and validation.

    Without counts, ids or folds the division that the dataset states itself is used (the folds of nnU-Net's
    ``splits_final.json``, the column ``split`` of a table); failing that, a fifth of the cases validates. Whole
    patients are taken until a number is reached; what is left of the last patient is used on neither side.

    Returns:
        The training cases and the validation cases.

    Raises:
        DatasetError: too few cases, an unknown id, or a patient on both sides.
    """
    split = read_split(split)
    train, val = _divide(layout, split)
    _refuse_leaks(train, val, layout.path)
    if not train:
        raise DatasetError("the split leaves no case for training", path=layout.path)
    return train, val


def _divide(layout: Layout, split: Split) -> tuple[list[Case], list[Case]]:
    if split.train is None and split.val is None and split.folds is None:
        stated = _stated(layout, split)
        if stated is not None:
            return stated
    groups = _shuffled_patients(layout.cases, split.seed)
    if split.folds is not None:
        if layout.task == "classification":
            groups.sort(key=_classes)  # the shuffle stays within a class
        return _fold(groups, split.folds, split.fold, layout.path)
    val_share: Share = 0.2 if split.val is None and split.train is None else split.val
    val = _take(groups, _named(layout, split.train), val_share, layout)
    busy = {case.patient_or_id for case in val}
    rest = [group for group in groups if group[0].patient_or_id not in busy]
    if isinstance(split.train, list):
        return _pick(layout, split.train), val
    return _take(rest, set(), split.train, layout, default_all=True), val


def _named(layout: Layout, share: Share) -> set[str]:
    """Patients that an explicit list claims for the other side."""
    return {case.patient_or_id for case in _pick(layout, share)} if isinstance(share, list) else set()


def _take(
    groups: Sequence[list[Case]], claimed: set[str], share: Share, layout: Layout, default_all: bool = False
) -> list[Case]:
    if isinstance(share, list):
        return _pick(layout, share)
    free = [case for group in groups if group[0].patient_or_id not in claimed for case in group]
    if share is None:
        return free if default_all else []
    count = round(share * len(layout.cases)) if isinstance(share, float) and share < 1 else int(share)
    if not 0 <= count <= len(free):
        raise DatasetError(f"the split asks for {share} cases, {len(free)} are left", path=layout.path)
    return free[:count]


def _pick(layout: Layout, ids: Sequence[str]) -> list[Case]:
    known = {case.id: case for case in layout.cases}
    for name in ids:
        if name not in known:
            near = get_close_matches(name, known, n=3)
            hint = f"Close: {', '.join(near)}" if near else None
            raise DatasetError(f"the split names {name!r}, which is no case", path=layout.path, hint=hint)
    return [known[name] for name in ids]


def _stated(layout: Layout, split: Split) -> tuple[list[Case], list[Case]] | None:
    """The division that the dataset states itself, if it does."""
    if split.fold >= max(1, len(layout.folds)):
        has = f"states {len(layout.folds)} folds" if layout.folds else "states none"
        hint = "Count from 0, or have folds made with split=dict(folds=5, fold=...)"
        raise DatasetError(f"fold {split.fold} is asked for, but the dataset {has}", path=layout.path, hint=hint)
    if layout.folds:
        fold = layout.folds[split.fold]
        return _pick(layout, fold.train), _pick(layout, fold.val)
    return _stated_parts(layout) if any(case.part for case in layout.cases) else None


def _stated_parts(layout: Layout) -> tuple[list[Case], list[Case]]:
    parts: dict[str, list[Case]] = {"train": [], "val": []}
    for case in layout.cases:
        if case.part not in (*parts, "test", None):
            raise DatasetError(f"split {case.part!r} of case {case.id!r} is not train, val or test", path=layout.path)
        parts.setdefault(case.part or "none", []).append(case)
    return parts["train"], parts["val"]


def _fold(groups: list[list[Case]], folds: int, fold: int, path: Path) -> tuple[list[Case], list[Case]]:
    if folds > len(groups):
        raise DatasetError(f"{folds} folds need as many patients, there are {len(groups)}", path=path)
    val = [case for group in groups[fold::folds] for case in group]
    train = [case for number, group in enumerate(groups) if number % folds != fold for case in group]
    return train, val


def _classes(group: Sequence[Case]) -> list[int]:
    """The classes of a patient's cases, in order."""
    return sorted(case.label for case in group if isinstance(case.label, int))


def _shuffled_patients(cases: Sequence[Case], seed: int) -> list[list[Case]]:
    groups: dict[str, list[Case]] = {}
    for case in sorted(cases, key=lambda case: case.id):
        groups.setdefault(case.patient_or_id, []).append(case)
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    return order


def _refuse_leaks(train: Sequence[Case], val: Sequence[Case], path: Path) -> None:
    both = {case.patient_or_id for case in train} & {case.patient_or_id for case in val}
    if both:
        names = ", ".join(sorted(both)[:8])
        raise DatasetError(f"patients in training and in validation: {names}", path=path, hint="Split by patient")
