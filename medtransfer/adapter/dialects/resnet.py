"""ResNet keys as torchvision, MedicalNet, MONAI, ptimz and this zoo write them."""

from __future__ import annotations

import re

from .base import Dialect

#: names of the classification head elsewhere -> here
_HEADS = {"fc.weight": "head_fc.weight", "fc.bias": "head_fc.bias"}


def _recognises(keys: list[str]) -> bool:
    return any(re.match(r"layer\d\.\d+\.conv1\.weight", key) for key in keys)


def _rename(keys: list[str]) -> dict[str, str]:
    return {key: _HEADS[key] for key in keys if key in _HEADS}


RESNET = Dialect("resnet", _recognises, _rename)
