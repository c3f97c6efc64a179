"""What the training cases of a dataset are like: their intensities and spacings, and the preprocessing that follows.

Only training cases are looked at, each once, by the same voxels at every run, so that a run that is resumed, or one in
several processes, finds the same numbers. They are rounded to six digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, DatasetError, VolumeError
from ..intensity import HIGH_PERCENTILE, LOW_PERCENTILE, Intensity, IntensityRange, is_ct
from ..volumes.grid import Grid
from ..volumes.header_grid import read_grid
from ..volumes.ranges import SAMPLES, sample_channel
from ..volumes.read import Volume, read_labels, read_volume
from ..volumes.regrid import build_regrid
from .cases import Case, Layout
from .preprocessing import CT_SCHEME, Plan, Preprocessing, Scheme, Spacing, is_measured

MAX_SAMPLES = 4_000_000  # voxels of a channel kept from all cases together
MIN_SAMPLES = 500  # and from each, however many there are
RANGE_CASES = 32  # cases read for the ranges alone, where they are not in memory
MASKED = 0.25  # share of voxels that are 0 from which on they are background, not tissue
ANISOTROPY = 3.0


@dataclass(frozen=True)
class Fingerprint:
    """Raw intensities of the training cases, one entry a channel.

    Attributes:
        ranges: Of all voxels.
        foreground: Of the labelled voxels; of all where nothing is labelled.
        zeros: Share of voxels that are exactly 0.
    """

    ranges: tuple[IntensityRange, ...]
    foreground: tuple[IntensityRange, ...]
    zeros: tuple[float, ...]


class Collector:
    """Gathers a fingerprint from cases as they are read.

    Args:
        layout: The dataset.
        cases: How many will be added.

    >>> from pathlib import Path
    >>> scan = np.arange(1000, dtype=np.float32).reshape(1, 10, 10, 10)
    >>> found = Collector(Layout(Path(), "restoration", (), ("CT",), ("CT",)), 1)
    >>> found.add_arrays(scan, None)
    >>> found.fingerprint().ranges[0].high
    994.005
    """

    def __init__(self, layout: Layout, cases: int) -> None:
        self.layout = layout
        self.count = min(SAMPLES, max(MIN_SAMPLES, MAX_SAMPLES // max(1, cases)))
        self._whole: list[list[npt.NDArray[np.float32]]] = [[] for _ in layout.channels]
        self._labelled: list[list[npt.NDArray[np.float32]]] = [[] for _ in layout.channels]

    def add(self, volume: Volume, labels: npt.NDArray[np.integer] | None) -> None:
        """Take a sample of a case, as read and before anything is done to it."""
        self.add_arrays(volume.array, labels)

    def add_arrays(self, array: npt.NDArray[np.float32], labels: npt.NDArray[np.integer] | None) -> None:
        """As :meth:`add`: (C, I, J, K) intensities and (I, J, K) labels."""
        wanted = None if labels is None else (labels > 0) & (labels != self.layout.ignore)
        for index, channel in enumerate(array):
            self._whole[index].append(sample_channel(channel, count=self.count))
            if wanted is not None:
                self._labelled[index].append(sample_channel(channel, wanted, self.count))

    def fingerprint(self) -> Fingerprint:
        """What was gathered.

        Raises:
            DatasetError: no case was added.
        """
        if not all(self._whole):
            raise DatasetError("there is no training case to measure", path=self.layout.path)
        pairs = [(whole, [part for part in some if len(part)] or whole)
                 for whole, some in zip(self._whole, self._labelled, strict=True)]  # fmt: skip
        zeros = [float(np.mean(np.concatenate(whole) == 0)) for whole in self._whole]
        return Fingerprint(
            tuple(_range(whole) for whole, _ in pairs), tuple(_range(some) for _, some in pairs), tuple(zeros)
        )


def _range(samples: Sequence[npt.NDArray[np.float32]]) -> IntensityRange:
    every = np.concatenate(samples).astype(np.float64)
    ends = np.array([np.percentile(sample.astype(np.float64), (LOW_PERCENTILE, HIGH_PERCENTILE)) for sample in samples])
    low, high = np.percentile(every, (LOW_PERCENTILE, HIGH_PERCENTILE))
    lows, highs = ((_rounded(part.min()), _rounded(part.max())) for part in ends.T)
    return IntensityRange(_rounded(low), _rounded(high), _rounded(every.mean()), _rounded(every.std()), lows, highs)


def _rounded(value: float) -> float:
    """Six digits: two machines' last bits make no difference.

    >>> _rounded(-1023.99999999), _rounded(1 / 3)
    (-1024.0, 0.333333)
    """
    return float(f"{float(value):.6g}")


def median_spacing(spacings: Sequence[Sequence[float]]) -> Spacing:
    """The spacing (mm) that a dataset is resampled to: the median along each axis.

    Along an axis whose median is more than three times the others', thick slices, it is the 10th percentile, but no
    less than the larger of the others: the median would throw away detail that many scans have. Source: nnU-Net
    (Isensee et al., Nature Methods 2021).

    >>> median_spacing([(1, 1, 2), (1, 1, 3), (2, 1, 3)])
    (1.0, 1.0, 3.0)
    >>> median_spacing([(1, 1, 2)] + 9 * [(1, 1, 5)])
    (1.0, 1.0, 4.7)
    """
    table = np.asarray(spacings, dtype=np.float64)
    chosen = np.median(table, axis=0)
    worst = int(np.argmax(chosen))
    others = float(np.delete(chosen, worst).max())
    if chosen[worst] > ANISOTROPY * others:
        chosen[worst] = max(others, float(np.percentile(table[:, worst], 10)))
    first, second, third = map(_rounded, chosen)
    return first, second, third


def settle(plan: Plan, layout: Layout, spacing: Spacing | None, found: Fingerprint | None) -> Preprocessing:
    """A plan in numbers.

    ``auto`` is nnU-Net's choice: ``ct`` for a channel whose name says CT, else a z-score, over the voxels that are not
    0 where more than a quarter of the training scans is 0. The numbers of ``ct`` are the percentiles 0.5 and 99.5, the
    mean and the standard deviation of the labelled voxels; without labels, of all.

    Args:
        plan: What is asked for.
        layout: Names the channels.
        spacing: In mm; the median if that was asked for.
        found: Where intensities are to be measured.

    Raises:
        ConfigError: a list of schemes that is not one a channel.
        DatasetError: intensities that do not vary.
    """
    channels = layout.channels
    if isinstance(plan.intensity, list) and len(plan.intensity) != len(channels):
        reason = f"preprocessing.intensity is a list of {len(plan.intensity)}, the dataset has {len(channels)} channels"
        raise ConfigError(reason, hint=f"Give one scheme for all, or one for each of {', '.join(channels)}")
    asked = plan.schemes if len(plan.schemes) == len(channels) else plan.schemes * len(channels)
    schemes = [_settled(scheme, index, layout, found) for index, scheme in enumerate(asked)]
    every = schemes[0] if all(scheme == schemes[0] for scheme in schemes) else schemes
    return Preprocessing(plan.orientation, spacing, every)


def _settled(scheme: Scheme, index: int, layout: Layout, found: Fingerprint | None) -> Intensity:
    if found is None or not is_measured(scheme):
        return msgspec.convert(scheme, Intensity)
    if scheme != CT_SCHEME and not is_ct(layout.channels[index]):
        return Intensity("zscore", nonzero=found.zeros[index] > MASKED)
    seen = found.foreground[index]
    try:
        return Intensity("ct", low=seen.low, high=seen.high, mean=seen.mean, std=seen.std)
    except ValueError as error:
        reason = f"channel {layout.channels[index]} does not vary in the labelled voxels of the training cases"
        raise DatasetError(reason, path=layout.path) from error


class Measured:
    """The preprocessing of a dataset; what is left to be measured is, when it is first asked for.

    Args:
        plan: What is asked for.
        layout: All cases.
        cases: Those that train.
    """

    def __init__(self, plan: Plan, layout: Layout, cases: Sequence[Case]) -> None:
        self.plan, self.layout, self.cases = plan, layout, tuple(cases)

    @cached_property
    def spacing(self) -> Spacing | None:
        """In mm; the median is taken from headers alone."""
        if not self.plan.measures_spacing:
            return None if self.plan.spacing is None else tuple(self.plan.spacing)  # type: ignore[return-value]
        grids = [grid for case in self.cases if (grid := _read_grid(case)) is not None]
        if not grids:
            raise DatasetError("there is no training case to measure", path=self.layout.path)
        return median_spacing([build_regrid(grid, self.plan.orientation).oriented.spacing for grid in grids])

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Intensities of the training cases, or of some, evenly chosen, where no scheme needs them."""
        few = range(0, len(self.cases), -(-len(self.cases) // RANGE_CASES) or 1)
        chosen = self.cases if self.plan.measures_intensity else [self.cases[index] for index in few]
        collector = Collector(self.layout, len(chosen))
        for volume, labels in _read_raw(chosen, self.layout):
            collector.add(volume, labels)
        return collector.fingerprint()

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """In numbers."""
        found = self.fingerprint if self.plan.measures_intensity else None
        return settle(self.plan, self.layout, self.spacing, found)

    @property
    def before_intensity(self) -> Preprocessing:
        """What can be done while the intensities are still being measured."""
        return Preprocessing(self.plan.orientation, self.spacing, Intensity("none"))


def _read_raw(cases: Sequence[Case], layout: Layout) -> Iterator[tuple[Volume, Any]]:
    for case in cases:
        volume = read_volume(case.source, channels=layout.channels)
        masks = [read_labels(path, volume.grid).array for path in case.masks]
        yield volume, np.maximum.reduce(masks) if masks else None


def _read_grid(case: Case) -> Grid | None:
    """None for a scan that is refused when its turn comes."""
    try:
        return read_grid(case.images[0])
    except VolumeError:
        return None
