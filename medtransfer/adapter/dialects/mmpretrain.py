"""ResNets of OpenMMLab: mmpretrain's files, and the deep stem that mmsegmentation and mmdetection name otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .base import Home, Written, rename_rules, renamed_by
from .resnet import ResNetDialect
from .resnet_shape import resnet_home

#: mmsegmentation's and mmdetection's deep stem is one Sequential; mmpretrain's is three ConvModules, as here
_RULES = rename_rules(
    (r"head\.fc\.", "head_fc."),
    (r"stem\.0\.(?=weight)", "stem.0.conv."),
    (r"stem\.1\.(?=weight|bias|running|num)", "stem.0.bn."),
    (r"stem\.3\.", "stem.1.conv."),
    (r"stem\.4\.", "stem.1.bn."),
    (r"stem\.6\.", "stem.2.conv."),
    (r"stem\.7\.", "stem.2.bn."),
)


class MMPretrainDialect(ResNetDialect):
    """``{"state_dict": {"backbone.*", "head.fc.*"}, "meta": ...}``; ResNet, ResNetV1c and ResNetV1d.

    Source: mmpretrain/models/backbones/resnet.py (1.2.0).
    """

    name = "mmpretrain"
    title = "OpenMMLab ResNet (mmpretrain, mmsegmentation, mmdetection)"

    def recognises(self, written: Written) -> bool:
        """By ``head.fc``, a deep stem of one Sequential, or ``backbone.`` in a file with ``meta``."""
        if not self.can_read(written):
            return False
        return written.has(r"head\.fc\.weight|stem\.6\.weight") or (
            "meta" in written.metadata and _in_backbone(written)
        )

    def rename(self, written: Written) -> Mapping[str, str | None]:
        """The head, and a deep stem of one Sequential."""
        renamed = {key: renamed_by(_RULES, key) for key in written.tensors}
        return {key: name for key, name in renamed.items() if name != key}

    def home(self, tensors: Mapping[str, Tensor], written: Written) -> Home | None:
        """A deep stem and pooled shortcuts by the tensors; OpenMMLab's ResNets have a stem of stride 2."""
        return resnet_home(tensors, first_stride=2)

    def card(self, written: Written) -> dict[str, Any]:
        """Names of the classes, where ``meta`` has them for every row of the head."""
        meta = written.metadata.get("meta")
        names = _class_names(meta) if isinstance(meta, Mapping) else None
        rows = written.shape("head.fc.weight")
        return {"classes": list(names)} if names and rows and len(names) == rows[0] else {}


def _class_names(meta: Mapping[str, Any]) -> list[str] | None:
    """``dataset_meta.classes`` since mmengine, ``CLASSES`` before."""
    data = meta.get("dataset_meta")
    names = data.get("classes", data.get("CLASSES")) if isinstance(data, Mapping) else meta.get("CLASSES")
    valid = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    return names if valid else None


def _in_backbone(written: Written) -> bool:
    return any(re.match(r"(module\.)?backbone\.layer1\.", own) for own in written.own_keys.values())
