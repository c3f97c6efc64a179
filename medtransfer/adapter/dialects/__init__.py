"""How each source names its tensors: one small file a dialect, one table of all.

A dialect turns the keys of a state dict into the zoo's own names (``stem.0.conv.weight``, ``layer1.0.conv1.weight``,
``decoder_0.up.weight``, ``head_fc.weight`` ...). Source and target are both read through the same table, so that a
saved segmenter loads into a classifier as readily as the other way round.
"""

from __future__ import annotations

import difflib

from ...errors import UsageError
from .base import Dialect, Written
from .conv_unet import ConvUNetDialect
from .detector import DetectorDialect
from .flexible_unet import FlexibleUNetDialect
from .genesis import GenesisDialect
from .kinetics import KineticsDialect
from .medicalnet import MedicalNetDialect
from .mmpretrain import MMPretrainDialect
from .monai_resnet import MonaiResNetDialect
from .nnssl import NnsslDialect
from .nnunet import NNUNetDialect
from .ptimz import PtimzDialect
from .resnet import ResNetDialect
from .resunet import ResUNetDialect
from .torchvision_resnet import TorchvisionResNetDialect
from .torchvision_vgg import TorchvisionVGGDialect
from .vgg import VGGDialect


def detect(written: Written) -> Dialect | None:
    """The dialect in which these weights are written, or None."""
    return next((dialect for dialect in DIALECTS if dialect.recognises(written)), None)


#: tried in this order; the first that recognises the weights is taken
DIALECTS: tuple[Dialect, ...] = (
    DetectorDialect(detect),
    NnsslDialect(),
    NNUNetDialect(),
    GenesisDialect(),
    PtimzDialect(),
    MMPretrainDialect(),
    FlexibleUNetDialect(),
    MedicalNetDialect(),
    KineticsDialect(),
    MonaiResNetDialect(),
    TorchvisionResNetDialect(),
    TorchvisionVGGDialect(),
    ResUNetDialect(),
    VGGDialect(),
    ConvUNetDialect(),
    ResNetDialect(),
)


def dialect_named(name: str) -> Dialect:
    """A dialect by its name.

    Raises:
        UsageError: there is none of this name; close names are given.

    >>> dialect_named("resnet").name
    'resnet'
    """
    names = {dialect.name: dialect for dialect in DIALECTS}
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or list(names)
        raise UsageError(f"there is no source format {name!r}", hint=f"Use {', '.join(near)}")
    return names[name]
