"""H-score: how much of the features' variance lies between the classes, each direction measured by its own variance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from .spectrum import Floats, Spectrum, checked_features, class_indicators, spectrum_of


def h_score(features: npt.ArrayLike, labels: npt.ArrayLike, shrinkage: float | None = None) -> float:
    """tr(cov(f)^-1 cov(E[f | y])); from 0 to the number of classes less one, higher is better.

    With few samples the plain score counts noise: with as many features as samples it is the largest possible for any
    labels. So the covariance is shrunk, cov_a = (1 - a) cov + a tr(cov) / d, and the score is
    (1 - a) tr(cov_a^-1 cov(E[f | y])).

    Args:
        features: (n, d).
        labels: Class numbers (n,).
        shrinkage: a, from 0 (the plain score, by the pseudo-inverse) to 1; None is Ledoit and Wolf's estimate.

    Raises:
        UsageError: shapes that do not fit, values that are not finite, or a shrinkage out of range.

    Source: Bao et al., ICIP 2019; shrunk by Ibrahim et al., Newer is not always better, ECML PKDD 2022; covariances
    divide by n.

    >>> h_score([[1.0], [1.0], [-1.0], [-1.0]], [0, 0, 1, 1], shrinkage=0)
    1.0
    """
    matrix = checked_features(features)
    if np.shape(labels) != (len(matrix),):
        raise UsageError(f"labels must be one a sample, {len(matrix)} in all, got shape {np.shape(labels)}")
    if shrinkage is not None and not 0 <= shrinkage <= 1:
        raise UsageError(f"shrinkage must be between 0 and 1, got {shrinkage}")
    spectrum = spectrum_of(matrix - matrix.mean(axis=0))
    return h_score_of(spectrum, class_indicators(labels), shrinkage)


def h_score_of(spectrum: Spectrum, indicators: Floats, shrinkage: float | None = None) -> float:
    """The same from the spectrum of centred features and the classes' indicators (n, k)."""
    if not len(spectrum.values):
        return 0.0
    amount = ledoit_wolf_shrinkage(spectrum) if shrinkage is None else shrinkage
    variances = spectrum.values / len(spectrum)
    counts = indicators.sum(axis=0)
    # squared coordinates of each class's mean along the principal axes
    means = spectrum.values[:, None] * (spectrum.vectors.T @ (indicators / counts)) ** 2
    between = means @ (counts / len(spectrum))
    shrunk = (1 - amount) * variances + amount * variances.sum() / spectrum.width
    return float((1 - amount) * (between / shrunk).sum())


def ledoit_wolf_shrinkage(spectrum: Spectrum) -> float:
    """The share of the identity in the best estimate of a covariance, from the spectrum of centred features.

    Source: Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, J. Multivariate
    Analysis 88, 2004.
    """
    count, width = len(spectrum), spectrum.width
    variances = spectrum.values / count
    squared = (variances**2).sum()
    lengths = spectrum.vectors**2 @ spectrum.values
    noise = ((lengths**2).sum() / count - squared) / (count * width)
    distance = (squared - variances.sum() ** 2 / width) / width
    return float(min(noise, distance) / distance) if min(noise, distance) > 0 else 0.0
