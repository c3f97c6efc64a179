"""What one run takes: the whole scan, tiles with a halo or windows, by what the network is and what memory there is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import ResourceError
from ..volumes.memory import require_memory, size_text
from .engine import Engine, PassTooLargeError
from .halo import measure_halo
from .kinds import Head
from .outputs import is_mapped
from .shapes import Shape, round_up, shape_text
from .tiles import Room, Tiles, fit_tiles, plan_tiles
from .windows import OVERLAP, Plan, plan_unpadded, plan_whole, plan_windows

AnyPlan = Plan | Tiles
DEFAULT_WINDOW = 96
#: what `auto` gives a scan and its passes, however much is free, so that the process stays below 4 GiB
MOST = 11 << 28
#: what a pass gets even of a scan that takes all of this by itself
LEAST = 1 << 29
SHRINK = 4  # a pass for which there was no memory is done in tiles that take this many times less


@dataclass
class Settings:
    """How all networks are run.

    Args:
        tile: ``auto``, ``whole``, or a window size in voxels of the working grid.
        memory: GiB that one pass may take, or ``auto``.
        overlap: Share by which windows overlap; None: a half, or as much as the halo of tiles asks for.
    """

    tile: str | tuple[int, ...] = "auto"
    memory: str | float = "auto"
    overlap: float | None = None

    @property
    def window_overlap(self) -> float:
        """Of windows, which have no halo."""
        return OVERLAP if self.overlap is None else self.overlap


@dataclass
class Record:
    """What is to be known of one run: how it was done, why, and what the user should be told.

    Args:
        held: Bytes that the scan takes beside the run.
        plan: How it was done.
        why: In words.
        skipped: Passes that were saved, since their windows showed nothing.
        notes: For the user.
    """

    held: int = 0
    plan: AnyPlan | None = None
    why: str = ""
    skipped: int = 0
    notes: list[str] = field(default_factory=list)

    def skip(self) -> None:
        """Count a pass that was saved."""
        self.skipped += 1

    def tell(self, note: str | None) -> None:
        """Add a note, once."""
        self.notes += [] if note is None or note in self.notes else [note]

    def to_dict(self) -> dict[str, Any]:
        """The window's size and their number, and what ``auto`` chose."""
        plan = self.plan
        if plan is None:
            return {}
        return {
            "window": list(plan.window),
            "windows": len(plan.starts()),
            "tile": "whole" if plan.is_whole else list(plan.window),
            "halo": list(plan.halo) if isinstance(plan, Tiles) and not plan.is_whole else None,
            "skipped": self.skipped,
            "why": self.why,
        }


