"""What scans and targets of a detector must be like, said before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import ModelError

#: boxes (N, 2 ndim), labels (N,), and of detections scores (N,)
Target = dict[str, Tensor]


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


#: the end of an argument's name, what it must be, and how that is tested; None stands for a default
_RULES: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    ("_thresh", "a number from 0 to 1", _is_share),
    ("_fraction", "a number from 0 to 1", _is_share),
    ("_train", "a positive whole number", _is_count),
    ("_test", "a positive whole number", _is_count),
    ("_per_image", "a positive whole number", _is_count),
    ("_per_img", "a positive whole number", _is_count),
    ("_candidates", "a positive whole number", _is_count),
    ("_head_size", "a positive whole number", _is_count),
)


def check_numbers(arguments: Mapping[str, Any]) -> None:
    """Refuse thresholds and counts that a detector cannot work with; it would find nothing, and say nothing.

    Raises:
        ModelError: one is out of its range.

    >>> check_numbers({"box_nms_thresh": 0.5, "box_head_size": 64, "min_size": None})
    """
    for name, value in arguments.items():
        for end, wanted, fine in _RULES:
            if name.endswith(end) and value is not None and not fine(value):
                raise ModelError(f"{name} must be {wanted}, got {value!r}")


def check_images(images: Sequence[Tensor], ndim: int, in_channels: int | None) -> None:
    """Refuse scans that a detector cannot take.

    Raises:
        ModelError: one is not (C, *spatial), has other channels or no finite values; or there is none.
    """
    if not len(images):
        raise ModelError("a detector needs at least one scan, got an empty list")
    for i, image in enumerate(images):
        shape = list(getattr(image, "shape", ()))
        if not isinstance(image, Tensor) or len(shape) != 1 + ndim or not all(shape):
            axes = "(C, D, H, W)"[: -3 * (3 - ndim) - 1] + ")" if ndim < 3 else "(C, D, H, W)"
            raise ModelError(f"images[{i}] must be a tensor {axes}, got {shape or type(image).__name__}",
                             hint="Give a list of scans, or one batched tensor")  # fmt: skip
        if shape[0] != (in_channels or images[0].shape[0]):
            raise ModelError(f"images[{i}] must have {in_channels or images[0].shape[0]} channels, got {shape[0]}")
        if not image.is_floating_point():
            raise ModelError(f"images[{i}] must be of floating point, got {image.dtype}", hint="Call .float()")
        if not torch.isfinite(image).all():
            raise ModelError(f"images[{i}] has values that are NaN or infinite", hint="Look at how it was prepared")


def check_targets(targets: Sequence[Target] | None, images: int, ndim: int, num_classes: int | None) -> None:
    """Refuse targets that a detector cannot learn from. Targets without any box are fine.

    Raises:
        ModelError: there are none, of another number, boxes without extent or not finite, labels of no class.
    """
    if targets is None:
        raise ModelError("a detector in training mode needs targets", hint="Call .eval() to detect boxes")
    if len(targets) != images:
        raise ModelError(f"there must be a target for each scan, got {len(targets)} for {images}")
    for i, target in enumerate(targets):
        if not isinstance(target, Mapping):
            raise ModelError(f"targets[{i}] must be a dict of boxes and labels, got {type(target).__name__}")
        for name in ("boxes", "labels"):
            if not isinstance(target.get(name), Tensor):
                raise ModelError(f"targets[{i}] needs a tensor {name!r}, got {', '.join(target) or 'nothing'}")
        _check_boxes(target["boxes"], f"targets[{i}]", ndim)
        _check_labels(target["labels"], len(target["boxes"]), f"targets[{i}]", num_classes)


def _check_boxes(boxes: Tensor, of: str, ndim: int) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 2 * ndim:
        raise ModelError(f"boxes of {of} must be (N, {2 * ndim}), got {list(boxes.shape)}",
                         hint=f"Without any box give torch.zeros(0, {2 * ndim})")  # fmt: skip
    if not boxes.is_floating_point():
        raise ModelError(f"boxes of {of} must be of floating point, got {boxes.dtype}", hint="Call .float()")
    # a comparison with NaN is false, so it is found here too
    fine = (boxes[:, ndim:] > boxes[:, :ndim]).all(1) & torch.isfinite(boxes).all(1)
    if not fine.all():
        first = boxes[int((~fine).nonzero()[0])].tolist()
        raise ModelError(f"a box of {of} must be finite with its upper corner above the lower one, got {first}",
                         hint="Leave boxes without extent out")  # fmt: skip


def _check_labels(labels: Tensor, boxes: int, of: str, num_classes: int | None) -> None:
    if labels.shape != (boxes,) or labels.is_floating_point():
        raise ModelError(f"labels of {of} must be ({boxes},) whole numbers, got {list(labels.shape)} {labels.dtype}")
    top = torch.iinfo(torch.int64).max if num_classes is None else num_classes - 1
    if boxes and not ((labels >= 1) & (labels <= top)).all():
        raise ModelError(f"labels of {of} must be from 1 to {top}, got {sorted(set(labels.tolist()))}",
                         hint="0 is the background, num_classes counts it")  # fmt: skip
