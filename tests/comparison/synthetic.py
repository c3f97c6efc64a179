"""Results of runs that never ran, with known truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medtransfer.comparison.results import RunResult

STAGES = ("stem", "layer1", "layer2", "layer3")


def made_run(arm: str, size: int, seed: int, dice: Sequence[float] | Mapping[str, dict], **fields: object) -> RunResult:
    """A run of a segmentation with one class, or with the cases given as they are."""
    source, _, policy = arm.rpartition("/")
    cases = dice if isinstance(dice, Mapping) else {f"c{i:03d}": {"organ": value} for i, value in enumerate(dice)}
    given = {
        "arm": arm, "source": source or None, "policy": policy if source else "full", "training_cases": size,
        "seed": seed, "steps": 500, "task": "segmentation", "classes": ["background", "organ"], "cases": dict(cases),
        "curve": [(0, 1.0), (500, 0.2)], "drift": {"stem": 0.9} if source else None, "dead": {"stem": 0.0},
        "seconds": 60.0, "versions": {"torch": "2.10.0"}, **fields,
    }  # fmt: skip
    return RunResult(**given)


def crossed(
    truth: Mapping[tuple[str, int], float],
    num_seeds: int,
    num_cases: int,
    spreads: tuple[float, float, float],
    generator: np.random.Generator,
) -> list[RunResult]:
    """Runs whose score is the truth plus effects of the seed, the case and of both together.

    Half of the variance of each effect is common to all arms and sizes, as when training and test cases are shared.

    Args:
        truth: Expected score by (arm, size).
        num_seeds, num_cases: How many are drawn.
        spreads: Standard deviations of the effects of seeds, cases, and the rest.
        generator: Of the random numbers.
    """

    def effects(spread: float, *shape: int) -> np.ndarray:
        return generator.normal(0, spread / np.sqrt(2), shape)

    by_seed, by_case = effects(spreads[0], num_seeds, 1), effects(spreads[1], 1, num_cases)
    runs = []
    for (arm, size), mean in truth.items():
        own = effects(spreads[0], num_seeds, 1) + effects(spreads[1], 1, num_cases)
        rest = generator.normal(0, spreads[2], (num_seeds, num_cases))
        scores = mean + by_seed + by_case + own + rest
        runs += [made_run(arm, size, seed, list(map(float, row))) for seed, row in enumerate(scores)]
    return runs


def learning_curve(arms: Sequence[str], sizes: Sequence[int], gains: Sequence[float]) -> dict[tuple[str, int], float]:
    """Scratch rises with log2 of the size; an arm starts higher by its gain, which shrinks as cases are added."""
    fewest = np.log2(sizes[0])
    return {
        (arm, size): 0.62 + 0.07 * (np.log2(size) - fewest) + gain * 0.6 ** (np.log2(size) - fewest)
        for arm, gain in zip(arms, gains, strict=True)
        for size in sizes
    }


def full_comparison(seeds: int = 3, cases: int = 40, sources: int = 2, random_seed: int = 0) -> list[RunResult]:
    """Sources x 3 policies and scratch at 4, 8, 16 and 32 cases, with curves, drift and dead features."""
    generator = np.random.default_rng(random_seed)
    names = ("genesis", "ct_organ", "mednet", "imagenet")[:sources]
    policies = ("frozen", "lp_ft", "full")
    arms = ["scratch", *(f"{source}/{policy}" for source in names for policy in policies)]
    gains = [0.0, *np.resize([-0.03, 0.07, 0.09, -0.06, 0.0, 0.02], len(arms) - 1)]
    truth = learning_curve(arms, (4, 8, 16, 32), gains)
    runs = crossed(truth, seeds, cases, (0.01, 0.06, 0.03), generator)
    return [_with_features(run, generator) for run in runs]


def _with_features(run: RunResult, generator: np.random.Generator) -> RunResult:
    steps = np.linspace(0, 500, 51)
    loss = 0.25 + 0.9 * np.exp(-steps / (90 if run.source else 130)) + generator.normal(0, 0.02, len(steps))
    drift = {name: float(1 - 0.12 * i * generator.uniform(0.8, 1.2)) for i, name in enumerate(STAGES)}
    still = dict.fromkeys(STAGES, 1.0)
    return made_run(
        run.arm, run.training_cases, run.seed, run.cases,
        curve=[(int(step), float(value)) for step, value in zip(steps, loss, strict=True)],
        drift=None if run.source is None else (still if run.policy == "frozen" else drift),
        dead={name: float(generator.choice([0, 0, 0.0625])) for name in STAGES},
    )  # fmt: skip
