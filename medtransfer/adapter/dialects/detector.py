"""Detectors of torchvision and of this zoo, which have the same keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from .base import Dialect, Home, Written

_BODY = "body."
#: convolutions of torchvision's detectors that tell their kind: the tensor in front of the anchors
_KINDS = {"rpn.head.conv.0.0.weight": "faster_rcnn", "head.classification_head.conv.0.0.weight": "retinanet"}
#: rows of all anchors of a place, and rows of each of them
_ANCHORS = {"faster_rcnn": "rpn.head.bbox_pred.bias", "retinanet": "head.regression_head.bbox_reg.bias"}
#: keys of files that torchvision wrote before 0.13, its published ones among them, -> those of today
_OLD: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"(fpn\.\w+_blocks\.\d+)\.(weight|bias)"), lambda found: f"{found[1]}.0.{found[2]}"),
    (re.compile(r"(rpn\.head\.conv)\.(weight|bias)"), lambda found: f"{found[1]}.0.0.{found[2]}"),
    # convolutions and activations were numbered together
    (
        re.compile(r"(head\.\w+\.conv)\.(\d+)\.(weight|bias)"),
        lambda found: f"{found[1]}.{int(found[2]) // 2}.0.{found[3]}",
    ),
)

#: what torchvision's published detectors are beyond their tensors: arguments of ``create_model``
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
_COMMON: dict[str, Any] = {
    "min_size": 800,
    "max_size": 1333,
    "image_mean": _MEAN,
    "image_std": _STD,
    "size_divisible": 32,
    "rounded_anchors": True,
}
_TORCHVISION: dict[str, dict[str, Any]] = {
    "faster_rcnn": {
        **_COMMON,
        "extra_levels": "pool",
        "anchor_sizes": [[32], [64], [128], [256], [512]],
        **{f"rpn_{when}_nms_top_n_train": 2000 for when in ("pre", "post")},
        **{f"rpn_{when}_nms_top_n_test": 1000 for when in ("pre", "post")},
        "box_batch_size_per_image": 512,
    },
    "retinanet": {
        **_COMMON,
        "extra_levels": "p6p7",
        "returned_layers": [2, 3, 4],
        "detections_per_img": 300,
        "anchor_sizes": [[x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))] for x in (32, 64, 128, 256, 512)],
    },
}
#: anchors of a place in them
_TORCHVISION_ANCHORS = {"faster_rcnn": 3, "retinanet": 9}
_NOTE = (
    "torchvision trained with norms that never move (FrozenBatchNorm2d), its published COCO_V1 weights with eps=0: "
    "give norm_cfg=dict(type='BN', eps=0.0) for the same maps to the last digit"
)


class DetectorDialect(Dialect):
    """``backbone.body.*``, ``backbone.fpn.*``, ``rpn.*``, ``roi_heads.*`` or ``head.*``.

    The body is read in whatever dialect it is written, renamed but not converted; what stands behind it keeps its name.
    Source: torchvision/models/detection (0.28).

    Args:
        detect: Tells the dialect of the body.
    """

    name = "detector"
    title = "Faster R-CNN or RetinaNet of torchvision or of this zoo"

    def __init__(self, detect: Callable[[Written], Dialect | None]) -> None:
        self._detect = detect

    def recognises(self, written: Written) -> bool:
        """By the head in front of the anchors, and a body."""
        return _kind(map(_of_today, written.tensors)) is not None and written.has(r"body\.")

    def rename(self, written: Written) -> Mapping[str, str | None]:
        """The body's keys as its own dialect has them, and those of old heads."""
        body = _body(written)
        inner = self._detect(body)
        own = {} if inner is None else inner.rename(body)
        names: dict[str, str | None] = {_BODY + key: own.get(key, key) for key in body.tensors}
        today = {key: _of_today(key) for key in written.tensors if key not in names}
        names |= {key: name for key, name in today.items() if name != key}
        return names

    def home(self, tensors: Mapping[str, Tensor], written: Written) -> Home | None:
        """The detector around the network that the body is of, as far as the tensors tell."""
        body, kind = _body(written), _kind(tensors)
        inner = self._detect(body)
        encoder = None if inner is None else inner.home(tensors, body)
        if encoder is None or kind is None:
            return None
        own = {name: value for name, value in encoder.arguments.items() if name not in ("num_classes", "head_type")}
        found = _arguments(kind, tensors)
        usual = found.pop("torchvision")
        note = _NOTE if usual and not written.has(r"body\..*num_batches_tracked") else encoder.note
        more = _TORCHVISION[kind] if usual else {}
        return Home(f"{kind}_{encoder.name}", {**own, **more, **found}, note)


def _of_today(key: str) -> str:
    for pattern, name in _OLD:
        if found := pattern.fullmatch(key):
            return name(found)
    return key


def _kind(names: Iterable[str]) -> str | None:
    known = set(names)
    return next((kind for name, kind in _KINDS.items() if name in known), None)


def _body(written: Written) -> Written:
    tensors = {key.removeprefix(_BODY): t for key, t in written.tensors.items() if key.startswith(_BODY)}
    own = {key.removeprefix(_BODY): own for key, own in written.own_keys.items() if key.startswith(_BODY)}
    return Written(tensors, own, {}, written.wrapper)


def _arguments(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments that the tensors tell, and whether they are of a network that torchvision publishes."""
    first = next(tensors[key] for key, of in _KINDS.items() if of == kind)
    ndim, anchors = first.ndim - 2, anchors_of(tensors)
    pyramid = "fpn.layer_blocks.0.0.weight" in tensors
    found: dict[str, Any] = {
        "num_classes": classes_of(tensors),
        **({"out_channels": first.shape[1]} if pyramid else {"fpn": False}),
        **({"extra_levels": "p6p7"} if "fpn.extra_blocks.p6.weight" in tensors else {}),
        "torchvision": pyramid and ndim == 2 and anchors == _TORCHVISION_ANCHORS[kind],
    }
    if kind == "faster_rcnn" and "roi_heads.box_head.fc6.weight" in tensors:
        rows, columns = tensors["roi_heads.box_head.fc6.weight"].shape
        bins = round((columns / first.shape[1]) ** (1 / ndim))
        found |= {"box_head_size": rows, "box_roi_size": bins}
    return found


def anchors_of(tensors: Mapping[str, Tensor]) -> int | None:
    """Anchors of a place in a detector, by tensors under the zoo's names; None where there is no head of anchors."""
    kind = _kind(tensors)
    if kind is None or _ANCHORS[kind] not in tensors:
        return None
    return len(tensors[_ANCHORS[kind]]) // (2 * dimensions_of(tensors))


def dimensions_of(tensors: Mapping[str, Tensor]) -> int:
    """Spatial dimensions of a detector's boxes, 0 where no detector is."""
    return next((tensors[key].ndim - 2 for key in _KINDS if key in tensors), 0)


def classes_of(tensors: Mapping[str, Tensor]) -> int | None:
    """Classes of a detector's head, the background included; None where it has none that is known."""
    rows = tensors.get("roi_heads.box_predictor.cls_score.bias")
    if rows is not None:
        return len(rows)
    of_anchors = tensors.get("head.classification_head.cls_logits.bias")
    anchors = anchors_of(tensors)
    return None if of_anchors is None or not anchors else len(of_anchors) // anchors
