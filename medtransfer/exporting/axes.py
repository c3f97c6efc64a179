"""The sizes of input that an exported network takes: which axes are open, and at which sizes it is checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.export import Dim

from ..errors import UsageError

NAMES = ("depth", "height", "width")
#: Positions that an open axis has at the lowest resolution: torch takes an axis of one for a size that never changes,
#: and norms over the input need more than one.
LEAST = 2
#: Stride of a network that does not say its own.
UNSAID = 32


@dataclass(frozen=True)
class Axes:
    """What may be fed to an exported network.

    Attributes:
        channels: Of the input.
        strides: Total stride along each spatial axis; an open axis takes multiples of it, from two on.
        spatial_size: Voxels, where the spatial axes are fixed.
        batch_size: Where the batch is.
    """

    channels: int
    strides: tuple[int, ...]
    spatial_size: tuple[int, ...] | None = None
    batch_size: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the spatial axes."""
        return NAMES[-len(self.strides) :]

    def traced(self) -> tuple[int, ...]:
        """The shape that the network is exported with.

        >>> Axes(1, (32, 32, 32)).traced(), Axes(1, (8, 8, 8), (24, 16, 16), 1).traced()
        ((2, 1, 64, 64, 64), (1, 1, 24, 16, 16))
        """
        return self._shape(LEAST, [LEAST] * len(self.strides))

    def checked(self) -> list[tuple[int, ...]]:
        """The shapes at which the file is compared: the traced one, and one that is longer along each axis.

        >>> Axes(1, (4, 8, 8)).checked()
        [(2, 1, 8, 16, 16), (1, 1, 12, 32, 24)]
        """
        longer = [LEAST + 1, LEAST + 2, LEAST + 1][: len(self.strides)]
        return list(dict.fromkeys([self.traced(), self._shape(1, longer)]))

    def thin(self) -> list[tuple[int, ...]]:
        """A shape with one position at the lowest resolution along an axis, which TorchScript takes too.

        >>> Axes(1, (4, 8, 8)).thin()
        [(1, 1, 4, 16, 16)]
        """
        return [] if self.spatial_size else [self._shape(1, [1, LEAST, LEAST][: len(self.strides)])]

    def open(self) -> dict[int, Any]:
        """The open axes by number, as :func:`torch.export.export` takes them."""
        batch = {} if self.batch_size else {0: Dim("batch", min=1)}
        return batch | ({} if self.spatial_size else {2 + at: self._dim(at) for at in range(len(self.strides))})

    def described(self) -> dict[str, str]:
        """Which sizes each axis takes, in words.

        >>> Axes(1, (1, 8), batch_size=1).described()
        {'batch': '1', 'height': 'at least 2', 'width': 'multiples of 8, at least 16'}
        """
        sizes = self.spatial_size or [self._words(stride) for stride in self.strides]
        batch = str(self.batch_size) if self.batch_size else "any"
        return {"batch": batch, **{name: str(size) for name, size in zip(self.names, sizes, strict=True)}}

    def dynamic(self) -> list[str]:
        """The names of the open axes."""
        return [*([] if self.batch_size else ["batch"]), *([] if self.spatial_size else self.names)]

    def _dim(self, at: int) -> Any:
        step = Dim(f"{self.names[at]}_steps", min=LEAST)
        return step if self.strides[at] == 1 else self.strides[at] * step

    def _words(self, stride: int) -> str:
        return f"at least {LEAST}" if stride == 1 else f"multiples of {stride}, at least {LEAST * stride}"

    def _shape(self, batch: int, positions: Sequence[int]) -> tuple[int, ...]:
        open_size = [stride * count for stride, count in zip(self.strides, positions, strict=True)]
        return (self.batch_size or batch, self.channels, *(self.spatial_size or open_size))


def axes_of(network: nn.Module, spatial_size: Sequence[int] | int | None, batch_size: int | None) -> Axes:
    """The axes of a network, of which some may be fixed.

    Args:
        network: Has ``in_channels``; may have ``ndim`` (3) and ``output_stride`` (32).
        spatial_size: Voxels of the fixed spatial axes, one number for all or one an axis; None leaves them open.
        batch_size: None leaves it open.

    Raises:
        UsageError: a size that is no positive number, or sizes of another number of axes.
    """
    ndim = int(getattr(network, "ndim", 3))
    stride: Any = getattr(network, "output_stride", None) or UNSAID
    strides = (stride,) * ndim if isinstance(stride, int) else tuple(map(int, stride))
    given = (spatial_size,) * ndim if isinstance(spatial_size, int) else spatial_size
    sizes = None if given is None else tuple(given)
    if sizes is not None and (len(sizes) != ndim or not all(isinstance(n, int) and n > 0 for n in sizes)):
        raise UsageError(f"spatial_size must be {ndim} numbers of voxels above 0, got {spatial_size}")
    if batch_size is not None and not (isinstance(batch_size, int) and batch_size > 0):
        raise UsageError(f"batch_size must be a whole number above 0, got {batch_size!r}")
    return Axes(int(network.in_channels), strides, sizes, batch_size)  # type: ignore[arg-type]
