"""The training loss of a run, from its log."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

MAX_POINTS = 60


def read_curve(folder: str | Path) -> list[tuple[int, float | None]]:
    """(step, loss) from every ``vis_data/scalars.json`` of a training folder, thinned to at most ``MAX_POINTS``.

    A run that was cut has several; where they overlap the later one counts, since it led to the weights. The loss is
    mmengine's, a mean over the last steps.
    """
    losses: dict[int, float | None] = {}
    for log in sorted(Path(folder).glob("*/vis_data/scalars.json")):
        losses.update(_losses(log))
    points = sorted(losses.items())
    stride = math.ceil(len(points) / MAX_POINTS) or 1
    return points[::-1][::stride][::-1]  # the last one always stays


def _losses(log: Path) -> Iterator[tuple[int, float | None]]:
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # the run was killed amid a line
            continue
        if isinstance(row, dict) and "loss" in row and "step" in row:
            yield int(row["step"]), float(row["loss"]) if math.isfinite(row["loss"]) else None
