"""What a scan's raw intensities are, and whether they are of the kind that a network was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..intensity import ABSOLUTE, HIGH_PERCENTILE, LOW_PERCENTILE, Intensity, IntensityRange, is_ct
from .intensity import Given, read_schemes

#: Voxels of a scan that its intensities are judged by, as many as nnU-Net takes.
SAMPLES = 10_000
_GOLDEN = (5**0.5 - 1) / 2

# how far from the training scans is too far; wide, so that another scanner or another part of the body is no alarm
NARROW = 10  # times narrower than every training scan
STEP_BELOW_ZERO = 0.1  # of a scan's range: more than resampling leaves
AIR_AND_FAT = -50.0  # Hounsfield units below which any CT has more than 0.5 % of its voxels
NEAR = 0.1  # of mean 0 and deviation 1
SCALED = 4  # times above 1 that every training scan goes
AS_STORED = Intensity("none")


@dataclass(frozen=True)
class Seen:
    """Intensities of one channel of a scan: two percentiles, mean, deviation, least and most, and what is not 0."""

    low: float
    high: float
    mean: float
    std: float
    least: float
    most: float
    is_standard: bool

    def __str__(self) -> str:
        return f"{self.low:.4g} to {self.high:.4g}"


def sample_channel(
    channel: npt.NDArray[np.float32], labels: npt.NDArray[np.integer] | None = None, count: int = SAMPLES
) -> npt.NDArray[np.float32]:
    """Evenly spread voxels of a channel (I, J, K), the same at every call; all of them if there are no more.

    Steps are the golden section of the whole, so that they fall into step with no axis.

    Args:
        channel: Intensities.
        labels: (I, J, K); only voxels above 0 are taken.
        count: How many.

    >>> sample_channel(np.arange(8, dtype=np.float32).reshape(2, 2, 2), count=3)
    array([0., 4., 1.], dtype=float32)
    """
    places = None if labels is None else np.flatnonzero(labels > 0)
    size = channel.size if places is None else len(places)
    chosen = np.arange(size) if size <= count else (np.arange(count) * _GOLDEN % 1.0 * size).astype(np.int64)
    at = chosen if places is None else places[chosen]
    return np.asarray(channel[np.unravel_index(at, channel.shape)], dtype=np.float32)


def look(channel: npt.NDArray[np.float32]) -> Seen:
    """The intensities of a channel (I, J, K), by a sample.

    >>> str(look(np.linspace(0, 100, 1001, dtype=np.float32).reshape(7, 11, 13)))
    '0.5 to 99.5'
    """
    sample = sample_channel(channel).astype(np.float64)
    low, high = np.percentile(sample, (LOW_PERCENTILE, HIGH_PERCENTILE))
    standard = _is_standard(sample) or _is_standard(sample[sample != 0])
    return Seen(float(low), float(high), float(sample.mean()), float(sample.std()),
                float(sample.min()), float(sample.max()), standard)  # fmt: skip


def _is_standard(sample: npt.NDArray[np.float64]) -> bool:
    return len(sample) > 0 and bool(abs(sample.mean()) < NEAR and abs(sample.std() - 1) < NEAR)


def range_warnings(
    array: npt.NDArray[np.float32],
    ranges: Sequence[IntensityRange] | None,
    channels: Sequence[str] | None = None,
    intensity: Given = None,
) -> list[str]:
    """What the raw intensities of a scan say against it, in sentences; nothing for scans like those of the training.

    A scheme that takes its numbers from each scan (``zscore``, ``percentile``) makes scale and unit of no account, so
    with it only the kind of the scan is looked at: values below 0 where there were none or none where there were some,
    and intensities that somebody normalised before. The other schemes need the unit of the training scans.

    Args:
        array: (C, I, J, K) as read.
        ranges: The card's ``intensity_ranges``, one a channel; None: nothing is known.
        channels: Names of the channels.
        intensity: The card's scheme or schemes.

    >>> scan = np.linspace(0, 1, 1000, dtype=np.float32).reshape(1, 10, 10, 10)
    >>> range_warnings(scan, [IntensityRange(-1000, 1500, -350, 460)], ["CT"])
    ['CT: intensities 0.005 to 0.995, the training scans had -1000 to 1500: are these Hounsfield units?']
    """
    if not ranges or len(ranges) != len(array):
        return []
    names = channels or [f"channel {index}" for index in range(len(array))]
    schemes = read_schemes(intensity, len(array))
    seen = [look(channel) for channel in array]
    swapped = list(_swapped(seen, ranges))
    notes = [_swapped_words(pair, names, seen, ranges) for pair in swapped]
    named = {index for pair in swapped for index in pair}
    rest = [index for index in range(len(array)) if index not in named]
    alone = (_warning(names[index], seen[index], ranges[index], schemes[index]) for index in rest)
    return [*notes, *filter(None, alone)]


def _warning(name: str, seen: Seen, training: IntensityRange, scheme: Intensity) -> str:
    what = f"{name}: intensities {seen}, the training scans had {training.low:.4g} to {training.high:.4g}"
    if _was_normalised(seen, training):
        return f"{what}: this scan was normalised already (mean 0, deviation 1), give it as it was"
    unit = "are these Hounsfield units?" if scheme.scheme == "ct" or is_ct(name) else "is the unit right?"
    if _was_scaled(seen, training):
        return f"{what}: {unit if is_ct(name) or scheme.scheme == 'ct' else 'was this scan normalised already?'}"
    return f"{what}: {unit}" if _is_foreign(seen, training, scheme) else ""


def _was_normalised(seen: Seen, training: IntensityRange) -> bool:
    """Mean 0 and deviation 1, unless training scans were like that."""
    alike = training.lows[0] <= seen.low / 2 and training.highs[0] <= 2 * seen.high
    return seen.is_standard and seen.least < 0 and not alike


def _was_scaled(seen: Seen, training: IntensityRange) -> bool:
    """Within -1 to 1, where every training scan went far beyond."""
    return -1 <= seen.least < seen.most <= 1 and training.highs[0] > SCALED


def _is_foreign(seen: Seen, training: IntensityRange, scheme: Intensity = AS_STORED) -> bool:
    """Of another sign than all training scans, or, where the unit counts, of another size."""
    if seen.least == seen.most:
        return False  # constant: there is a warning for that
    unsigned = training.lows[1] < AIR_AND_FAT and seen.low >= 0
    signed = training.lows[0] >= 0 and seen.low < -STEP_BELOW_ZERO * (seen.high - seen.low)
    width = training.high - training.low
    below, above = seen.low < training.lows[0] - width, seen.high > training.highs[1] + width
    # what a scheme cuts away on one side, as metal or the padding of CT scanners (-3024), does no harm
    cut = scheme.low is not None and training.lows[0] <= seen.mean <= training.highs[1]
    beyond = (below and above) if cut else (below or above)
    narrow = NARROW * (seen.high - seen.low) < training.highs[0] - training.lows[1]
    return unsigned or signed or (scheme.scheme in ABSOLUTE and (beyond or narrow))


def _swapped(seen: Sequence[Seen], ranges: Sequence[IntensityRange]) -> Iterator[tuple[int, int]]:
    """Pairs of channels that are each like the other's training scans, and not like their own."""
    fits = [[not _is_foreign(one, training) for training in ranges] for one in seen]
    free = set(range(len(seen)))
    for i in range(len(seen)):
        for j in range(i + 1, len(seen)):
            if {i, j} <= free and fits[i][j] and fits[j][i] and not fits[i][i] and not fits[j][j]:
                free -= {i, j}
                yield i, j


def _swapped_words(
    pair: tuple[int, int], names: Sequence[str], seen: Sequence[Seen], ranges: Sequence[IntensityRange]
) -> str:
    parts = [f"{names[i]} has {seen[i]} (in training {ranges[i].low:.4g} to {ranges[i].high:.4g})" for i in pair]
    return f"channels {names[pair[0]]} and {names[pair[1]]} look swapped: {', '.join(parts)}"
