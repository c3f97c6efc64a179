"""LogME: how probable the labels are under a linear model of the features whose weights are integrated out."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from .spectrum import Floats, Spectrum, class_indicators, spectrum_of

#: ratios of prior to noise precision that are tried first, against the largest squared singular value
STARTS = np.logspace(-12, 12, 49)
ITERATIONS = 20
TOLERANCE = 1e-6
#: smallest share of a target that counts as unexplained: a perfect fit has no finite evidence
NOISE_FLOOR = 1e-10


def logme(features: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """The largest log evidence a sample; higher is better.

    Each target y (n,) is modelled as N(F w, 1/beta) with w ~ N(0, 1/alpha), and the evidence p(y | F, alpha, beta) is
    maximised over both precisions.

    Args:
        features: (n, d), of any rank.
        targets: Class numbers (n,), whole numbers, each class against the others; or real values (n,) or (n, k). The
            mean over classes or columns is returned.

    Raises:
        UsageError: shapes that do not fit, values that are not finite, or a target of zeros only.

    Source: You et al., LogME, ICML 2021; the fixed-point iteration of alpha / beta is that of You et al., Ranking and
    Tuning Pre-trained Models, JMLR 2022.

    >>> labels = [0, 0, 0, 1, 1, 1]
    >>> good, poor = [[1.0], [1.1], [0.9], [-1.0], [-1.1], [-0.9]], [[1.0], [-1.0], [0.5], [1.0], [-1.0], [0.5]]
    >>> logme(good, labels) > logme(poor, labels)
    True
    """
    spectrum = spectrum_of(features)
    return float(log_evidence(spectrum, _columns(targets, len(spectrum))).mean())


def log_evidence(spectrum: Spectrum, targets: Floats) -> Floats:
    """The largest log evidence a sample of each column of ``targets`` (n, k) -> (k,)."""
    weights = (spectrum.vectors.T @ targets) ** 2
    total = (targets**2).sum(axis=0)
    rest = np.maximum(total - weights.sum(axis=0), 0.0)
    return np.array([
        _maximum(spectrum.values, weights[:, k], rest[k], total[k], len(spectrum)) / len(spectrum)
        for k in range(targets.shape[1])
    ])  # fmt: skip


def _maximum(values: Floats, weights: Floats, rest: float, total: float, count: int) -> float:
    """The largest log evidence of one target.

    Args:
        values: Squared singular values s (r,) of the features.
        weights: Squared coordinates z (r,) of the target along the left singular vectors.
        rest: Squared length of the target outside them.
        total: Squared length of the target.
        count: n.
    """
    if not len(values):
        values, weights = np.ones(1), np.zeros(1)  # features of zeros explain as much as one that finds nothing
    ratios = STARTS * values.max()
    evidence = _profile(ratios, values, weights, rest, total, count)
    # the evidence may have several maxima: the iteration refines the best start
    ratio, bounds = float(ratios[evidence.argmax()]), (ratios[0], ratios[-1])
    tried = [ratio]
    for _ in range(ITERATIONS):
        first = float(np.clip(_step(ratio, values, weights, rest, count), *bounds))
        second = float(np.clip(_step(first, values, weights, rest, count), *bounds))
        ratio = float(np.clip(_limit(ratio, first, second), *bounds))
        tried += [second, ratio]
        if abs(second - first) <= TOLERANCE * first:
            break
    # where the iteration does not settle, the best that it saw counts
    return float(_profile(np.array(tried), values, weights, rest, total, count).max())


def _step(ratio: float, values: Floats, weights: Floats, rest: float, count: int) -> float:
    """One fixed-point step of t = alpha / beta: alpha = gamma / m'm, beta = (n - gamma) / |Fm - y|^2."""
    shrunk = ratio / (ratio + values)
    used = (1 - shrunk).sum()
    unused = count - len(values) + shrunk.sum()
    length = (values * weights / (ratio + values) ** 2).sum()
    residual = rest + (weights * shrunk**2).sum()
    if not length or not unused:
        return math.inf
    return float(used / length * residual / unused)


def _limit(start: float, first: float, second: float) -> float:
    """Where three steps of a linearly converging iteration lead to (Aitken's extrapolation, of the logarithms)."""
    step, change = math.log(first / start), math.log(second / first)
    slowing = change - step
    if abs(slowing) < 1e-12:
        return second
    return start * math.exp(min(max(-(step**2) / slowing, -30.0), 30.0))


def _profile(ratios: Floats, values: Floats, weights: Floats, rest: float, total: float, count: int) -> Floats:
    """The log evidence at each ratio t = alpha / beta, with beta at its best value for that ratio.

    The target is N(0, C / beta) with C = I + F F' / t, so that beta = n / (y' C^-1 y).
    """
    shrunk = ratios[:, None] / (ratios[:, None] + values)
    misfit = np.maximum(rest + shrunk @ weights, NOISE_FLOOR * total)
    spread = -np.log(shrunk).sum(axis=1)
    result: Floats = 0.5 * (count * (np.log(count / misfit) - 1 - math.log(2 * math.pi)) - spread)
    return result


def _columns(targets: npt.ArrayLike, count: int) -> Floats:
    array = np.asarray(targets)
    if array.ndim not in (1, 2) or len(array) != count:
        raise UsageError(f"targets must be one a sample, {count} in all, got shape {array.shape}")
    if array.ndim == 1 and np.issubdtype(array.dtype, np.integer):
        return class_indicators(array)
    columns = array.reshape(count, -1).astype(np.float64)
    if not np.isfinite(columns).all() or not columns.any(axis=0).all():
        raise UsageError("targets must be finite numbers, and not all of them 0")
    return columns