class Planner:
    """How one network is run.

    Args:
        engine: The network.
        patch: Its patch of training, if the card says it.
        heads: What it gives.
        settings: What the user asked for.
    """

    def __init__(self, engine: Engine, patch: Sequence[int] | None, heads: Sequence[Head], settings: Settings) -> None:
        self.engine, self.patch, self.settings = engine, patch, settings
        self._outputs = sum(len(head.classes) for head in heads)
        mapped = all(is_mapped(head) for head in heads)
        self._looks_far = engine.sees_whole_input
        #: only logits of voxels are the same in a tile, and only where no layer looks at all of its input
        self._tileable = mapped and not engine.detects and not self._looks_far

    def first(self, image: Tensor, axis: int, record: Record) -> AnyPlan:
        """The plan for an image (C, D, H, W), whose slabs are given along ``axis``; ``record`` is told why.

        Raises:
            ResourceError: memory does not suffice for one window.
        """
        whole, tile = self._whole(image), self.settings.tile
        if tile == "whole":
            record.why = "one pass was asked for"
            return whole
        if not isinstance(tile, str):
            return self._asked(image, whole, tile, axis, record)
        if self.patch is not None and self._looks_far:
            record.why = "norms of this network look at their whole input: windows of the size of its training patches"
            return self._windows(image, axis)
        budget = self._budget(record)
        if self.engine.fits(whole.window, self._outputs, budget / 2**30):
            record.why = f"one pass fits the budget of {size_text(budget)}"
            return whole
        needed = size_text(self.engine.estimate_bytes(whole.window, self._outputs))
        record.why = f"one pass needs about {needed}, the budget is {size_text(budget)}"
        return self._tiles(image, whole, axis, budget) or self._windows(image, axis)

    def smaller(self, image: Tensor, axis: int, failed: AnyPlan) -> AnyPlan | None:
        """A plan for which there may be memory where there was none for one that ``auto`` chose; None: there is none.

        Raises:
            ResourceError: the estimate says that there is no memory for one window.
        """
        if self.settings.tile != "auto":
            return None
        taken = self.engine.estimate_bytes(failed.window, self._outputs)
        found = self._tiles(image, self._whole(image), axis, taken // SHRINK) or self._windows(image, axis)
        return found if math.prod(found.window) < math.prod(failed.window) else None

    def _whole(self, image: Tensor) -> Plan:
        shape = image.shape[1:]
        return plan_unpadded(shape) if self.engine.detects else plan_whole(shape, self.engine.strides, self.patch)

    def _budget(self, record: Record) -> int:
        """Of a network that tiles serve as well: what keeps the process small, too."""
        free, memory = self.engine.free_bytes(self.settings.memory), self.settings.memory
        if memory != "auto" or not self._tileable or self.engine.device.type != "cpu":
            return free
        return min(free, max(LEAST, MOST - record.held))

    def _tiles(self, image: Tensor, whole: Plan, axis: int, budget: int) -> Tiles | None:
        """The tiles that compute least."""
        halo = self._halo(image) if self._tileable else None
        if halo is None:
            return None
        logits = 4 * self._outputs
        # the logits of a blank tile are remembered
        voxel = self.engine.estimate_bytes(whole.window, self._outputs) / math.prod(whole.window) + logits
        return plan_tiles(whole.padded, self.engine.strides, halo, Room(budget, voxel, logits, axis))

    def _asked(self, image: Tensor, whole: Plan, tile: Sequence[int], axis: int, record: Record) -> AnyPlan:
        """Tiles or windows of the size that the user gave."""
        record.why = f"tiles of {shape_text(tile)} voxels were asked for"
        halo = self._halo(image) if self._tileable and self.settings.overlap is None else None
        if halo is not None:
            tiles = fit_tiles(whole.padded, self.engine.strides, halo, tile)
            if tiles is not None:
                return self._affordable(tiles, axis)
            record.why += f", too small for the network's halo of {shape_text(halo)}: windows with Gaussian weights"
        return self._affordable(self._windowed(image, tile), axis)

    def _windows(self, image: Tensor, axis: int) -> Plan:
        window = self.patch or [round_up(DEFAULT_WINDOW, stride) for stride in self.engine.strides]
        return self._affordable(self._windowed(image, window), axis)

    def _windowed(self, image: Tensor, window: Sequence[int]) -> Plan:
        """A detector pads by itself, after its own scaling of intensities."""
        shape = image.shape[1:]
        sizes = [min(pair) for pair in zip(window, shape, strict=True)] if self.engine.detects else window
        return plan_windows(shape, sizes, self.settings.window_overlap)

    def _affordable(self, plan: Any, axis: int) -> Any:
        memory = self.settings.memory
        if not self.engine.fits(plan.window, self._outputs, memory):
            needed = size_text(self.engine.estimate_bytes(plan.window, self._outputs))
            free = size_text(self.engine.free_bytes(memory))
            reason = f"one window of {shape_text(plan.window)} voxels needs about {needed}, the budget is {free}"
            raise ResourceError(reason, hint="Give a smaller tile, or more memory")
        rows = plan.window[axis] * math.prod(plan.padded) // plan.padded[axis]
        require_memory(4 * (self._outputs + 1) * rows, "the blended logits of one row of windows")
        return plan

    def _halo(self, image: Tensor) -> Shape | None:
        """None if there is no memory to find it."""
        try:
            return measure_halo(self._exact, image, self.engine.strides)
        except (PassTooLargeError, MemoryError):
            return None

    def _exact(self, patch: Tensor) -> Tensor:
        """In float32, so that the rounding of shorter numbers is not taken for a change."""
        found = self.engine.plain(patch)
        return found if isinstance(found, Tensor) else torch.cat([found[name] for name in sorted(found)], dim=1)
