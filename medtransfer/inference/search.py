"""From prepared scans to what is found in them: maps and vectors by head, or boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model_zoo.detection.box_set import BoxSet
from ..volumes.boxes import clip_boxes, move_boxes
from ..volumes.prepare import Prepared
from ..volumes.read import Volume
from .assemble import Stream, assemble_heads, mean_logits, slab_axis
from .box_fusion import fuse
from .crop import Box, foreground_box, whole_box
from .findings import Classification, Detection, Finding, Regression, Segmentation, Several
from .kinds import Head
from .member import Member
from .outputs import is_mapped
from .planning import Record
from .postprocess import Cleaning
from .thresholds import Thresholds

#: what a head without a map finds, and how the vectors of several networks become one
_FLAT: dict[str, tuple[Callable[..., Finding], Callable[[Sequence[Tensor]], Tensor]]] = {
    "classification": (Classification, mean_logits),
    "regression": (Regression, lambda values: torch.stack(list(values)).mean(0)),
}


@dataclass
class Search:
    """One scan, and all that looks at it.

    Args:
        volume: The scan.
        members: The networks.
        prepared: The scan as each network wants it.
        records: What is to be known of each run.
        crop: Run only the box around what the scan shows.
        cleaning: What is done to a mask; of boxes, which classes are kept.
    """

    volume: Volume
    members: Sequence[Member]
    prepared: Sequence[Prepared]
    records: Sequence[Record]
    crop: bool
    cleaning: Cleaning

    def heads(self, keep: bool | None) -> Finding:
        """What the heads found; the logits of maps are kept if ``keep`` says so, None: if they fit the memory."""
        heads = self.members[0].heads
        found = dict(self._maps(keep)) if self.members[0].sizes else dict(self._vectors())
        named = {head.name: found[head.name] for head in heads}
        return named[""] if "" in named else Several(Head("", "multitask", list(named)), self.volume, named)

    def boxes(self, thresholds: Thresholds) -> Finding:
        """The boxes of a detector, on the scan's own grid.

        Args:
            thresholds: From which score boxes are kept, and from which overlap two are one.
        """
        looks = [one for member in self._runs() for one in self._boxes(*member, thresholds.overlap)]
        found = fuse(looks, thresholds.overlap)
        found = found.take(found.scores >= thresholds.score)
        if self.cleaning.kept is not None:
            found = found.take(torch.isin(found.labels, torch.tensor(self.cleaning.kept)))
        (head,) = self.members[0].heads
        return Detection(head, self.volume, found.boxes.numpy(), found.labels.numpy(), found.scores.numpy())

    def _boxes(self, member: Member, ready: Prepared, record: Record, overlap: float) -> Iterator[BoxSet]:
        for look in member.boxes(ready.array, self._box(ready, record), overlap, record):
            moved = move_boxes(look.boxes.numpy(), ready.grid, ready.source_grid)
            yield BoxSet(torch.from_numpy(clip_boxes(moved, ready.source_grid.shape)), look.labels, look.scores)

    def _maps(self, keep: bool | None) -> Iterator[tuple[str, Finding]]:
        axis, first = slab_axis(self.prepared[0].regrid), self.members[0]
        beside: list[list[Tensor]] = [[] for _ in self.members]
        streams = []
        for (member, ready, record), aside in zip(self._runs(), beside, strict=True):
            slabs = member.slabs(ready.array, self._box(ready, record), axis, record, aside)
            streams.append(Stream(slabs, ready.regrid, axis))
        assembled = assemble_heads(streams, first.sizes, keep)
        for head, one in zip(filter(is_mapped, first.heads), assembled, strict=True):
            self.cleaning.apply(one.labels)
            yield head.name, Segmentation(head, self.volume, one.labels, one.logits)
        if any(beside):
            yield from self._split([torch.stack(aside).mean(0) for aside in beside])

    def _vectors(self) -> Iterator[tuple[str, Finding]]:
        return self._split([member.logits(ready.array, record) for member, ready, record in self._runs()])

    def _split(self, vectors: Sequence[Tensor]) -> Iterator[tuple[str, Finding]]:
        """What the heads without a map found; of several networks the mean of probabilities or of values."""
        flat = [head for head in self.members[0].heads if not is_mapped(head)]
        each = zip(*(vector.split([len(head.classes) for head in flat]) for vector in vectors), strict=True)
        for head, parts in zip(flat, each, strict=True):
            finding, mean = _FLAT[head.task]
            yield head.name, finding(head, self.volume, mean(parts))

    def _box(self, ready: Prepared, record: Record) -> Box:
        box = foreground_box(ready.array) if self.crop else whole_box(ready.array)
        if box is None:
            record.notes.append("the scan shows nothing but its surroundings: not cropped")
        return box or whole_box(ready.array)

    def _runs(self) -> Iterator[tuple[Member, Prepared, Record]]:
        return zip(self.members, self.prepared, self.records, strict=True)
