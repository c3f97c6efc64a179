"""The finished runs of a comparison by arm, number of labelled cases and seed, checked to be comparable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import DatasetError, UsageError
from .results import SCRATCH, RunResult


@dataclass(frozen=True)
class Gathered:
    """Runs that answered the same test cases.

    Attributes:
        runs: By (arm, number of labelled cases), then by seed.
        arms: ``scratch`` first, then in the order of the results.
        sizes: Numbers of labelled cases, rising.
        seeds: All seeds, rising.
        test_cases: Ids of the test cases, sorted; the order of every array of cases.
    """

    runs: Mapping[tuple[str, int], Mapping[int, RunResult]]
    arms: tuple[str, ...]
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    test_cases: tuple[str, ...]

    @property
    def first(self) -> RunResult:
        """Any run: task, classes and test cases are those of all."""
        return next(iter(next(iter(self.runs.values())).values()))

    @property
    def all_runs(self) -> list[RunResult]:
        """The runs by arm, size and seed."""
        return [run for cell in self.cells for _, run in sorted(self.runs[cell].items())]

    @property
    def cells(self) -> list[tuple[str, int]]:
        """The (arm, size) that have a run, in the order of arms and sizes."""
        return [(arm, size) for arm in self.arms for size in self.sizes if (arm, size) in self.runs]

    @property
    def missing(self) -> list[tuple[str, int, int]]:
        """(arm, size, seed) of every run that the others make one expect."""
        wanted = [(arm, size, seed) for arm in self.arms for size in self.sizes for seed in self.seeds]
        return [(arm, size, seed) for arm, size, seed in wanted if seed not in self.runs.get((arm, size), {})]


def gather(results: Sequence[RunResult]) -> Gathered:
    """Sort the runs, and refuse those that cannot be compared.

    Raises:
        UsageError: there is no run.
        DatasetError: two results of one run, or runs of different tasks, classes or test cases.
    """
    if not results:
        raise UsageError("there is no finished run to compare", hint="Let at least one run finish")
    _refuse_strangers(results)
    runs: dict[tuple[str, int], dict[int, RunResult]] = {}
    for run in results:
        seeds = runs.setdefault((run.arm, run.training_cases), {})
        if run.seed in seeds:
            raise DatasetError(f"two results of {_name(run)}", hint="Delete one of the two files")
        seeds[run.seed] = run
    arms = dict.fromkeys(run.arm for run in results)
    return Gathered(
        runs,
        tuple(sorted(arms, key=lambda arm: arm != SCRATCH)),
        tuple(sorted({run.training_cases for run in results})),
        tuple(sorted({run.seed for run in results})),
        tuple(sorted(results[0].cases)),
    )


def _refuse_strangers(results: Sequence[RunResult]) -> None:
    first = results[0]
    for run in results:
        same = {
            "tasks": run.task == first.task,
            "classes": run.classes == first.classes,
            "test cases": run.cases.keys() == first.cases.keys(),
        }
        different = [what for what, equal in same.items() if not equal]
        if different:
            raise DatasetError(
                f"{_name(run)} and {_name(first)} have different {' and '.join(different)}, so they cannot be compared",
                hint="Delete the results that belong to another config and run compare again",
            )
    if not first.cases:
        raise DatasetError(f"{_name(first)} has no test case")


def _name(run: RunResult) -> str:
    return f"{run.arm} with {run.training_cases} cases, seed {run.seed}"
