"""The contract of a dialect, and the names that all of them are turned into."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

#: where a tensor of the zoo belongs
ENCODER = re.compile(r"(stem|conv1|[a-z]+1|act|maxpool|layer\d|encoder_\d+)\.")
DECODER = re.compile(r"(decoder_\d+|input_skip|input_decoder)\.")
HEAD = re.compile(r"(head_fc|final_layer|aux_layers)\.")

#: convolutions that see the input's channels
INPUT_CONVS = ("conv1.weight", "stem.0.conv.weight", "input_skip.conv.weight")

#: wrappers that training code puts in front of the keys; only whole leading components are stripped
PREFIXES = ("module", "_orig_mod", "backbone", "encoder", "model", "network")


@dataclass(frozen=True)
class Dialect:
    """One way of naming tensors.

    Attributes:
        name: As the report and ``inspect`` call it.
        recognises: Whether keys are written in this dialect.
        rename: Keys -> the zoo's names, for the keys that change.
    """

    name: str
    recognises: Callable[[list[str]], bool]
    rename: Callable[[list[str]], Mapping[str, str]]


def part_of(name: str) -> str:
    """``encoder``, ``decoder`` or ``head`` by the zoo's name of a tensor, ``other`` for a name that is not the zoo's.

    >>> part_of("layer1.0.conv1.weight"), part_of("decoder_0.up.weight"), part_of("head_fc.bias")
    ('encoder', 'decoder', 'head')
    """
    if HEAD.match(name):
        return "head"
    if ENCODER.match(name):
        return "encoder"
    return "decoder" if DECODER.match(name) else "other"


def strip_prefixes(keys: Iterable[str]) -> dict[str, str]:
    """Keys -> keys without wrapper prefixes, each stripped as often as it leads.

    >>> strip_prefixes(["module.backbone.conv1.weight"])
    {'module.backbone.conv1.weight': 'conv1.weight'}
    """
    pattern = re.compile(rf"(?:(?:{'|'.join(PREFIXES)})\.)+")
    return {key: pattern.sub("", key, count=1) if pattern.match(key) else key for key in keys}
