"""What one pass of a network gave, head by head, checked against its card."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..errors import ModelError
from ..model_zoo.detection.box_set import BoxSet
from .engine import Output
from .kinds import Head


def is_mapped(head: Head) -> bool:
    """Whether a head gives logits for every voxel."""
    return head.task == "segmentation"


def by_head(output: Output, heads: Sequence[Head], shape: Sequence[int]) -> dict[str, Tensor]:
    """Logits (1, K, D, H, W), or (1, K), by the head's name, which is empty of an only one.

    Args:
        output: Of a pass over an image of ``shape``, (D, H, W).
        heads: What the card says.
        shape: Of the image.

    Raises:
        ModelError: heads or shapes are not what the card says.
    """
    found = output if isinstance(output, dict) else {"": output}
    names = [head.name for head in heads]
    if sorted(found) != sorted(names):
        raise ModelError(f"the network gives the heads {_listed(found)}, its card says {_listed(names)}")
    for head in heads:
        seen, wanted = tuple(found[head.name].shape[1:]), (len(head.classes), *(shape if is_mapped(head) else ()))
        if seen != wanted:
            of = f" for {head.name}" if head.name else ""
            raise ModelError(f"the network gives logits of shape {seen}{of}, its card says {wanted}")
    return found


def boxes_of(output: object, num_classes: int) -> BoxSet:
    """The boxes that a detector gave for one image.

    Raises:
        ModelError: it is not what a detector gives, or names a class that the card has not.
    """
    fields = ("boxes", "labels", "scores")
    if not isinstance(output, dict) or not all(isinstance(output.get(name), Tensor) for name in fields):
        raise ModelError("a detector must give a dict of boxes, labels and scores for every image")
    shapes, count = [tuple(output[name].shape) for name in fields], len(output["scores"])
    if shapes != [(count, 6), (count,), (count,)]:
        raise ModelError(f"a detector must give boxes (N, 6), labels and scores (N,), got shapes {shapes}")
    found = BoxSet.of(output)
    if count and not 0 < int(found.labels.min()) <= int(found.labels.max()) < num_classes:
        seen = f"{int(found.labels.min())} to {int(found.labels.max())}"
        raise ModelError(f"the detector gives classes {seen}, its card has 1 to {num_classes - 1}")
    return found


def _listed(names: Sequence[str] | dict[str, Tensor]) -> str:
    return ", ".join(name or "(only one)" for name in names)
