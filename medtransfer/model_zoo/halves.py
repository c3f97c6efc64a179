"""An encoder as two blocks, ``features`` and ``output``: what GluonCV's models have as attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from torch import Tensor, nn

HEAD = "head_"


class Whole(Protocol):
    """What a network must have to be seen as two halves."""

    training: bool
    stage_strides: tuple[tuple[int, ...], ...]

    def named_children(self) -> Iterable[tuple[str, nn.Module]]:
        """Its parts by name."""

    def _hold(self) -> None: ...
    def _maps(self, x: Tensor) -> list[Tensor]: ...
    def _logits(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor: ...


class Half(nn.Module):
    """A part of a network by reference, under the names that it has there; what is done to it is done to the network.

    It is made anew each time that it is asked for, and is no child of the network: state dicts stay as they are.

    Attributes:
        network: The whole.
    """

    network: Whole

    def __init__(self, network: Whole, of_head: bool) -> None:
        super().__init__()
        # not as a child, or every parameter would be here
        self.__dict__["network"] = network
        for name, child in network.named_children():
            if name.startswith(HEAD) == of_head:
                self.add_module(name, child)
        self.training = network.training

    def train(self, mode: bool = True) -> Half:
        """Switch the mode; what the network holds frozen stays so."""
        super().train(mode)
        if mode:
            self.network._hold()
        return self


class Features(Half):
    """All but the head: (N, C, D, H, W) -> the list of feature maps, from high to low resolution.

    >>> from medtransfer.model_zoo.resnet import ResNet
    >>> net = ResNet(10, 1, base_channels=4, stem_channels=4, head_type="classification", num_classes=2)
    >>> net.features.layer1 is net.layer1, len(list(net.features.parameters())), len(list(net.output.parameters()))
    (True, 36, 2)
    """

    __call__: Callable[..., list[Tensor]]

    def __init__(self, network: Whole) -> None:
        super().__init__(network, of_head=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, C, D, H, W) -> maps (N, C_i, D_i, H_i, W_i)."""
        return self.network._maps(x)


class Output(Half):
    """The head, hidden layers included: feature maps -> logits."""

    __call__: Callable[..., Tensor]

    def __init__(self, network: Whole) -> None:
        super().__init__(network, of_head=True)

    def forward(self, maps: Sequence[Tensor], size: Sequence[int] | None = None) -> Tensor:
        """Logits of the maps that ``features`` gives; of a network without a head the last map.

        Args:
            maps: From high to low resolution.
            size: Of an FCN, the size of the input; when None, that of the first map times its stride.
        """
        first = self.network.stage_strides[0]
        known = tuple(n * step for n, step in zip(maps[0].shape[2:], first, strict=True)) if size is None else size
        return self.network._logits(maps, known)
