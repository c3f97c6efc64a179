"""The features of a dataset's cases under each contender and its untrained twins, as inner products of the samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..data.cases import Case, Layout
from ..errors import DatasetError, ModelError
from ..volumes.prepare import Prepared, prepare
from .contenders import Contender, on_device
from .features import features_at, pooled_features
from .places import FEWEST_VOXELS, TOTAL_VOXELS, Places, draw_places, read_case
from .spectrum import Floats, Indices


@dataclass(frozen=True)
class Samples:
    """What scores are computed over: labelled voxels of the cases, or the cases themselves.

    Attributes:
        layout: The dataset.
        cases: The cases that were chosen.
        places: The voxels of each case; None for a classification.
        labels: The class of each sample (n,).
        groups: The patient of each sample.
    """

    layout: Layout
    cases: tuple[Case, ...]
    places: tuple[Places, ...] | None
    labels: Indices
    groups: tuple[str, ...]

    @property
    def strata(self) -> list[int]:
        """What halves must hold of everything: classes of cases; voxels are drawn from every case alike."""
        return self.labels.tolist() if self.places is None else [0] * len(self.labels)

    @property
    def cases_of_classes(self) -> dict[str, int]:
        """How many cases have samples of each class."""
        owners = np.array(self.groups)
        return {
            name: len(set(owners[self.labels == number].tolist())) for number, name in enumerate(self.layout.classes)
        }


@dataclass(frozen=True)
class Kernel:
    """Inner products (n, n) of the samples' features, every channel standardised, and the features' width."""

    values: Floats
    width: int


def choose_cases(layout: Layout, count: int, rng: np.random.Generator) -> tuple[Case, ...]:
    """At most ``count`` cases by chance, of a classification in turn from each class."""
    order = rng.permutation(len(layout.cases)).tolist()
    if layout.task == "classification":
        turns: dict[object, int] = {}
        rank = {}
        for index in order:
            label = layout.cases[index].label
            turns[label] = turns.get(label, 0) + 1
            rank[index] = turns[label]
        order.sort(key=rank.__getitem__)
    return tuple(layout.cases[index] for index in sorted(order[:count]))


def draw_samples(
    layout: Layout, cases: tuple[Case, ...], contenders: Sequence[Contender], rng: np.random.Generator
) -> Samples:
    """Draw what the scores are computed over.

    Raises:
        VolumeError: a file was refused.
        DatasetError: all samples are of one class.
    """
    places: tuple[Places, ...] | None = None
    if layout.task == "segmentation":
        voxels = max(FEWEST_VOXELS, TOTAL_VOXELS // len(cases))
        wanted = [contender.preprocessing for contender in contenders]
        places = tuple(draw_places(case, layout, wanted, voxels, rng) for case in cases)
        labels = np.concatenate([place.labels for place in places])
        groups = [case.patient_or_id for case, place in zip(cases, places, strict=True) for _ in place.labels]
    else:
        labels = np.array([case.label for case in cases], dtype=np.int64)
        groups = [case.patient_or_id for case in cases]
    if len(np.unique(labels)) < 2:
        name = layout.classes[int(labels[0])]
        reason = f"all samples of the {len(cases)} cases are of the class {name}, so there is nothing to tell apart"
        raise DatasetError(reason, path=layout.path, hint="Take more cases (--cases)")
    return Samples(layout, cases, places, labels, tuple(groups))


def compute_kernels(
    contender: Contender,
    untrained: Sequence[nn.Module],
    samples: Samples,
    deepest: bool,
    device: torch.device,
) -> list[Kernel]:
    """The kernel of a contender, and of untrained networks that see the same scans."""
    modules = [contender.module, *untrained]
    stages: list[list[list[Floats]]] = [[] for _ in modules]
    with on_device(modules, device):
        for number, case in enumerate(samples.cases):
            settings = contender.preprocessing
            volume = read_case(case, samples.layout)
            scan = prepare(volume, settings.orientation, settings.spacing, settings.intensity)
            for of_module, found in zip(
                stages, _features(modules, scan, samples, number, contender, device), strict=True
            ):
                of_module.append(found)
    return [_kernel(of_module, deepest, contender) for of_module in stages]


def _features(
    modules: Sequence[nn.Module],
    scan: Prepared,
    samples: Samples,
    number: int,
    contender: Contender,
    device: torch.device,
) -> list[list[Floats]]:
    if samples.places is None:
        return pooled_features(modules, scan.array, device)
    return features_at(modules, scan, samples.places[number].positions, contender.patch_size, device)


def _kernel(cases: list[list[Floats]], deepest: bool, contender: Contender) -> Kernel:
    stages = [np.concatenate(stage) for stage in zip(*cases, strict=True)][-1 if deepest else 0 :]
    if not all(np.isfinite(stage).all() for stage in stages):
        raise ModelError(f"{contender.network} computes features that are not finite from these scans",
                         path=contender.path, hint="Leave this source away")  # fmt: skip
    return combined(stages)


def combined(stages: Sequence[Floats]) -> Kernel:
    """The kernel of features (n, d) of all stages: channels standardised, so that no scale of a layer decides, and
    every stage of the same weight, so that no width does.

    >>> combined([np.array([[1.0, 5.0], [-1.0, 5.0]])]).values
    array([[ 0.5, -0.5],
           [-0.5,  0.5]])
    """
    kernel = np.zeros((len(stages[0]),) * 2)
    for stage in stages:
        columns = _standardised(stage)
        kernel += columns @ columns.T / columns.shape[1]
    return Kernel(kernel / len(stages), sum(stage.shape[1] for stage in stages))


def _standardised(columns: Floats) -> Floats:
    """Mean 0 and standard deviation 1 of each column; of one that does not vary 0, that rounding may not blow up."""
    spread = columns.std(axis=0)
    still = spread <= 1e-6 * np.abs(columns).max(axis=0)
    return (columns - columns.mean(axis=0)) / np.where(still, np.inf, spread)
