"""From which score a detector's boxes are kept, and from which overlap two of them are one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ..model_zoo.detection.suppress import OVERLAP, overlap_of


@dataclass(frozen=True)
class Thresholds:
    """How boxes are chosen.

    Args:
        score: Of the boxes that are kept, at least.
        overlap: Intersection over union above which two boxes of one class are one thing.
    """

    score: float = 0.0
    overlap: float = OVERLAP


def choose_thresholds(networks: Sequence[nn.Module], score: float | None = None) -> Thresholds:
    """The thresholds of detectors; of several, the lowest score and the highest overlap.

    A ``score`` below a detector's own lowers that of the detector, in place.

    >>> choose_thresholds([nn.Identity()])
    Thresholds(score=0.0, overlap=0.4)
    """
    if score is not None:
        for network in networks:
            network.score_thresh = min(float(getattr(network, "score_thresh", 0.0)), score)  # type: ignore[assignment]
    lowest = min(getattr(network, "score_thresh", 0.0) for network in networks)
    highest = max(overlap_of(network) for network in networks)
    return Thresholds(lowest if score is None else score, highest)
