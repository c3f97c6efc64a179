"""Other input channels for a pretrained convolution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..devices import at_least_float32
from ..errors import UsageError

#: new channel -> source channel by name or index, or None for a channel that starts at zero
ChannelMap = Mapping[str, "str | int | None"]


def adapt_input_conv(
    in_channels: int, weight: Tensor, mode: str = "interpolate", groups: int = 1, transposed: bool = False
) -> Tensor:
    """A convolution's weight for another number of input channels.

    With C source and C' = ``in_channels`` new channels:

    ======================== ==========================================================================================
    ``interpolate``          linear along the channels, the ptimz tutorial's function bit for bit; scales the response
                             to replicated channels by C'/C
    ``interpolate-rescaled`` the same times C/C'
    ``repeat``               channel j from source channel j mod C, times C/C'
    ``sum``                  one channel, the sum: for data replicated over C channels before
    ``mean``                 every channel the mean of the source's
    ``zero``                 the first channels as they are, new ones zero: the function is unchanged at step 0
    ``random``               the first channels as they are, new ones normal with the weight's own deviation
    ``strict``               an error if C' differs from C
    ======================== ==========================================================================================

    Args:
        in_channels: C', the channels of the new input, over all groups.
        weight: (out, C / groups, k...) of any number of dimensions >= 3; (C, out / groups, k...) if ``transposed``.
        mode: One of the table.
        groups: Groups of the convolution, before and after.
        transposed: Whether it is a transposed convolution.

    Returns:
        A new tensor of the same dtype; ``weight`` is not changed.

    Raises:
        UsageError: the mode is unknown or does not apply.

    >>> adapt_input_conv(4, torch.tensor([[[0.0], [1.0]]]))[0, :, 0]
    tensor([0.0000, 0.2500, 0.7500, 1.0000])
    """
    if mode not in _MODES:
        raise UsageError(f"input_channels must be one of {', '.join(_MODES)} or a map, got {mode!r}")
    if in_channels < 1 or in_channels % groups:
        raise UsageError(f"in_channels must be a positive multiple of the {groups} groups, got {in_channels}")
    if weight.ndim < 3:
        raise UsageError(f"a convolution's weight has at least 3 dimensions, got shape {tuple(weight.shape)}")
    if transposed:
        # each group owns a run of rows; seen as (group, rows, ...) the rows are the channels
        rows = weight.unflatten(0, (groups, -1)).transpose(0, 1).unsqueeze(0)
        return _MODES[mode](in_channels // groups, rows)[0].transpose(0, 1).flatten(0, 1).contiguous()
    return _MODES[mode](in_channels // groups, weight).contiguous()


def map_input_conv(weight: Tensor, channels: ChannelMap, source_names: Sequence[str] | None = None) -> Tensor:
    """A convolution's weight with its input channels chosen by name.

    Args:
        weight: (out, C, k...).
        channels: One entry a new channel, in the new order: the source channel's name or index, None for zeros.
        source_names: Names of the C source channels, where the source has them.

    Raises:
        UsageError: a source channel is unknown.

    >>> map_input_conv(torch.tensor([[[5.0], [7.0]]]), {"flair": 1, "adc": None})[0, :, 0]
    tensor([7., 0.])
    """
    new = weight.new_zeros(weight.shape[0], len(channels), *weight.shape[2:])
    for position, source in enumerate(channels.values()):
        if source is not None:
            new[:, position] = weight[:, _channel_index(source, weight.shape[1], source_names)]
    return new


def _channel_index(source: str | int, count: int, names: Sequence[str] | None) -> int:
    known = list(names or [])
    if source in known:
        return known.index(source)
    if isinstance(source, int) and 0 <= source < count:
        return source
    said = f"the source's channels are {', '.join(known)}" if known else f"the source has {count} channels, unnamed"
    raise UsageError(f"input_channels names the source channel {source!r}; {said}", hint="Use a name or an index")


def _interpolate(channels: int, weight: Tensor) -> Tensor:
    # interpolation runs over the last axis in float32, since half precision has no kernel for it
    moved = weight.float().movedim(1, -1)
    flat = F.interpolate(moved.reshape(-1, 1, weight.shape[1]), channels, mode="linear")
    return flat.reshape(*moved.shape[:-1], channels).movedim(-1, 1).to(weight.dtype)


def _interpolate_rescaled(channels: int, weight: Tensor) -> Tensor:
    scaled = _interpolate(channels, weight.float()) * (weight.shape[1] / channels)
    return scaled.to(weight.dtype)


def _repeat(channels: int, weight: Tensor) -> Tensor:
    index = torch.arange(channels, device=weight.device) % weight.shape[1]
    return (at_least_float32(weight)[:, index] * (weight.shape[1] / channels)).to(weight.dtype)


def _sum(channels: int, weight: Tensor) -> Tensor:
    if channels != 1:
        raise UsageError(f"input_channels='sum' gives one channel, the target has {channels}", hint="Use 'repeat'")
    return at_least_float32(weight).sum(dim=1, keepdim=True).to(weight.dtype)


def _mean(channels: int, weight: Tensor) -> Tensor:
    mean = at_least_float32(weight).mean(dim=1, keepdim=True).to(weight.dtype)
    return mean.expand(-1, channels, *weight.shape[2:])


def _zero(channels: int, weight: Tensor) -> Tensor:
    new = weight.new_zeros(weight.shape[0], channels, *weight.shape[2:])
    kept = min(channels, weight.shape[1])
    new[:, :kept] = weight[:, :kept]
    return new


def _random(channels: int, weight: Tensor) -> Tensor:
    new = _zero(channels, weight)
    fresh = new[:, weight.shape[1] :]
    fresh.copy_(torch.randn(fresh.shape, device=weight.device) * weight.float().std(correction=0))
    return new


def _strict(channels: int, weight: Tensor) -> Tensor:
    if channels != weight.shape[1]:
        raise UsageError(
            f"input_channels='strict', but the source has {weight.shape[1]} channels, the target {channels}"
        )
    return weight.clone()


_MODES: dict[str, Callable[[int, Tensor], Tensor]] = {
    "interpolate": _interpolate,
    "interpolate-rescaled": _interpolate_rescaled,
    "repeat": _repeat,
    "sum": _sum,
    "mean": _mean,
    "zero": _zero,
    "random": _random,
    "strict": _strict,
}
INPUT_MODES = tuple(_MODES)
