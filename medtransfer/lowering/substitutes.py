"""Steps for which torch has a slow way, done by another: interpolation, and instance norm in short numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ..model_zoo.layers import to_size
from .layers import own_modules

_LONGEST = 512  # voxels of an axis up to which products with its matrix are quicker than torch's loop


def substitute(graph: fx.GraphModule, dtype: torch.dtype) -> None:
    """Put the quicker ways in place, in place.

    Args:
        graph: Of a lowered network.
        dtype: Its numbers; in float32 an instance norm stays torch's, which is the more exact.
    """
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.target is to_size:
            node.target = interpolated
    norms = {node: module for node, module in own_modules(graph).items() if _is_per_channel(module)}
    for node, norm in norms.items() if dtype != torch.float32 else ():
        graph.add_submodule(str(node.target), ChannelNorm(norm))  # type: ignore[arg-type]
    graph.recompile()


def interpolated(x: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """What :func:`~medtransfer.model_zoo.layers.to_size` gives; linear in 3-D as a product of matrices, axis by axis.

    >>> x = torch.rand(1, 2, 3, 4, 5)
    >>> torch.allclose(interpolated(x, (6, 8, 7), "trilinear"), to_size(x, (6, 8, 7), "trilinear"), atol=1e-6)
    True
    """
    plain = mode != "trilinear" or x.device.type != "cpu" or x.dtype != torch.float32 or max(size) > _LONGEST
    if plain or tuple(x.shape[2:]) == tuple(size):
        return to_size(x, size, mode)
    count, channels, depth, height, width = x.shape
    with torch.autocast("cpu", enabled=False):
        first, second, third = (_weights(*pair) for pair in zip((depth, height, width), size, strict=True))
        x = torch.matmul(first.T, x.reshape(count * channels, depth, height * width))
        x = torch.matmul(second.T, x.reshape(-1, height, width))
        return torch.matmul(x.reshape(-1, width), third).reshape(count, channels, *size)


def _weights(have: int, want: int) -> Tensor:
    """(have, want): what each voxel counts in each of the interpolated ones, by torch's own rule."""
    return F.interpolate(torch.eye(have)[None], size=want, mode="linear", align_corners=False)[0]


class ChannelNorm(nn.Module):
    """An instance norm as a group norm of single channels: torch computes that without changing the layout.

    Args:
        norm: Without running statistics; it is not changed.

    >>> norm, x = nn.InstanceNorm3d(2), torch.randn(1, 2, 4, 4, 4)
    >>> torch.allclose(ChannelNorm(norm)(x), norm(x), atol=1e-4)
    True
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, norm: nn.InstanceNorm3d) -> None:
        super().__init__()
        self.eps, self.num_features = norm.eps, norm.num_features
        for name in ("weight", "bias"):
            tensor = getattr(norm, name)
            self.register_buffer(name, None if tensor is None else tensor.detach().float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, D, H, W) -> the same."""
        with torch.autocast(x.device.type, enabled=False):
            return F.group_norm(x, x.shape[1], self.weight, self.bias, self.eps)


def _is_per_channel(module: nn.Module) -> bool:
    return type(module) is nn.InstanceNorm3d and module.running_mean is None
