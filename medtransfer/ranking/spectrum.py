"""Inner products of the samples' features: all that LogME and H-score need of them, whatever their width."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import UsageError

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: eigenvalues below this share of the largest are rounding errors
NEGLIGIBLE = 1e-12


@dataclass(frozen=True)
class Spectrum:
    """The singular value decomposition of features (n, d), as far as scores need it.

    Attributes:
        values: Squared singular values (r,), those that are not 0.
        vectors: Left singular vectors (n, r).
        width: d.
    """

    values: Floats
    vectors: Floats
    width: int

    def __len__(self) -> int:
        return len(self.vectors)


def spectrum_of(features: npt.ArrayLike) -> Spectrum:
    """The spectrum of features (n, d), by SVD in float64.

    Raises:
        UsageError: not a matrix of finite numbers.

    >>> spectrum_of([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]]).values
    array([9., 4.])
    """
    matrix = checked_features(features)
    vectors, singular, _ = np.linalg.svd(matrix, full_matrices=False)
    return _significant(singular**2, vectors, matrix.shape[1])


def spectrum_of_kernel(kernel: Floats, width: int) -> Spectrum:
    """The same from the inner products (n, n) of the samples, of features that are ``width`` wide."""
    values, vectors = np.linalg.eigh(kernel)
    return _significant(values[::-1], vectors[:, ::-1], width)


def centred(kernel: Floats) -> Floats:
    """The inner products of the samples after their mean was taken off.

    >>> centred(np.array([[1.0, 3.0], [3.0, 9.0]]))
    array([[ 1., -1.],
           [-1.,  1.]])
    """
    rows = kernel.mean(axis=0)
    return kernel - rows - rows[:, None] + rows.mean()


def checked_features(features: npt.ArrayLike) -> Floats:
    """Features as a float64 matrix (n, d).

    Raises:
        UsageError: they are none, or not finite.
    """
    matrix = np.asarray(features, dtype=np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape or not np.isfinite(matrix).all():
        raise UsageError(f"features must be a matrix (samples, features) of finite numbers, got shape {matrix.shape}")
    return matrix


def class_indicators(labels: npt.ArrayLike) -> Floats:
    """One column (n,) of 0 and 1 for each class that occurs, in the order of their numbers.

    >>> class_indicators([2, 0, 2])
    array([[0., 1.],
           [1., 0.],
           [0., 1.]])
    """
    found, numbers = np.unique(np.asarray(labels), return_inverse=True)
    return np.eye(len(found))[numbers]


def _significant(values: Floats, vectors: Floats, width: int) -> Spectrum:
    kept = values > NEGLIGIBLE * max(values[0], 0.0)
    return Spectrum(values[kept], vectors[:, kept], width)
