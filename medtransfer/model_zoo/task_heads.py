"""The heads of a multi-task network: what stands on an encoder's feature maps for each of its tasks."""

from __future__ import annotations

import inspect
import keyword
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from .decoder import Decoder, Decoding
from .encoder import Encoder
from .layer_configs import Config
from .layers import Layers

#: task of a head -> the argument that says how many outputs it has
OUTPUTS = {"segmentation": "num_classes", "classification": "num_classes", "regression": "num_outputs"}


class SegmentationHead(Decoder):
    """The decoder of a UNet on feature maps that come from elsewhere.

    Args:
        encoder: Whose maps it will be given; no part of it is kept.
        num_classes: Channels of the logits.
        **arguments: Of :class:`~medtransfer.model_zoo.unet.UNet`, by default those that fit the encoder.

    Raises:
        ModelError: an argument is none of a decoder's.
    """

    def __init__(
        self,
        encoder: Encoder,
        num_classes: int,
        conv_cfg: Config | None = None,
        norm_cfg: Config | None = None,
        act_cfg: Config | None = None,
        aux_train: bool = False,
        full_resolution_skip: int = 0,
        zero_init_residual: bool = True,
        decoder_block: str = "bottleneck",
        decoder_convs: int | Sequence[int] = 2,
        decoder_kernel_sizes: Any = 3,
        decoder_bias: bool = True,
        **decoding: Any,
    ) -> None:
        super().__init__()
        layers = Layers(conv_cfg, norm_cfg, act_cfg)
        build = Decoding(decoder_block, convs=decoder_convs, kernel_sizes=decoder_kernel_sizes, bias=decoder_bias,
                         **decoding)  # fmt: skip
        self.add_levels(layers, encoder.stage_channels, encoder.stage_strides, num_classes, build, aux_train,
                        full_resolution_skip, encoder.in_channels, zero_init_residual)  # fmt: skip

    def forward(self, x: Tensor, maps: Sequence[Tensor]) -> Tensor | list[Tensor]:
        """The input and the encoder's maps of it -> logits (N, K, D, H, W); see :meth:`Decoder.decode`."""
        return self.decode(x, maps)


