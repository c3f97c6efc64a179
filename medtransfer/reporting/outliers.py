"""Which of many values lie far from the others, judged by their median, so that outliers do not hide themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: robust z from which a value is unusual (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993)
UNUSUAL = 3.5
#: with fewer values nothing is called unusual
LEAST_VALUES = 8
# a value nearer to the median than this share of it is no outlier, however alike the others are
_LEAST_SHARE = 0.1


def robust_z(values: Sequence[float]) -> list[float]:
    """Distance of each value from the median, in standard deviations as the median absolute deviation estimates them.

    Where more than half of the values are equal, the mean absolute deviation takes its place. Zeros throughout where
    there are fewer than `LEAST_VALUES`, or all values are equal; zero for a value within a tenth of the median.

    >>> [round(z, 1) for z in robust_z([10, 11, 9, 10, 12, 8, 10, 11, 50])]
    [0.0, 0.0, 0.0, 0.0, 1.3, -1.3, 0.0, 0.0, 27.0]
    """
    numbers = np.asarray(values, np.float64)
    if len(numbers) < LEAST_VALUES:
        return [0.0] * len(numbers)
    middle = float(np.median(numbers))
    distances = numbers - middle
    spread = 1.4826 * float(np.median(np.abs(distances))) or 1.2533 * float(np.abs(distances).mean())
    near = np.abs(distances) <= _LEAST_SHARE * abs(middle)
    return [0.0] * len(numbers) if not spread else np.where(near, 0.0, distances / spread).tolist()
