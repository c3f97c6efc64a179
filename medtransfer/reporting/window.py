"""Which intensities a picture shows from black to white."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SAMPLE = 1 << 18
_PERCENTILES = (1, 99.5)
# what readers of CT are used to, in Hounsfield units; chosen by what the mask holds
_LUNG, _SOFT_TISSUE, _BONE = ("lung", -1350.0, 150.0), ("soft tissue", -160.0, 240.0), ("bone", -450.0, 1050.0)
_LUNG_BELOW, _BONE_ABOVE = -300, 130


@dataclass(frozen=True)
class Window:
    """Intensities from ``low`` (black) to ``high`` (white); ``name`` is that of a window for CT, or empty.

    >>> str(Window(-160, 240, "soft tissue")), str(Window(0.0123456, 2))
    ('CT window for soft tissue, -160 to 240', 'intensities 0.01235 to 2')
    """

    low: float
    high: float
    name: str = ""

    def __str__(self) -> str:
        kind = f"CT window for {self.name}," if self.name else "intensities"
        return f"{kind} {self.low:.4g} to {self.high:.4g}"

    def grey(self, image: np.ndarray) -> np.ndarray:
        """Intensities as 0 (black) to 1 (white); NaN is black."""
        scaled = (np.asarray(image, np.float64) - self.low) / (self.high - self.low)
        return np.clip(np.nan_to_num(scaled), 0, 1)


def display_window(image: np.ndarray, labels: np.ndarray | None = None) -> Window:
    """The window for CT that fits what is labelled if the values look like Hounsfield units, else by percentiles.

    Percentiles are those of voxels other than 0, since padding would pull them to black. A grid of at most some
    hundred thousand voxels is looked at, not all of them.

    Args:
        image: (I, J, K) intensities.
        labels: (I, J, K) integers on the same grid, 0 is background.

    >>> display_window(np.linspace(0, 1000, 1001).reshape(7, 11, 13))
    Window(low=0.0, high=995.005, name='')
    """
    step = (slice(None, None, max(1, int(np.ceil((image.size / _SAMPLE) ** (1 / 3))))),) * 3
    sample = image[step]
    values = sample[np.isfinite(sample) & (sample != 0)]
    if not values.size:
        return Window(0.0, 1.0)
    low, high = (float(value) for value in np.percentile(values, _PERCENTILES))
    if _looks_like_hounsfield(low, high):
        return _ct_window(sample if labels is None else sample[labels[step] > 0])
    low = min(low, 0.0) if values.min() >= 0 else low
    half = max(0.5, abs(low) * 1e-3)
    return Window(low, high) if high > low else Window(low - half, low + half)


def _looks_like_hounsfield(low: float, high: float) -> bool:
    """Air is -1000 and fat -100, padding -1024 or lower; bone ends below 3000.

    >>> _looks_like_hounsfield(-1000, 900), _looks_like_hounsfield(-2.5, 4.1), _looks_like_hounsfield(0, 1200)
    (True, False, False)
    """
    return -5000 < low < -90 and 0 < high < 5000


def _ct_window(labelled: np.ndarray) -> Window:
    finite = labelled[np.isfinite(labelled)]
    middle = float(np.median(finite)) if finite.size else 0.0
    name, low, high = _LUNG if middle < _LUNG_BELOW else _BONE if middle > _BONE_ABOVE else _SOFT_TISSUE
    return Window(low, high, name)