class PooledHead(nn.Module):
    """A linear layer ``head_fc`` on the mean of the last map over all positions."""

    def __init__(self, encoder: Encoder, outputs: int, dropout_rate: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout_rate)
        self.head_fc = nn.Linear(encoder.stage_channels[-1], outputs)

    @abstractmethod
    def forward(self, x: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """The input and the encoder's maps of it -> (N, outputs)."""

    def _linear(self, last: Tensor) -> Tensor:
        return self.head_fc(self.dropout(last.mean(dim=tuple(range(2, last.ndim)))))


class ClassificationHead(PooledHead):
    """Logits of classes.

    Args:
        encoder: Whose maps it will be given.
        num_classes: Number of logits.
        dropout_rate: Share of features dropped in training.
    """

    def __init__(self, encoder: Encoder, num_classes: int, dropout_rate: float = 0.0) -> None:
        super().__init__(encoder, num_classes, dropout_rate)

    def forward(self, x: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """The input and the encoder's maps of it -> logits (N, num_classes)."""
        return self._linear(maps[-1])


class RegressionHead(PooledHead):
    """Values in their own units: the linear layer gives them in standard deviations from a mean.

    Args:
        encoder: Whose maps it will be given.
        num_outputs: Number of values.
        dropout_rate: Share of features dropped in training.
        mean, std: Of the training cases, a number a value; 0 and 1 when None.

    Attributes:
        mean, std: Buffers (num_outputs,), which are kept with the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: Encoder,
        num_outputs: int = 1,
        dropout_rate: float = 0.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__(encoder, num_outputs, dropout_rate)
        self.register_buffer("mean", torch.zeros(num_outputs))
        self.register_buffer("std", torch.ones(num_outputs))
        if mean is not None or std is not None:
            self.set_scale([0.0] * num_outputs if mean is None else mean, [1.0] * num_outputs if std is None else std)

    def forward(self, x: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """The input and the encoder's maps of it -> values (N, num_outputs)."""
        return self._linear(maps[-1]) * self.std + self.mean

    def standardised(self, values: Tensor) -> Tensor:
        """Values (N, num_outputs) in standard deviations from the mean, as losses compare them."""
        return (values - self.mean) / self.std

    def set_scale(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take over the mean and the standard deviation of the training cases.

        Raises:
            ModelError: not as many numbers as outputs, or a deviation that is not above 0.
        """
        if not len(mean) == len(std) == len(self.mean) or not all(deviation > 0 for deviation in std):
            reason = f"a regression of {len(self.mean)} outputs needs as many means and deviations above 0"
            raise ModelError(f"{reason}, got {list(mean)} and {list(std)}")
        self.mean.copy_(torch.as_tensor(mean))
        self.std.copy_(torch.as_tensor(std))


#: words that stand for parts of every network
RESERVED = ("encoder", "decoder", "head", "stem")

HEADS: dict[str, type[nn.Module]] = {
    "segmentation": SegmentationHead,
    "classification": ClassificationHead,
    "regression": RegressionHead,
}
#: what a decoder does not take over from its encoder: the encoder itself has it
_OF_ENCODER = ("norm_eval", "frozen_stages")


def head_words(task: str) -> list[str]:
    """The arguments of a head of this task.

    >>> head_words("regression")
    ['num_outputs', 'dropout_rate', 'mean', 'std']
    """
    own = [word for word in inspect.signature(HEADS[task]).parameters if word not in ("encoder", "decoding")]
    return own + (["upsample_type", "up_channels", "dropout_rate", "with_cp"] if task == "segmentation" else [])


def build_head(encoder: Encoder, given: Config) -> nn.Module:
    """The head that is described, for an encoder whose kind of layers a decoder takes over."""
    arguments = {key: value for key, value in given.items() if key != "task"}
    if given["task"] == "segmentation":
        inherited = {k: v for k, v in encoder.decoder_arguments.items() if k not in _OF_ENCODER}
        arguments = {**inherited, **arguments}
    return HEADS[given["task"]](encoder, **arguments)


def checked_heads(heads: Mapping[str, Config], decoder: Config | None = None) -> dict[str, Config]:
    """The descriptions of heads, if nothing is wrong with them.

    Args:
        heads: Name -> description.
        decoder: What segmentations have that do not say otherwise.

    Raises:
        ModelError: there is none, or a name, a task or an argument that no head has.
    """
    if not isinstance(heads, Mapping) or not heads:
        example = "heads={'ill': dict(task='classification', num_classes=2)}"
        raise ModelError("a multi-task network needs heads", hint=f"For example {example}")
    # files are named after heads, and some systems do not tell capitals apart
    small = [str(name).lower() for name in heads]
    if len(set(small)) < len(small):
        raise ModelError(f"the names of heads must differ by more than capitals, got {', '.join(map(str, heads))}")
    return {name: _checked(name, given, decoder or {}) for name, given in heads.items()}


def _checked(name: str, given: Config, decoder: Config) -> Config:
    if not is_head_name(name):
        raise ModelError(f"a head's name must be a plain word of its own such as 'organs', got {name!r}")
    task = given.get("task") if isinstance(given, Mapping) else None
    if task not in HEADS:
        got = repr(task) if isinstance(given, Mapping) else repr(given)
        raise ModelError(f"the head {name!r} needs dict(task=...) of {', '.join(HEADS)}, got {got}")
    full = {**(decoder if task == "segmentation" else {}), **given}
    unknown = [word for word in full if word not in ("task", *head_words(task))]
    if unknown:
        hint = f"A {task} takes {', '.join(head_words(task))}"
        raise ModelError(f"the head {name!r} has no argument {unknown[0]!r}", hint=hint)
    _check_outputs(name, task, full)
    return full


def is_head_name(name: object) -> bool:
    """Whether a head may be called so: an identifier that is no word of modules themselves.

    >>> [is_head_name(name) for name in ("organs", "left lung", "a.b", "keys")]
    [True, False, False, False]
    """
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        return False
    return name.isascii() and len(name) <= 64 and name not in RESERVED and not hasattr(nn.ModuleDict(), name)


def _check_outputs(name: str, task: str, given: Config) -> None:
    word = OUTPUTS[task]
    outputs = given.get(word, 1 if task == "regression" else None)
    if not isinstance(outputs, int) or outputs < 1:
        raise ModelError(f"the head {name!r} needs {word}, a whole number above 0, got {outputs!r}")
