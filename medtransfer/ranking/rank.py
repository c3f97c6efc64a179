"""Choosing the source before training: sources in the order of what their frozen features say about the classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import torch

from ..data.class_names import with_classes
from ..data.layouts import read_layout
from ..devices import choose_device
from ..errors import DatasetError, UsageError
from .contenders import Contender, build_contender, read_names
from .halves import Halves, draw_halves, interval_of, probabilities_best, probability_better
from .ranking import Ranking, Rated, advise, cautions_of
from .samples import Samples, choose_cases, compute_kernels, draw_samples
from .scores import Evidence, weigh

#: untrained networks of each kind
UNTRAINED = 3
CASES = 40
#: random halves of the patients
HALVES = 200


def rank_sources(
    data: str | Path,
    sources: Sequence[str | Path] | Mapping[str, str | Path],
    cases: int = CASES,
    seed: int = 0,
    *,
    dialect: str | None = None,
    input_channels: str = "interpolate",
    stages: Literal["auto", "all", "deepest"] = "auto",
    device: str | torch.device = "auto",
    log: Callable[[str], None] | None = None,
) -> Ranking:
    """Rank weight files and model folders for a dataset, without training.

    Each source's encoder stands in its own architecture, takes the data's channels as :func:`transfer` adapts them,
    and is frozen. A classification is scored by the features of each case, pooled over the scan; a segmentation by
    those at labelled voxels, as many of each class, of all stages. The score is LogME; beside it stands the shrunk
    H-score. Random halves of the patients say how sure both are, and networks of the same kind with random weights say
    what the architecture alone is worth.

    Args:
        data: A Decathlon folder (or its ``dataset.json``) for a segmentation, a CSV table for a classification.
        sources: Paths, ``NAME=PATH``, or a mapping of names to paths.
        cases: How many cases to look at, at most.
        seed: Of the choice of cases and voxels, and of the halves.
        dialect: The sources' format by name, when it should not be told from the content.
        input_channels: How input convolutions take the data's channels, see :func:`transfer`.
        stages: Whose features: ``auto`` is ``all`` for a segmentation and ``deepest`` for a classification.
        device: Where networks compute: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        log: Called with lines about the progress.

    Raises:
        DatasetError, VolumeError: the dataset or a scan was refused.
        CheckpointError, TransferError: a source was refused.
        UsageError: an option that cannot be, or two sources of one name.
    """
    _refuse_options(cases, stages)
    paths = read_names(sources)
    layout = with_classes(read_layout(data))
    if layout.task not in ("segmentation", "classification"):
        hint = "Rank for masks of the same structures; a detector's encoder may be among the sources"
        raise DatasetError(
            f"is for {layout.task}, features are ranked for masks or classes", path=layout.path, hint=hint
        )
    contenders = [build_contender(name, path, layout.channels, dialect, input_channels) for name, path in paths.items()]
    rng = np.random.default_rng(seed)
    samples = draw_samples(layout, choose_cases(layout, cases, rng), contenders, rng)
    halves = draw_halves(samples.groups, samples.strata, rng, HALVES)
    deepest = stages == "deepest" or (stages == "auto" and layout.task == "classification")
    scored = _score(contenders, samples, halves, deepest, choose_device(device), log or (lambda line: None))
    rated = sorted(_rated_sources(contenders, *scored), key=lambda one: -one.score)
    ranking = Ranking(
        data=str(data),
        task=layout.task,
        classes=samples.cases_of_classes,
        cases=len(samples.cases),
        patients=len(set(samples.groups)),
        samples=len(samples.labels),
        stages="deepest" if deepest else "all",
        seed=seed,
        halves=len(halves.rows),
        sources=rated,
        untrained=_rated_untrained(contenders, scored[1]),
        advice=advise(rated),
    )
    return replace(ranking, cautions=[*cautions_of(ranking), *_shortened(layout.warnings)])


def _shortened(warnings: Sequence[str]) -> list[str]:
    """The dataset's first warning and how many more there are: a folder may hold hundreds of unlisted scans."""
    more = f" (and {len(warnings) - 1} more warnings about the dataset)" if len(warnings) > 1 else ""
    return [f"{warning}{more}" for warning in warnings[:1]]


def _refuse_options(cases: int, stages: str) -> None:
    if cases < 2:
        raise UsageError(f"cases must be at least 2, got {cases}")
    if stages not in ("auto", "all", "deepest"):
        raise UsageError(f"stages must be auto, all or deepest, got {stages!r}")


def _score(
    contenders: Sequence[Contender],
    samples: Samples,
    halves: Halves,
    deepest: bool,
    device: torch.device,
    log: Callable[[str], None],
) -> tuple[list[Evidence], dict[str, list[Evidence]]]:
    """The evidence of each contender; and of the untrained networks of each build, which contenders may share."""
    trained, untrained = [], {}
    for contender in contenders:
        known = contender.build in untrained
        twins = [] if known else [contender.untrained(seed) for seed in range(UNTRAINED)]
        log(f"{contender.name}: features of {len(samples.cases)} cases in {contender.network}")
        kernels = compute_kernels(contender, twins, samples, deepest, device)
        first, *others = [weigh(kernel, samples.labels, halves) for kernel in kernels]
        trained.append(first)
        if not known:
            untrained[contender.build] = others
    return trained, untrained


def _rated_sources(
    contenders: Sequence[Contender], trained: Sequence[Evidence], untrained: Mapping[str, Sequence[Evidence]]
) -> list[Rated]:
    best = probabilities_best(np.stack([evidence.logme_replicates for evidence in trained]))
    rated = []
    for contender, evidence, probability in zip(contenders, trained, best, strict=True):
        twins = np.stack([twin.logme_replicates for twin in untrained[contender.build]])
        one = Rated(
            name=contender.name,
            network=contender.network,
            score=evidence.logme,
            interval=interval_of(evidence.logme_replicates),
            h_score=evidence.h_score,
            h_score_interval=interval_of(evidence.h_score_replicates),
            probability_best=probability,
            probability_better_than_untrained=probability_better(evidence.logme_replicates, twins),
            path=str(contender.path),
            format=contender.format,
            dialect=contender.dialect,
            coverage=contender.coverage,
            preprocessing=msgspec.to_builtins(contender.preprocessing),
            preprocessing_from=contender.preprocessing_from,
            notes=contender.notes,
        )
        rated.append(one)
    return rated


def _rated_untrained(contenders: Sequence[Contender], untrained: Mapping[str, Sequence[Evidence]]) -> list[Rated]:
    """A line for each build, over its untrained networks: the mean, and the interval over seeds and halves."""
    rated = []
    for build, twins in untrained.items():
        like = [contender for contender in contenders if contender.build == build]
        one = Rated(
            name=f"untrained, as {', '.join(contender.name for contender in like)}",
            network=like[0].network,
            score=float(np.mean([twin.logme for twin in twins])),
            interval=interval_of(np.concatenate([twin.logme_replicates for twin in twins])),
            h_score=float(np.mean([twin.h_score for twin in twins])),
            h_score_interval=interval_of(np.concatenate([twin.h_score_replicates for twin in twins])),
        )
        rated.append(one)
    return sorted(rated, key=lambda one: -one.score)
