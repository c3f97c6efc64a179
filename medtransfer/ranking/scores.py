"""Scores of kernels, over all samples and over halves of the cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .halves import Halves, about_score
from .hscore import h_score_of
from .logme import log_evidence
from .samples import Kernel
from .spectrum import Floats, Indices, centred, class_indicators, spectrum_of_kernel


@dataclass(frozen=True)
class Evidence:
    """LogME and H-score of one network, and what they might have been with other cases.

    Attributes:
        logme, h_score: Over all samples.
        logme_replicates, h_score_replicates: (R,), about those.
    """

    logme: float
    h_score: float
    logme_replicates: Floats
    h_score_replicates: Floats


def weigh(kernel: Kernel, labels: Indices, halves: Halves) -> Evidence:
    """Score the samples that a kernel holds, by their classes."""
    logme, h_score = _scores(kernel, labels)
    pairs = [_scores(Kernel(kernel.values[np.ix_(rows, rows)], kernel.width), labels[rows]) for rows in halves.rows]
    of_halves = np.array(pairs).reshape(-1, 2).T
    return Evidence(
        logme, h_score, about_score(logme, of_halves[0], halves.scale), about_score(h_score, of_halves[1], halves.scale)
    )


def _scores(kernel: Kernel, labels: Indices) -> tuple[float, float]:
    """LogME and H-score; both of centred features and indicators, since every head has a bias."""
    indicators = class_indicators(labels)
    spectrum = spectrum_of_kernel(centred(kernel.values), kernel.width)
    targets = indicators - indicators.mean(axis=0)
    varying = targets[:, targets.any(axis=0)]
    # a half of one class only has nothing to tell apart
    logme = float(log_evidence(spectrum, varying).mean()) if varying.size else 0.0
    return logme, h_score_of(spectrum, indicators)
