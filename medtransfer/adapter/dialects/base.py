"""The contract of a dialect, and the names that all of them are turned into."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor

#: where a tensor of the zoo belongs
ENCODER = re.compile(r"(stem|conv1|[a-z]+1|act|maxpool|layer\d|stage\d+|encoder_\d+)\.")
DECODER = re.compile(
    r"(?:heads\.\w+\.)?(decoder_\d+|input_skip|input_decoder)\.|(fpn|rpn|roi_heads|head\.(classification|regression)_head)\."
)
HEAD = re.compile(
    r"(?:heads\.\w+\.)?(head_(fc|hidden|conv|skips)|final_layer|aux_layers)\.|heads\.\w+\.(mean|std)$"
    r"|roi_heads\.box_predictor\.|head\.classification_head\.cls_logits\."
)

_OF_A_HEAD = re.compile(r"heads\.\w+\.")

#: convolutions that see the input's channels
INPUT_CONVS = ("conv1.weight", "stem.0.conv.weight", "stage0.0.conv.weight", "input_skip.conv.weight")

#: wrappers that training code puts in front of the keys; only whole leading components are stripped
PREFIXES = ("module", "_orig_mod", "backbone", "encoder", "model", "network", "net")
_WRAPPED = re.compile(rf"(?:(?:{'|'.join(PREFIXES)})\.)*")


@dataclass(frozen=True)
class Written:
    """Weights as a source wrote them: what a dialect is recognised by.

    Attributes:
        tensors: The source's keys, wrapper prefixes stripped, -> tensors.
        own_keys: Stripped key -> the source's own key.
        metadata: The plain rest of the file, such as nnU-Net's ``init_args``.
        wrapper: The key of the file under which the tensors stood, or None.
    """

    tensors: Mapping[str, Tensor]
    own_keys: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    wrapper: str | None = None

    def shape(self, key: str) -> tuple[int, ...] | None:
        """The shape of a tensor, None if there is none of that key."""
        return tuple(self.tensors[key].shape) if key in self.tensors else None

    def has(self, pattern: str) -> bool:
        """Whether a key matches the pattern from its start."""
        return re.search(f"(?m)^(?:{pattern})", self._lines) is not None

    @cached_property
    def _lines(self) -> str:
        # one search over all keys at once: tables of dialects ask many questions of networks with a thousand keys
        return "\n".join(self.tensors)


@dataclass(frozen=True)
class Home:
    """The network of the zoo in which a source's weights compute what they computed there.

    Attributes:
        name: The name for ``create_model``.
        arguments: Its arguments, ``in_channels`` and ``num_classes`` included.
        note: What the source's code does that the tensors cannot tell, such as MedicalNet's dilations.
        complete: The network was built so, and not told from its tensors: other arguments have their defaults.
    """

    name: str
    arguments: dict[str, Any]
    note: str = ""
    complete: bool = False


def sees_input(name: str) -> bool:
    """Whether a tensor of this name of the zoo is a convolution that sees the input's channels.

    >>> sees_input("conv1.weight"), sees_input("heads.organs.input_skip.conv.weight"), sees_input("layer1.0.conv1.bias")
    (True, True, False)
    """
    return _OF_A_HEAD.sub("", name) in INPUT_CONVS


class Dialect:
    """One way of naming tensors; a subclass a source format.

    All methods but :meth:`recognises` have a default: nothing to rename, nothing to change, no known home, no card.
    """

    #: as the report, ``inspect`` and the option that forces it call it
    name: ClassVar[str]
    #: one line for people
    title: ClassVar[str]

    def recognises(self, written: Written) -> bool:
        """Whether these weights are written in this dialect."""
        raise NotImplementedError

    def can_read(self, written: Written) -> bool:
        """Whether they make sense in it when it is asked for by name; wider than ``recognises`` for shared keys."""
        return self.recognises(written)

    def rename(self, written: Written) -> Mapping[str, str | None]:
        """Stripped key -> the zoo's name, for the keys that change; None for a tensor that the network never reads."""
        return {}

    def convert(self, tensors: dict[str, Tensor]) -> dict[str, tuple[Tensor | None, str]]:
        """Tensors (by the zoo's names) whose values must change to mean the same here.

        Returns:
            The zoo's name -> (new value, what was done); a None for a tensor that has become part of another.
        """
        return {}

    def home(self, tensors: Mapping[str, Tensor], written: Written) -> Home | None:
        """The network of the zoo that these weights (by the zoo's names) belong to, as far as it can be told."""
        return None

    def card(self, written: Written) -> dict[str, Any]:
        """What the file says of its data: fields of a model card (input_channels, classes, spacing, ...)."""
        return {}


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


def fcn_arguments(tensors: Mapping[str, Tensor], stride: int) -> dict[str, Any]:
    """Arguments of an FCN's head by tensors under the zoo's names; none where the head is another.

    Args:
        tensors: All of the network.
        stride: Of the last scores. Each skip is taken to halve it, as strides that no tensor tells do by default.

    >>> import torch
    >>> fcn_arguments({"head_conv.bias": torch.ones(2), "head_skips.0.bias": torch.ones(2)}, stride=32)
    {'head_type': 'fcn', 'fcn_stride': 16}
    """
    if not any(name.startswith("head_conv.") for name in tensors):
        return {}
    skips = {name.split(".")[1] for name in tensors if name.startswith("head_skips.")}
    return {"head_type": "fcn", **({"fcn_stride": stride >> len(skips)} if skips else {})}


def one_or_each(sizes: Sequence[int]) -> int | list[int]:
    """Sizes along the axes as arguments of the zoo have them: one number where all are equal.

    >>> one_or_each((3, 3, 3)), one_or_each((1, 3, 3))
    (3, [1, 3, 3])
    """
    return sizes[0] if len(set(sizes)) == 1 else list(sizes)


def strip_prefixes(keys: Iterable[str]) -> dict[str, str]:
    """Keys -> keys without wrapper prefixes, each stripped as often as it leads.

    >>> strip_prefixes(["module.backbone.conv1.weight"])
    {'module.backbone.conv1.weight': 'conv1.weight'}
    """
    return {key: key[_WRAPPED.match(key).end() :] for key in keys}  # type: ignore[union-attr]


#: (pattern, replacement), of which the first that matches a key's start is taken
Rules = tuple[tuple[re.Pattern[str], str], ...]


def rename_rules(*rules: tuple[str, str]) -> Rules:
    """Rules for :func:`renamed_by`, of patterns and replacements as ``re.sub`` takes them."""
    return tuple((re.compile(pattern), name) for pattern, name in rules)


def renamed_by(rules: Rules, key: str) -> str:
    r"""A key after the first of the rules that matches its start; as it is if none does.

    >>> renamed_by(rename_rules((r"fc\.", "head_fc."), (r"f", "g")), "fc.weight")
    'head_fc.weight'
    """
    for pattern, name in rules:
        if pattern.match(key):
            return pattern.sub(name, key, count=1)
    return key
