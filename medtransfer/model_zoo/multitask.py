"""One encoder with several heads: segmentations, classifications and regressions of the same scan."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..errors import ModelError
from .encoder import HEAD_ARGUMENTS, Encoder, without_head
from .layer_configs import Config
from .layers import as_plain, hold_statistics
from .task_heads import build_head, checked_heads


class MultiTask(nn.Module):
    """An encoder of the zoo, by reference, and any set of named heads on its feature maps.

    Tensors are (N, C, D, H, W), or (N, C, H, W) around an encoder of ``conv_cfg=dict(type="Conv2d")``.

    Args:
        encoder: An encoder of the zoo. Of one with a head the stages are taken, and not the head.
        heads: Name -> ``dict(task=..., ...)``. A ``"segmentation"`` has ``num_classes``, the background included, and
            any argument of a decoder, see :class:`~medtransfer.model_zoo.unet.UNet`; a ``"classification"`` has
            ``num_classes``, a ``"regression"`` ``num_outputs`` (1) with ``mean`` and ``std``, and both may have a
            ``dropout_rate``.
        decoder: Arguments of the decoders of all segmentations, where a head does not have its own.

    Attributes:
        encoder: Without a head; ``heads``: name -> module, called with the input and the encoder's maps.
        in_channels, ndim, output_stride: Those of the encoder.
        num_classes: The number of heads; what they give is said by ``head_arguments``.

    Raises:
        ModelError: the encoder is none of the zoo, or a head is not described as above.

    >>> import torch
    >>> from medtransfer.model_zoo import ResNet
    >>> encoder = ResNet(10, in_channels=1, base_channels=4, stem_channels=4)
    >>> heads = {"organs": dict(task="segmentation", num_classes=3), "age": dict(task="regression")}
    >>> net = MultiTask(encoder, heads).eval()
    >>> {name: tuple(found.shape) for name, found in net(torch.rand(2, 1, 16, 16, 16)).items()}
    {'organs': (2, 3, 16, 16, 16), 'age': (2, 1)}
    >>> net.encoder is encoder
    True
    """

    task = "multitask"

    def __init__(self, encoder: Encoder, heads: Mapping[str, Config], decoder: Config | None = None) -> None:
        super().__init__()
        if not isinstance(encoder, Encoder):
            raise ModelError(f"MultiTask needs an encoder of the zoo, got {type(encoder).__name__}",
                             hint="Use medtransfer.to_multitask for a segmenter")  # fmt: skip
        self.encoder = without_head(encoder)
        self.in_channels, self.ndim, self.output_stride = encoder.in_channels, encoder.ndim, encoder.output_stride
        heads = checked_heads(heads, decoder or {})
        self.head_arguments = {name: _recorded(given) for name, given in heads.items()}
        self.heads = nn.ModuleDict({name: build_head(self.encoder, given) for name, given in heads.items()})
        self.num_classes = len(self.heads)
        self._hold()

    @property
    def architecture(self) -> dict[str, Any]:
        """Name and arguments with which ``create_model`` builds this network again."""
        own = self.encoder.architecture
        encoder = {name: value for name, value in own["arguments"].items() if name not in HEAD_ARGUMENTS}
        return {
            "name": f"multitask_{own['name']}",
            "arguments": {**encoder, "heads": copy.deepcopy(self.head_arguments)},
        }

    @property
    def frozen_stages(self) -> int:
        """The encoder's: -1 freezes nothing."""
        return self.encoder.frozen_stages

    def head_task(self, name: str) -> str:
        """``segmentation``, ``classification`` or ``regression``."""
        return str(self.head_arguments[name]["task"])

    def stages(self) -> list[nn.Module]:
        """The encoder modules, by reference."""
        return self.encoder.stages()

    def features(self, x: Tensor) -> list[Tensor]:
        """The encoder's feature maps from high to low resolution."""
        return self.encoder.features(x)

    def forward(self, x: Tensor) -> dict[str, Any]:
        """(N, C, D, H, W) -> name -> logits (N, K, D, H, W) or (N, K) of a head, or values (N, Q) in their own units.

        A segmentation with ``aux_train`` gives a list of logits in training.
        """
        maps = self.encoder.features(x)
        return {name: head(x, maps) for name, head in self.heads.items()}

    def train(self, mode: bool = True) -> MultiTask:
        """Switch the mode; frozen stages and held statistics stay as they are."""
        super().train(mode)
        if mode:
            self._hold()
        return self

    def _hold(self) -> None:
        if self.encoder.norm_eval:
            hold_statistics(self)


def _recorded(given: Config) -> Config:
    # the scale of a regression stands in the weights
    return {word: as_plain(value) for word, value in given.items() if word not in ("mean", "std")}
