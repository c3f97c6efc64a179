"""Cases that are unlike the others: spacing, size, intensities, class volumes; and notes on what is mixed."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from math import log10, prod

import numpy as np
import numpy.typing as npt

from ..data.cases import SHOWN, Layout
from .across import class_names
from .facts import CaseFacts, Problem

SPACING_FACTOR = 5.0  # times the median along one axis
SIZE_FACTOR = 10.0  # times the median number of voxels
INTENSITY_FACTOR = 10.0  # times the median width of the intensities
INTENSITY_SHIFT = 0.3  # of that width, by which the low end lies off the median one
VOLUME_FACTOR = 10.0  # times the median volume of a class
SPREADS = 6.0  # where cases vary anyway: so many robust standard deviations (of logarithms) as well
MIXED_SHARE = 0.1  # of the cases that stand out: from there on, the dataset as a whole is called mixed
FEWEST = 5  # cases that say what is usual
BODY_AXES = ("left-right", "front-back", "head-foot")

Cases = Sequence[CaseFacts]


def unlike_the_others(layout: Layout, cases: Cases) -> list[Problem]:
    """Warnings for cases whose spacing, size, intensities or class volumes are far from the median."""
    read = [facts for facts in cases if facts.grid is not None]
    spacings = _together(list(_spacings(read)), "spacing", "spacings are mixed", len(read))
    intensities = _together(
        list(_intensities(layout, read)), "intensity", "intensities are on several scales", len(read)
    )
    return [*spacings, *_sizes(read), *intensities, *unlike_volumes(layout, read)]


def _together(problems: list[Problem], rule: str, what: str, total: int) -> list[Problem]:
    """One problem instead of many, where so many cases stand out that it is the dataset that is mixed."""
    names = list(dict.fromkeys(problem.case for problem in problems))
    if len(names) <= max(SHOWN, MIXED_SHARE * total):
        return problems
    text = f"{what}: {len(names)} of {total} cases are far from the median. First of all {problems[0].case}: "
    others = f". So are {', '.join(names[1:SHOWN])} and {len(names) - SHOWN} more"
    return [Problem("warning", rule, f"{text}{problems[0].text}{others}")]


def upright(values: Sequence[float], orientation: str) -> list[float]:
    """Values of the stored axes in the order left-right, front-back, head-foot.

    >>> upright([1.0, 2.0, 3.0], "PIR")
    [3.0, 1.0, 2.0]
    """
    by_letter = dict(zip(orientation, values, strict=True))
    return [by_letter[low] if low in by_letter else by_letter[high] for low, high in ("LR", "PA", "IS")]


def _spacings(cases: Cases) -> Iterator[Problem]:
    spacings = {facts.case: upright(facts.grid.spacing, facts.grid.orientation) for facts in cases if facts.grid}
    medians = [statistics.median_low(values) for values in zip(*spacings.values(), strict=True)]
    for facts in cases:
        spacing = spacings[facts.case]
        times = [size / median for size, median in zip(spacing, medians, strict=True)]
        far = [f"{_times(t)} {axis}" for t, axis in zip(times, BODY_AXES, strict=True) if _is_far(t, SPACING_FACTOR)]
        if far:
            listed = _times(times[0]) if np.allclose(times, times[0], rtol=0.01) else ", ".join(far)
            text = f"spacing {_mm(spacing)}, the median is {_mm(medians)}: {listed}"
            yield Problem("warning", "spacing", text, facts.case, facts.images[0])


def _sizes(cases: Cases) -> Iterator[Problem]:
    voxels = {facts.case: prod(facts.grid.shape) for facts in cases if facts.grid}
    median = statistics.median_low(voxels.values()) if voxels else 1
    for facts in cases:
        times = voxels[facts.case] / median
        if facts.grid and _is_far(times, SIZE_FACTOR):
            shape = " x ".join(map(str, facts.grid.shape))
            text = f"{shape} voxels, {_times(times)} as many as the median case"
            yield Problem("warning", "size", text, facts.case, facts.images[0])


def _intensities(layout: Layout, cases: Cases) -> Iterator[Problem]:
    for channel in layout.channels:
        seen = [facts for facts in cases if channel in facts.intensities and facts.intensities[channel].width > 0]
        if len(seen) >= FEWEST:
            yield from _one_channel(channel, seen)


def _one_channel(channel: str, cases: Cases) -> Iterator[Problem]:
    measured = [facts.intensities[channel] for facts in cases]
    width, low = (statistics.median_low(values) for values in ([m.width for m in measured], [m.low for m in measured]))
    far = _far_factors([m.width for m in measured], INTENSITY_FACTOR)
    shifts = np.array([(m.low - low) / max(m.width, width) for m in measured])
    shifted = np.abs(shifts) > max(INTENSITY_SHIFT, SPREADS * _robust_deviation(shifts))
    usual = f"the median case {_between(low, low + width)}"
    for facts, m, is_far, is_shifted in zip(cases, measured, far, shifted, strict=True):
        if is_far or is_shifted:
            how = f"{_times(m.width / width)} as wide" if is_far else f"shifted by {m.low - low:.4g}"
            text = f"channel {channel} runs {_between(m.low, m.high)}, {usual}: {how}"
            yield Problem("warning", "intensity", text, facts.case, facts.images[0])


def _between(low: float, high: float) -> str:
    """A range in plain figures.

    >>> _between(0.0123456, 391600.4)
    'from 0.0123 to 391,600'
    """
    return f"from {_plain(low)} to {_plain(high)}"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def unlike_volumes(layout: Layout, cases: Cases) -> Iterator[Problem]:
    """Warnings for cases in which a class is far larger or smaller than in the median case; of segmentations only."""
    if layout.task != "segmentation":
        return
    for name in class_names(layout.task, layout.classes, cases):
        sizes = [(facts, facts.labels[name].ml) for facts in cases if facts.labels and name in facts.labels]
        having = [(facts, ml) for facts, ml in sizes if ml > 0]
        if len(having) < FEWEST:
            continue
        median = statistics.median_low(ml for _, ml in having)
        for (facts, ml), far in zip(having, _far_factors([ml for _, ml in having], VOLUME_FACTOR), strict=True):
            if far:
                text = f"{name} has {_plain(ml)} ml, {_times(ml / median)} the median of {_plain(median)} ml"
                yield Problem("warning", "volume", text, facts.case, facts.label)


def _far_factors(values: Sequence[float], factor: float) -> npt.NDArray[np.bool_]:
    """Which values are more than ``factor`` times the median or less than its part, and unusual for these values.

    >>> _far_factors([1.0, 1.1, 0.9, 1.2, 20.0], 10).tolist()
    [False, False, False, False, True]
    """
    logs = np.log10(np.asarray(values))
    return np.abs(logs - np.median(logs)) > max(log10(factor), SPREADS * _robust_deviation(logs))


def _robust_deviation(values: npt.NDArray[np.float64]) -> float:
    """The standard deviation of a normal distribution with the same median deviation."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _is_far(times: float, factor: float) -> bool:
    return not 1 / factor < times < factor


