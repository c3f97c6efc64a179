"""One network of a prediction: its card, and how it is run over a prepared scan."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..checkpoint.card import ModelCard
from ..errors import ResourceError
from ..model_zoo.detection.box_set import BoxSet
from ..model_zoo.detection.box_windows import detect_in_windows
from ..volumes.memory import require_memory, size_text
from .crop import Box, with_surroundings
from .engine import Engine, Output, PassTooLargeError
from .flips import flip_choices, with_flips
from .kinds import Head, heads_of
from .outputs import boxes_of, by_head, is_mapped
from .windows import Plan, Run, plan_unpadded, plan_whole, plan_windows, run_classifier, run_slabs, to_front

Found = TypeVar("Found")
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

    @cached_property
    def heads(self) -> list[Head]:
        """What the network gives."""
        return heads_of(self.card)

    @cached_property
    def sizes(self) -> list[int]:
        """How many classes each head with a map has, in the order of their logits in a slab."""
        return [len(head.classes) for head in self.heads if is_mapped(head)]

    def logits(self, array: npt.NDArray[np.float32], record: Record) -> Tensor:
        """Without maps: what the heads give behind each other, (S,) on the CPU; of one classifier, its logits (K,).

        Args:
            array: A scan (C, D, H, W) on the working grid.
            record: What is to be known of the run.

        Errors as :meth:`slabs`.
        """
        image, run = torch.from_numpy(array), self._run(record, [])
        (found,) = self._passes(lambda plan: [run_classifier(run, image, plan).cpu()], array.shape[1:], 0, record)
        return found / (self.card.temperature or 1.0)

    def slabs(
        self, array: npt.NDArray[np.float32], box: Box, axis: int, record: Record, aside: list[Tensor] | None = None
    ) -> Iterator[Tensor]:
        """The maps: slabs as :func:`medtransfer.inference.windows.run_slabs` gives them, all heads behind each other.

        Only ``box`` of the scan (C, D, H, W) is run; all around it is the first class. What the heads without a map
        give is put ``aside``, (S,) of every pass.

        Raises:
            ResourceError: memory does not suffice for one window.
            ModelError: the network gives something else than its card says, or NaN.
        """
        beside = [] if aside is None else aside
        image, run = torch.from_numpy(array)[(slice(None), *box)], self._run(record, beside)

        def over(plan: Plan) -> Iterator[Tensor]:
            beside.clear()
            return run_slabs(run, image, plan, axis)

        slabs = self._passes(over, image.shape[1:], axis, record)
        if image.shape == array.shape:
            yield from slabs
        else:
            firsts = [sum(self.sizes[:number]) for number in range(len(self.sizes))]
            yield from with_surroundings(slabs, to_front(box, axis), to_front(array.shape[1:], axis), firsts)

    def boxes(self, array: npt.NDArray[np.float32], box: Box, threshold: float, record: Record) -> list[BoxSet]:
        """Of a detector: the boxes on the working grid of every look, the scan itself and each mirror image of it.

        Only ``box`` of the scan (C, D, H, W) is run. Errors as :meth:`slabs`.
        """
        image, offset = torch.from_numpy(array)[(slice(None), *box)], [part.start for part in box]
        shape, run = image.shape[1:], self._detect(record)

        def look(plan: Plan, axes: Sequence[int]) -> BoxSet:
            seen = torch.flip(image, [axis + 1 for axis in axes])
            found = detect_in_windows(run, seen, plan.starts(), plan.window, threshold)
            return found.mirrored(axes, shape).moved(offset)

        choices = flip_choices(self.flips)
        return list(self._passes(lambda plan: [look(plan, axes) for axes in choices], shape, 0, record))

    def _passes(
        self, over: Callable[[Plan], Iterable[Found]], shape: Sequence[int], axis: int, record: Record
    ) -> Iterable[Found]:
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
        detects = self.engine.detects
        whole = plan_unpadded(shape) if detects else plan_whole(shape, self.engine.strides, patch)
        if tile == "whole":
            return whole
        if tile != "auto":
            return self._affordable(self._tiled(shape, tile), axis)  # type: ignore[arg-type]
        fixed = patch is not None and self.engine.sees_whole_input
        return whole if not fixed and self._fits(whole) else self._windows(shape, axis)

    def _windows(self, shape: Sequence[int], axis: int) -> Plan:
        window = self.card.patch_size or [-(-DEFAULT_WINDOW // stride) * stride for stride in self.engine.strides]
        return self._affordable(self._tiled(shape, window), axis)

    def _tiled(self, shape: Sequence[int], window: Sequence[int]) -> Plan:
        """A detector pads by itself, after its own scaling of intensities."""
        sizes = [min(pair) for pair in zip(window, shape, strict=True)] if self.engine.detects else window
        return plan_windows(shape, sizes, self.settings.overlap)

    def _fits(self, plan: Plan) -> bool:
        return self.engine.fits(plan.window, self._outputs, self.settings.memory)

    @property
    def _outputs(self) -> int:
        return sum(len(head.classes) for head in self.heads)

    def _affordable(self, plan: Plan, axis: int) -> Plan:
        classes = self._outputs
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

    def _run(self, record: Record, aside: list[Tensor]) -> Run:
        """One pass, checked: of the sizes that the card says, and finite."""
        maps, flat = ([head for head in self.heads if is_mapped(head) == mapped] for mapped in (True, False))

        def checked(image: Tensor) -> Tensor:
            found = by_head(self._finite(image, record), self.heads, image.shape[2:])
            vectors = [found[head.name] for head in flat]
            if not maps:
                return torch.cat(vectors, dim=1)
            aside.extend([torch.cat(vectors, dim=1)[0].cpu()] if flat else [])
            return torch.cat([found[head.name] for head in maps], dim=1) if len(maps) > 1 else found[maps[0].name]

        return with_flips(checked, self.flips, not maps)

    def _detect(self, record: Record) -> Callable[[Tensor], BoxSet]:
        classes = len(self.card.classes)
        return lambda image: boxes_of(self._finite(image, record, "boxes"), classes)

    def _finite(self, image: Tensor, record: Record, what: str = "logits") -> Output:
        output, note = self.engine.finite(image, what)
        record.notes += [] if note is None or note in record.notes else [note]
        return output
