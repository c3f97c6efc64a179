"""How each source names its tensors: one small file a dialect, one table of all.

A dialect turns the keys of a state dict into the zoo's own names (``stem.0.conv.weight``, ``layer1.0.conv1.weight``,
``decoder_0.up.weight``, ``head_fc.weight`` ...). Source and target are both read through the same table, so that a
saved segmenter loads into a classifier as readily as the other way round.
"""

from __future__ import annotations

from collections.abc import Iterable

from .base import Dialect
from .resnet import RESNET
from .resunet import RESUNET

#: tried in this order; the first that recognises the keys is taken
DIALECTS: tuple[Dialect, ...] = (RESUNET, RESNET)


def detect(keys: Iterable[str]) -> Dialect | None:
    """The dialect in which these keys (prefixes stripped) are written, or None.

    >>> detect(["conv1.weight", "layer1.0.conv1.weight"]).name
    'resnet'
    """
    keys = list(keys)
    return next((dialect for dialect in DIALECTS if dialect.recognises(keys)), None)