def _times(factor: float) -> str:
    """How many times as much, or which part.

    >>> _times(1234.5), _times(0.125)
    ('1,234 times', '1/8')
    """
    return f"{_plain(factor)} times" if factor >= 1 else f"1/{_plain(1 / factor)}"


def _mm(spacing: Iterable[float]) -> str:
    return " x ".join(f"{size:.3g}" for size in spacing) + " mm"


def dataset_notes(layout: Layout, cases: Cases) -> list[str]:
    """What is worth knowing and no problem: mixed orientations, axes stored left-handed, patients not stated."""
    grids = [facts.grid for facts in cases if facts.grid is not None]
    orientations = Counter(grid.orientation for grid in grids)
    left = [grid for grid in grids if np.linalg.det(grid.affine[:3, :3]) < 0]
    notes = []
    if layout.task == "segmentation" and not layout.classes:
        notes.append("no file names the classes: they are called by their numbers")
    if len(orientations) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in orientations.most_common())
        notes.append(f"orientations are mixed ({listed}): scans are turned to the one of the config, without loss")
    if left:
        names = ", ".join(sorted({grid.orientation for grid in left}))
        count = f"{len(left)} of {len(grids)} scans"
        notes.append(f"{count} are stored left-handed ({names}): that is understood, nothing is mirrored")
    if not any(facts.patient for facts in cases):
        notes.append("no patients are stated: each case counts as one patient")
    return notes
