"""Probabilities that mean what they say: one temperature for a classifier's logits, fitted to labelled cases.

A network that learnt by cross-entropy is often surer than it is right. Its logits divided by a number T, the same for
all cases and classes, give softer (T > 1) or harder (T < 1) probabilities; which class is most probable never changes.
Source: Guo et al., ICML 2017, "On Calibration of Modern Neural Networks".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import log_softmax, softmax

from ..errors import DatasetError, UsageError
from ..scoring.classification import calibration_error

#: Of fewer cases a temperature says more about chance than about the network.
FEWEST_CASES = 10
LOWEST, HIGHEST = 1e-3, 1e3

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """A temperature, and what it does to the probabilities of the cases that it was fitted to.

    Attributes:
        temperature: What logits are divided by.
        cases: How many it was fitted to.
        nll_before, nll_after: Negative log-likelihood of the true classes, nats a case.
        ece_before, ece_after: Expected calibration error, 0 to 1.
    """

    temperature: float
    cases: int
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The temperature with the least negative log-likelihood of the true classes.

    The likelihood is concave in 1 / T, so that there is one best value; it is found as the root of the slope, in
    float64.

    Args:
        logits: (N, K).
        labels: (N,) class numbers.

    Raises:
        UsageError: shapes that do not belong together, or numbers that are not finite.
        DatasetError: the cases have no best temperature: fewer than 10, all of one class, all right (the surer, the
            better), or no better than chance.

    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(size=(4000, 3))
    >>> labels = [rng.choice(3, p=p) for p in softmax(logits, axis=1)]
    >>> round(fit_temperature(2.5 * logits, labels), 1)
    2.5
    """
    values, classes = _checked(logits, labels)
    _refuse_few(values, classes)
    own = values[np.arange(len(values)), classes]

    def slope(sharpness: float) -> float:
        return float(((softmax(sharpness * values, axis=1) * values).sum(axis=1) - own).mean())

    if slope(0.0) >= 0:
        raise _no_temperature("the network is no better than chance on them")
    if np.array_equal(own, values.max(axis=1)):
        raise _no_temperature(f"all {len(own)} cases are right, so the surer the better")
    if slope(1 / HIGHEST) >= 0 or slope(1 / LOWEST) <= 0:
        raise _no_temperature(f"the best one is not between {LOWEST:g} and {HIGHEST:g}")
    return 1 / float(brentq(slope, 1 / HIGHEST, 1 / LOWEST, xtol=1e-14, rtol=1e-12))


def calibrate(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Calibration:
    """Fit a temperature and say what it does; arguments and errors as :func:`fit_temperature`."""
    values, classes = _checked(logits, labels)
    temperature = fit_temperature(values, classes)
    steps = (1.0, temperature)
    before, after = (negative_log_likelihood(values, classes, step) for step in steps)
    errors = (float(calibration_error(softmax(values / step, axis=1), classes)) for step in steps)
    return Calibration(temperature, len(values), before, after, *errors)


def negative_log_likelihood(logits: npt.ArrayLike, labels: npt.ArrayLike, temperature: float = 1.0) -> float:
    """Mean of -log(probability of the true class), in nats, of logits (N, K) and class numbers (N,).

    >>> round(negative_log_likelihood([[0.0, 0.0]], [1]), 4)
    0.6931
    """
    values, classes = _checked(logits, labels)
    return float(-log_softmax(values / temperature, axis=1)[np.arange(len(values)), classes].mean())


def _checked(logits: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, npt.NDArray[np.int64]]:
    values, classes = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if values.ndim != 2 or values.shape[1] < 2 or classes.shape != values.shape[:1]:
        raise UsageError(f"needs logits (N, K) and labels (N,), got shapes {values.shape} and {classes.shape}")
    if not np.isfinite(values).all():
        raise UsageError("the logits must be finite, got NaN or infinity")
    if classes.dtype.kind not in "iu" or not ((classes >= 0) & (classes < values.shape[1])).all():
        raise UsageError(f"labels must be class numbers from 0 to {values.shape[1] - 1}")
    return values, classes.astype(np.int64)


def _refuse_few(values: Floats, classes: npt.NDArray[np.int64]) -> None:
    if len(values) < FEWEST_CASES:
        raise _no_temperature(f"{len(values)} are too few, it takes {FEWEST_CASES}")
    if len(np.unique(classes)) == 1:
        raise _no_temperature("all are of one class")


def _no_temperature(why: str) -> DatasetError:
    hint = "Calibrate on more cases, which the network has not learnt by heart, or do without"
    return DatasetError(f"these cases have no best temperature: {why}", hint=hint)
