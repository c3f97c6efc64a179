"""One network of a prediction: its card, and how it is run over a prepared scan."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..checkpoint.card import ModelCard
from ..model_zoo.detection.box_set import BoxSet
from ..model_zoo.detection.box_windows import detect_in_windows
from .blank import SkipBlank
from .crop import Box, with_surroundings
from .engine import Engine, Output, PassTooLargeError
from .flips import flip_choices, with_flips
from .kinds import Head, heads_of
from .outputs import boxes_of, by_head, is_mapped
from .planning import AnyPlan, Planner, Record, Settings
from .shapes import shape_text, to_front
from .windows import Run, run_classifier, run_slabs

Found = TypeVar("Found")


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
    def planner(self) -> Planner:
        """How it is run over scans."""
        return Planner(self.engine, self.card.patch_size, self.heads, self.settings)

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
        image, run = self._placed(torch.from_numpy(array)), self._run(record, [])
        (found,) = self._passes(lambda plan: [run_classifier(run, image, plan).cpu()], image, 0, record)
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
        image, run = self._placed(torch.from_numpy(array)[(slice(None), *box)]), self._run(record, beside)

        def over(plan: AnyPlan) -> Iterator[Tensor]:
            beside.clear()
            return run_slabs(run, image, plan, axis)

        slabs = self._passes(over, image, axis, record)
        if image.shape == array.shape:
            yield from slabs
        else:
            firsts = [sum(self.sizes[:number]) for number in range(len(self.sizes))]
            yield from with_surroundings(slabs, to_front(box, axis), to_front(array.shape[1:], axis), firsts)

    def boxes(self, array: npt.NDArray[np.float32], box: Box, threshold: float, record: Record) -> list[BoxSet]:
        """Of a detector: the boxes on the working grid of every look, the scan itself and each mirror image of it.

        Only ``box`` of the scan (C, D, H, W) is run. Errors as :meth:`slabs`.
        """
        image, offset = self._placed(torch.from_numpy(array)[(slice(None), *box)]), [part.start for part in box]
        shape, run = image.shape[1:], self._detect(record)

        def look(plan: AnyPlan, axes: Sequence[int]) -> BoxSet:
            seen = torch.flip(image, [axis + 1 for axis in axes])
            found = detect_in_windows(run, seen, plan.starts(), plan.window, threshold)
            return found.mirrored(axes, shape).moved(offset)

        choices = flip_choices(self.flips)
        return list(self._passes(lambda plan: [look(plan, axes) for axes in choices], image, 0, record))

    def _passes(
        self, over: Callable[[AnyPlan], Iterable[Found]], image: Tensor, axis: int, record: Record
    ) -> Iterable[Found]:
        """What ``over`` gives by the plan for ``image``; a pass that memory does not allow is done in smaller ones."""
        record.tell(self.engine.settled)
        plan = self.planner.first(image, axis, record)
        while True:
            record.plan, record.skipped = plan, 0
            try:
                return _begun(over(plan))
            except PassTooLargeError as error:
                smaller = self.planner.smaller(image, axis, plan)
                if smaller is None:
                    raise
                plan, record.why = smaller, error.reason
            record.tell(f"{record.why}: run in windows of {shape_text(plan.window)} voxels")
            if self.engine.device.type == "cuda":
                torch.cuda.empty_cache()

    def _placed(self, image: Tensor) -> Tensor:
        """The image on the device, if it leaves most of it to the passes: sent once, windows are then cut there."""
        device = self.engine.device
        if device.type != "cuda" or image.nbytes > torch.cuda.mem_get_info(device)[0] // 8:
            return image
        return image.pin_memory().to(device, non_blocking=True)

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

        flipped = with_flips(checked, self.flips, not maps)
        # what other heads give is counted by pass
        return flipped if flat else SkipBlank(flipped, record.skip)

    def _detect(self, record: Record) -> Callable[[Tensor], BoxSet]:
        classes = len(self.card.classes)
        return lambda image: boxes_of(self._finite(image, record, "boxes"), classes)

    def _finite(self, image: Tensor, record: Record, what: str = "logits") -> Output:
        output, note = self.engine.finite(image, what)
        record.tell(note)
        return output


def _begun(found: Iterable[Found]) -> Iterable[Found]:
    """The same with its first part computed already, in which it shows whether memory suffices."""
    parts = iter(found)
    return itertools.chain(list(itertools.islice(parts, 1)), parts)
