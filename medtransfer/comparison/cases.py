"""Which cases test, and which train: the test cases are the same for all runs, the training cases nested."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from ..data.cases import Case, Layout
from ..data.splits import Split, split_cases
from ..errors import ConfigError


def divide_cases(layout: Layout, split: Mapping[str, Any] | Split | None, most: int) -> tuple[list[Case], list[Case]]:
    """The cases that test, and those that training cases are drawn from: the two sides of the config's split.

    Args:
        layout: All cases.
        split: The config's key ``split``.
        most: The largest number of training cases that is asked for.

    Raises:
        ConfigError: no case is left for the test, or too few for training.
        DatasetError: the split was refused.
    """
    pool, test = split_cases(layout, split)
    if not test:
        hint = "Set a number of cases that only test, as in split=dict(val=60, seed=0)"
        raise ConfigError("compare: the split leaves no case for the test", path=layout.path, hint=hint)
    if most > len(pool):
        reason = f"compare.cases asks for {most} training cases, but {len(pool)} are left beside {len(test)} test cases"
        raise ConfigError(reason, path=layout.path, hint="Ask for fewer, or test with fewer (split.val)")
    return test, pool


def training_order(pool: Sequence[Case], seed: int) -> list[Case]:
    """The order in which a seed takes cases: the first 4 are among the first 8, whatever else is compared.

    In a classification one case of each class comes first, so that the smallest number has all of them.

    >>> cases = [Case(name, (), label) for name, label in zip("abcd", [0, 0, 0, 1])]
    >>> sorted(case.label for case in training_order(cases, 0)[:2])
    [0, 1]
    """
    order = sorted(pool, key=lambda case: case.id)
    random.Random(f"training cases {seed}").shuffle(order)
    firsts = list({case.label: case for case in reversed(order) if isinstance(case.label, int)}.values())
    return [*firsts, *(case for case in order if case not in firsts)]
