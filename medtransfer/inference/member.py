"""One network of a prediction: its card, and how it is run over a prepared scan."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..checkpoint.card import ModelCard
from ..errors import ModelError, ResourceError
from ..volumes.memory import require_memory, size_text
from .crop import Box, with_surroundings
from .engine import Engine, PassTooLargeError
from .flips import with_flips
from .windows import Plan, Run, plan_whole, plan_windows, run_classifier, run_slabs, to_front

DEFAULT_WINDOW = 96


@dataclass
class Settings:
    """How all networks are run.

    Args:
        tile: ``auto``, ``whole``, or a window size in voxels of the working grid.
        memory: GiB that one pass may take, or ``auto``.
        overlap: Share by which windows overlap.
    """

    tile: str | tuple[int, ...] = "auto"
    memory: str | float = "auto"
    overlap: float = 0.5


@dataclass
class Record:
    """What is to be known of one run: the windows it took, and what the user should be told."""

    plan: Plan | None = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The window's size and their number."""
        return {"window": list(self.plan.window), "windows": len(self.plan.starts())} if self.plan else {}


@dataclass
class Member:
    """A network ready to run.

    Args:
        engine: The network on its device.
        card: Its card.
        folder: The model folder that it came from, if it did.
        settings: Windows and memory.
        flips: Axes of the working grid that are mirrored.
    """

    engine: Engine
    card: ModelCard
    folder: Path | None
    settings: Settings
    flips: Sequence[int] = ()

    def logits(self, array: npt.NDArray[np.float32], record: Record) -> Tensor:
        """Of a classifier, (K,) on the CPU, for a scan (C, D, H, W) on the working grid; errors as :meth:`slabs`."""
        image, run = torch.from_numpy(array), self._run(record)
        (found,) = self._passes(lambda plan: [run_classifier(run, image, plan).cpu()], array.shape[1:], 0, record)
        return found / (self.card.temperature or 1.0)

    def slabs(self, array: npt.NDArray[np.float32], box: Box, axis: int, record: Record) -> Iterator[Tensor]:
        """Of a segmenter: slabs as :func:`medtransfer.inference.windows.run_slabs` gives them.

        Only ``box`` of the scan (C, D, H, W) is run; all around it is the first class.

        Raises:
            ResourceError: memory does not suffice for one window.
            ModelError: the network gives something else than its card says, or NaN.
        """
        image, run = torch.from_numpy(array)[(slice(None), *box)], self._run(record)
        slabs = self._passes(lambda plan: run_slabs(run, image, plan, axis), image.shape[1:], axis, record)
        if image.shape == array.shape:
            yield from slabs
        else:
            yield from with_surroundings(slabs, to_front(box, axis), to_front(array.shape[1:], axis))

    def _passes(
        self, over: Callable[[Plan], Iterable[Tensor]], shape: Sequence[int], axis: int, record: Record
    ) -> Iterable[Tensor]:
        """What ``over`` gives by the plan for ``shape``; one pass that memory does not allow is done in windows."""
        plan = record.plan = self._plan(shape, axis)
        try:
            return list(over(plan)) if plan.is_whole else over(plan)
        except PassTooLargeError as error:
            smaller = self._windows(shape, axis)
            if self.settings.tile != "auto" or math.prod(smaller.window) >= math.prod(plan.window):
                raise
            record.notes.append(f"{error.reason}: run in windows of {'x'.join(map(str, smaller.window))} voxels")
        if self.engine.device.type == "cuda":
            torch.cuda.empty_cache()
        record.plan = smaller
        return over(smaller)

    def _plan(self, shape: Sequence[int], axis: int) -> Plan:
        tile, patch = self.settings.tile, self.card.patch_size
        whole = plan_whole(shape, self.engine.strides, patch)
        if tile == "whole":
            return whole
        if tile != "auto":
            return self._affordable(plan_windows(shape, tile, self.settings.overlap), axis)  # type: ignore[arg-type]
        fixed = patch is not None and self.engine.sees_whole_input
        return whole if not fixed and self._fits(whole) else self._windows(shape, axis)

    def _windows(self, shape: Sequence[int], axis: int) -> Plan:
        window = self.card.patch_size or [-(-DEFAULT_WINDOW // stride) * stride for stride in self.engine.strides]
        return self._affordable(plan_windows(shape, window, self.settings.overlap), axis)

    def _fits(self, plan: Plan) -> bool:
        return self.engine.fits(plan.window, len(self.card.classes), self.settings.memory)

    def _affordable(self, plan: Plan, axis: int) -> Plan:
        classes = len(self.card.classes)
        if not self._fits(plan):
            sizes = "x".join(str(size) for size in plan.window)
            needed, free = (
                self.engine.estimate_bytes(plan.window, classes),
                self.engine.free_bytes(self.settings.memory),
            )
            reason = f"one window of {sizes} voxels needs about {size_text(needed)}, the budget is {size_text(free)}"
            raise ResourceError(reason, hint="Give a smaller tile, or more memory")
        rows = plan.window[axis] * math.prod(plan.padded) // plan.padded[axis]
        require_memory(4 * (classes + 1) * rows, "the blended logits of one row of windows")
        return plan

    def _run(self, record: Record) -> Run:
        """One pass, checked: of the size that the card says, and finite."""
        classifies = self.card.task == "classification"

        def checked(image: Tensor) -> Tensor:
            logits, note = self.engine.finite(image)
            record.notes += [] if note is None or note in record.notes else [note]
            wanted = (len(self.card.classes), *(() if classifies else image.shape[2:]))
            if tuple(logits.shape[1:]) != wanted:
                raise ModelError(f"the network gives logits of shape {tuple(logits.shape[1:])}, its card says {wanted}")
            return logits

        return with_flips(checked, self.flips, classifies)
