"""Feature pyramids: maps of all resolutions with the same number of channels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ModelError


class FeaturePyramidNetwork(nn.Module):
    """Coarse maps are upsampled and added to finer ones (Lin et al., CVPR 2017), with torchvision's keys, in n-D.

    Args:
        in_channels_list: Channels of each map, high to low resolution.
        out_channels: Channels of every output.
        ndim: Spatial dimensions.
        extra_blocks: Adds coarser maps behind the last, see :data:`EXTRA_LEVELS`.

    >>> import torch
    >>> maps = OrderedDict([("0", torch.rand(1, 2, 5, 6, 7)), ("1", torch.rand(1, 4, 3, 3, 4))])
    >>> {name: tuple(x.shape) for name, x in FeaturePyramidNetwork([2, 4], 8)(maps).items()}
    {'0': (1, 8, 5, 6, 7), '1': (1, 8, 3, 3, 4)}
    """

    def __init__(
        self, in_channels_list: Sequence[int], out_channels: int, ndim: int = 3, extra_blocks: ExtraLevel | None = None
    ) -> None:
        super().__init__()
        conv = conv_type(ndim)
        inner = [nn.Sequential(conv(channels, out_channels, 1)) for channels in in_channels_list]
        layer = [nn.Sequential(conv(out_channels, out_channels, 3, padding=1)) for _ in in_channels_list]
        self.inner_blocks, self.layer_blocks = nn.ModuleList(inner), nn.ModuleList(layer)
        _initialise(self)
        self.extra_blocks = extra_blocks

    def forward(self, maps: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
        """Maps by name, high to low resolution -> as many of ``out_channels`` channels, and the extra ones."""
        lateral = [inner(x) for inner, x in zip(self.inner_blocks, maps.values(), strict=True)]
        top, merged = lateral[-1], [lateral[-1]]
        for finer in reversed(lateral[:-1]):
            top = finer + F.interpolate(top, size=finer.shape[2:], mode="nearest")
            merged.insert(0, top)
        outputs = [layer(x) for layer, x in zip(self.layer_blocks, merged, strict=True)]
        pyramid = OrderedDict(zip(maps, outputs, strict=True))
        if self.extra_blocks is not None:
            pyramid.update(self.extra_blocks(outputs[-1]))
        return pyramid


class ExtraLevel(nn.Module):
    """Coarser maps from the last one of a pyramid.

    Attributes:
        names: Of the maps that it adds, each of half the size of the one before.
    """

    names: tuple[str, ...]

    def forward(self, last: Tensor) -> dict[str, Tensor]:
        """The last map of a pyramid -> more maps by name."""
        raise NotImplementedError


class LastLevelMaxPool(ExtraLevel):
    """One more map, every second voxel of the last: Faster R-CNN's."""

    names = ("pool",)

    def __init__(self, channels: int, ndim: int = 3) -> None:
        super().__init__()
        self._pool = getattr(F, f"max_pool{ndim}d")

    def forward(self, last: Tensor) -> dict[str, Tensor]:
        """``pool``, without parameters."""
        return {"pool": self._pool(last, kernel_size=1, stride=2)}


class LastLevelP6P7(ExtraLevel):
    """Two more maps by strided convolutions ``p6`` and ``p7``: RetinaNet's (Lin et al., ICCV 2017)."""

    names = ("p6", "p7")

    def __init__(self, channels: int, ndim: int = 3) -> None:
        super().__init__()
        self.p6 = conv_type(ndim)(channels, channels, 3, stride=2, padding=1)
        self.p7 = conv_type(ndim)(channels, channels, 3, stride=2, padding=1)
        _initialise(self)

    def forward(self, last: Tensor) -> dict[str, Tensor]:
        """``p6`` and ``p7``."""
        p6 = self.p6(last)
        return {"p6": p6, "p7": self.p7(F.relu(p6))}


#: what ``extra_levels`` of a detector may be
EXTRA_LEVELS: dict[str, Any] = {"pool": LastLevelMaxPool, "p6p7": LastLevelP6P7}


def build_extra_level(name: str | None, channels: int, ndim: int) -> ExtraLevel | None:
    """The extra level of a pyramid by name.

    Raises:
        ModelError: an unknown name.
    """
    if name is None:
        return None
    if name not in EXTRA_LEVELS:
        raise ModelError(f"extra_levels must be {', '.join(map(repr, EXTRA_LEVELS))} or None, got {name!r}")
    level: ExtraLevel = EXTRA_LEVELS[name](channels, ndim)
    return level


def conv_type(ndim: int) -> Any:
    """``torch.nn.Conv2d`` or ``Conv3d``."""
    return getattr(nn, f"Conv{ndim}d")


def _initialise(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.modules.conv._ConvNd):
            nn.init.kaiming_uniform_(part.weight, a=1)
            nn.init.zeros_(part.bias)  # type: ignore[arg-type]
